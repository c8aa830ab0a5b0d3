"""Files here or in an object store, by one address: `folder`, `s3://bucket/folder`, `gs://`, `file://`."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pyarrow import ArrowException, NativeFile, fs

from spectraderm.core import artifacts
from spectraderm.core import files as writing
from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.core.reading import read_regular
from spectraderm.images.preprocessing import MAX_BYTES

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(address: str) -> bool:
    """It names a file system, too, and is no path on this machine."""
    return bool(_URL.match(address))


def without_secrets(address: str) -> str:
    """An address as it may be written down: without user and password; a path as it stands on this machine."""
    if not is_url(address):
        return os.path.abspath(address)  # noqa: PTH100  # `resolve` would follow links
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(frozen=True)
class Place:
    """A file or folder: a path in one of pyarrow's file systems."""

    filesystem: fs.FileSystem
    path: str

    @classmethod
    def of(cls, address: str) -> "Place":
        """Where an address leads. Raises `SpectraDermError` for a kind of address that is not known."""
        if not is_url(address):
            return cls(fs.LocalFileSystem(), os.path.abspath(address))  # noqa: PTH100
        try:
            return cls(*fs.FileSystem.from_uri(address))
        except (ArrowException, OSError, ValueError) as error:
            shown = without_secrets(address)
            raise SpectraDermError(
                f"{shown} is no address that can be read ({_line(error).replace(address, shown)})",
                "Use s3://, gs:// or file://",
            ) from error

    def below(self, name: str) -> "Place":
        """A file or folder in this folder."""
        return self.at(f"{self.path.rstrip('/')}/{name}")

    def at(self, path: str) -> "Place":
        """Another path in the same file system."""
        return Place(self.filesystem, path)

    @property
    def folder(self) -> str:
        """The path of the folder that it lies in."""
        return self.path.rpartition("/")[0]

    @property
    def local(self) -> Path | None:
        """The path on this machine, or None."""
        return Path(self.path) if isinstance(self.filesystem, fs.LocalFileSystem) else None

    def kind(self) -> str:
        """`file`, `folder` or nothing. Raises `SpectraDermError` where it can't be asked."""
        try:
            found = self.filesystem.get_file_info(self.path).type
        except (ArrowException, OSError) as error:
            raise self._unread(error) from error
        return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(found, "")

    def entries(self) -> Iterator[tuple[str, bool]]:
        """Of a folder the paths right below it, sorted, and which are folders. None where it is not there."""
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        except (ArrowException, OSError) as error:
            raise self._unread(error) from error
        for entry in sorted(found, key=lambda one: str(one.path)):
            yield entry.path, entry.type == fs.FileType.Directory

    def open(self) -> NativeFile:
        """The file, to read anywhere in it. Raises `SpectraDermError`."""
        try:
            return self.filesystem.open_input_file(self.path)
        except (ArrowException, OSError) as error:
            raise self._unread(error) from error

    def read(self, most: int = MAX_BYTES) -> bytes:
        """All bytes of the file. Raises `UnreadablePhoto` where it can't be read or has more than `most`."""
        try:
            if self.local:
                return read_regular(self.local, most)
            with self.filesystem.open_input_file(self.path) as file:
                if file.size() > most:
                    raise OSError(None, f"more than {most / 1e6:g} MB")
                data: bytes = file.read()
        except (ArrowException, OSError, ValueError) as error:
            raise UnreadablePhoto(f"{self.path}: {_line(error)}", "Check the path") from error
        return data

    def write(self, data: bytes) -> None:
        """Write the file, so that nobody ever sees a part of it. Raises `SpectraDermError`."""
        if self.local:
            artifacts.write_bytes(self.local, data)
            return
        try:
            with self.filesystem.open_output_stream(self.path) as file:  # object stores show it when it is closed
                file.write(data)
        except (ArrowException, OSError) as error:
            raise SpectraDermError(
                f"{self.path} can't be written ({_line(error)})", "Mend that, then run the same command again"
            ) from error

    @contextmanager
    def written_whole(self) -> Iterator[Any]:
        """A stream for what is too large to be held; the file is there when all is written, and not before."""
        if not self.local:
            with self.filesystem.open_output_stream(self.path) as file:
                yield file
            return
        with writing.being_written(self.local) as file:
            yield file

    def delete(self) -> None:
        """Delete the file, if it is there."""
        if self.kind():
            self.filesystem.delete_file(self.path)

    def _unread(self, error: Exception) -> SpectraDermError:
        return SpectraDermError(f"{self.path} can't be read ({_line(error)})", "Check the address and the permissions")


def _line(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or repr(error)
    return str(said).splitlines()[0]
