"""Files and folders that are whole or not there at all, whenever the process, the disk or the machine stops.

What is written gets another name first, beside its place, and is brought to the disk; then it is renamed, and the
folder that now names it is brought to the disk, too. What a killed process leaves under such names, `sweep` removes.
"""

import contextlib
import csv
import ctypes
import errno
import glob
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import RunFolderError, WriteError, is_address
from spectraderm.core.printable import json_text, restored, stored

_PARTIAL = ".partial"
_LEFT = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_PARTIAL)}")
_NEW, _BEFORE = "new", "before"
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)

written: list[Callable[[Path, bytes], None]] = []
"""Called with every file that `write_bytes` writes, before it gets its name: a stage notes checksums so."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; there is the old one or the new one at any time. Raises `WriteError`, the old one being there.

    In a run folder where a stage is at work its checksum is noted.
    """
    with being_written(path) as file:
        file.write(data)
        for listener in written:
            listener(path, data)


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name when all is written; after an error it leaves none. See `write_bytes`."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{_PARTIAL}")
        try:
            with temporary.open("xb") as file:  # by the umask, as `mkstemp` is not
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of these files in their order: all of them into one beside it, which then takes its place.

    What is at `target` by then is deleted; whether it may be is for who calls this to check. On Linux a reader finds
    one or the other at any time. Elsewhere it takes two renames: a process that is killed in between leaves the old
    folder where `sweep` and the next `write_folder` find it.

    Raises:
        WriteError: the folder can't be written; the old one is there.
    """
    with write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*{_PARTIAL}"):
            _clear(left)
        around = Path(tempfile.mkdtemp(_PARTIAL, f".{target.name}.", target.parent))
        try:
            for name, data in files.items():
                write_bytes(around / _NEW / name, data)
            if not _swapped(around / _NEW, target):
                if target.exists():
                    target.rename(around / _BEFORE)
                (around / _NEW).rename(target)
            _sync_folder(target.parent)
        finally:
            _clear(around)


def _swapped(one: Path, other: Path) -> bool:
    """Whether two names could be swapped in one step: Linux's `renameat2` with RENAME_EXCHANGE does."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return swap is not None and swap(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0


def sweep(folder: Path, older_than: float = 0) -> None:
    """Remove what killed processes left half-written below a folder, and put back a folder that one took away.

    `older_than`, in seconds, spares what a living process may be writing, where no lock keeps others out.
    """
    for left in sorted(folder.rglob(f".*{_PARTIAL}")):
        with contextlib.suppress(OSError):
            if not older_than or time.time() - left.stat().st_mtime > older_than:
                _clear(left)


def _clear(left: Path) -> None:
    """Remove what is half-written. A folder whose place nothing has taken is put back."""
    found = _LEFT.fullmatch(left.name)
    if not found:
        return
    if not left.is_dir():
        left.unlink(missing_ok=True)
        return
    target = left.with_name(found[1])
    if (left / _BEFORE).exists() and not target.exists():
        (left / _BEFORE).rename(target)
        _sync_folder(target.parent)
    shutil.rmtree(left, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the file system knows how to."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Errors of the system inside it come as `WriteError` of that file or folder, which is here, and no address."""
    if is_address(path) and not Path(path.parts[0]).exists():
        here = "Give a folder or file of this machine, and copy it from there"
        raise WriteError(path, OSError(errno.EINVAL, "it is an address"), here)
    try:
        yield
    except OSError as error:
        raise WriteError(path, error.said if isinstance(error, WriteError) else error) from error


def check_writable(path: Path) -> None:
    """Make sure, before anything takes long, that a file or folder can be made here. Raises `WriteError`."""
    there = next((each for each in (path, *path.absolute().parents) if each.exists()), path)
    with write_errors(path):
        if there != path and not there.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, keys in the order given."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """`content` as every JSON file here is written. Raises `ValueError` for a number that JSON does not have."""
    return f"{json_text(content, indent=2)}\n".encode()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under a header line, each text as `stored`; keys that are not columns are an error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writerow({name: stored(name) for name in columns})
    writer.writerows({name: stored(value) for name, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode())


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write one NumPy array, never pickled."""
    write_bytes(path, array_bytes(array))


def write_arrays(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write named NumPy arrays, never pickled."""
    write_bytes(path, arrays_bytes(**arrays))


def arrays_bytes(**arrays: npt.NDArray[np.generic]) -> bytes:
    """Named arrays as `.npz`. Its members get no time of day: the same arrays are the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def array_bytes(array: npt.NDArray[np.generic]) -> bytes:
    """An array as every `.npy` file here is written."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def read_array(path: Path, remedy: str) -> npt.NDArray[Any]:
    """Read what `write_array` wrote. Raises `RunFolderError`, with `remedy`, where it is missing or damaged."""
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    return array


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object. Raises `RunFolderError`, with `remedy`, where it is missing or not JSON."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    return json_object(data, str(path), remedy)


def json_object(data: bytes, name: str, remedy: str) -> dict[str, Any]:
    """The JSON object that a file called `name` holds. Raises `RunFolderError`, with `remedy`, where it holds none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{name} can't be read ({error})", remedy) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{name} is not a JSON object", remedy)
    return content


def read_csv(path: Path, needed: Sequence[str], remedy: str) -> list[dict[str, str]]:
    """Read what `write_csv` wrote. Raises `RunFolderError`, with `remedy`, where the file or a needed column lacks."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [restored(name) for name in reader.fieldnames or ()]
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise RunFolderError(f"{path} has no column {', '.join(missing)}", remedy)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    if any(row[name] is None for row in rows for name in needed):
        raise RunFolderError(f"{path} has a line that is cut short", remedy)
    return [{name: restored(text) if isinstance(text, str) else text for name, text in row.items()} for row in rows]


def read_regular(path: Path, most: int) -> bytes:
    """A file's bytes, at most `most` of them.

    What is opened is what is looked at: a pipe, a device or a file that grows in the meantime changes nothing.

    Raises:
        OSError: it can't be opened, is a folder, pipe or device, or is larger; `strerror` says which.
        ValueError: there is no such name, for it has a zero byte or half a character.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "not a file", str(path))
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = b"" if about.st_size > most else file.read(about.st_size + 1)
            if len(data) > about.st_size:  # it grew in the meantime
                data += file.read(most + 1 - len(data))
    finally:
        os.close(handle)
    if about.st_size > most or len(data) > most:
        raise OSError(errno.EFBIG, f"more than {most / 1e6:g} MB", str(path))
    return data
