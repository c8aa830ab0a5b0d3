"""Files on this machine or in an object store, by one address: a path, `file://`, `s3://`, `gs://` (fsspec)."""

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import fsspec

from spectraderm.core import files
from spectraderm.core.errors import SpectraDermError, WriteError, is_url


def without_secrets(address: str) -> str:
    """An address as it may be written down: a URL without user and password, or an absolute path."""
    if not is_url(address):
        return os.path.abspath(address)  # noqa: PTH100  # `resolve` would follow links
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_filesystem(address: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of an address, and the path in it.

    Raises:
        SpectraDermError: the kind of address is unknown, or the package that reads it is missing.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(os.path.abspath(address) if not is_url(address) else address)  # noqa: PTH100
    except (ImportError, ValueError, OSError) as error:
        shown = without_secrets(address)
        raise SpectraDermError(
            f"{shown} can't be opened ({str(error).replace(address, shown)})",
            "Use a path, file://, s3:// (pip install s3fs) or gs:// (pip install gcsfs)",
        ) from error
    return filesystem, path


def local_path(filesystem: fsspec.AbstractFileSystem, path: str) -> Path | None:
    """The path on this machine, or None for one in an object store."""
    return Path(path) if "file" in filesystem.protocol else None


def write_whole(filesystem: fsspec.AbstractFileSystem, path: str, data: bytes) -> None:
    """Write a file that is whole or not there; object stores promise that of every object.

    Raises:
        WriteError: the file can't be written.
    """
    if here := local_path(filesystem, path):
        files.write_bytes(here, data)
        return
    try:
        filesystem.pipe_file(path, data)
    except OSError as error:
        raise WriteError(Path(path), error) from error
