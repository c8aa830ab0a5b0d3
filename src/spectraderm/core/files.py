"""Files and folders that are whole or not there at all, whenever the process, the disk or the machine stops.

What is written gets another name first, beside its place, and is brought to the disk; then it is renamed, and the
folder that now names it is brought to the disk, too. What a killed process leaves under such names is found by `sweep`:
a writer holds a lock on it, and the system takes that away with the process.
"""

import contextlib
import csv
import ctypes
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import RunFolderError, WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL = ".partial"
_LEFT = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{re.escape(_PARTIAL)}")
_NEW, _BEFORE = "new", "before"
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE, AT_FDCWD
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


CACHE_VARIABLE = "SPECTRADERM_CACHE"


def cache_folder() -> Path | None:
    """Where things are kept that can be made again: `SPECTRADERM_CACHE` or the user's; None without a home folder."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    try:
        above = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return above / "spectraderm"


def write_file(path: Path, data: bytes) -> None:
    """Write a file; there is the old one or the new one at any time. Raises `WriteError`, the old one being there."""
    with being_written(path) as file:
        file.write(data)


@contextlib.contextmanager
def being_written(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which gets its name when all is written; after an error it leaves none. See `write_file`."""
    with told(path):
        _make_folder(path.parent)
        handle, name = tempfile.mkstemp(_PARTIAL, f".{path.name[:100]}.", path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _hold(handle)
                yield file
                file.flush()
                os.fsync(handle)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


written: list[Callable[[Path, bytes], None]] = []
"""Called with every file that `write_bytes` has written: a stage notes checksums so."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that after a crash there is the old one or the new one, never half of it.

    In a run folder where a stage is at work its checksum is noted. Raises `WriteError`.
    """
    write_file(path, data)
    for listener in written:
        listener(path, data)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, keys in the order given."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """`content` as every JSON file here is written. Raises `ValueError` for a number that JSON does not have."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under a header line; keys that are not columns are an error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write one NumPy array, never pickled."""
    write_bytes(path, array_bytes(array))


def write_arrays(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write named NumPy arrays as `.npz`. Its members get no time of day: the same arrays are the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    write_bytes(path, stream.getvalue())


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
    """Read rows as dictionaries. Raises `RunFolderError`, with `remedy`, where the file or a needed column lacks."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise RunFolderError(f"{path} has no column {', '.join(missing)}", remedy)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    if any(row[name] is None for row in rows for name in needed):
        raise RunFolderError(f"{path} has a line that is cut short", remedy)
    return rows


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of these files in their order: all of them into one beside it, which then takes its place.

    What is at `target` by then is deleted; whether it may be is for who calls this to check. Raises `WriteError`.
    """
    with told(target):
        _make_folder(target.parent)
        for left in target.parent.glob(f".*{_PARTIAL}"):
            if (found := _LEFT.fullmatch(left.name)) and found[1] == target.name:
                _clear(left)
        around = Path(tempfile.mkdtemp(_PARTIAL, f".{target.name}.", target.parent))
        with _held(around):
            try:
                for name, data in files.items():
                    write_bytes(around / _NEW / name, data)
                _take_place(around, target)
                sync_folder(target.parent)
            finally:
                if target.exists() or not (around / _BEFORE).exists():
                    shutil.rmtree(around, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written below a folder, and put back a folder that one took away."""
    for left in sorted(folder.rglob(f".*{_PARTIAL}")):
        with contextlib.suppress(OSError):
            _clear(left)


def sync_folder(folder: Path) -> None:
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


def _take_place(around: Path, target: Path) -> None:
    """Put the new folder where the old one is: in one step on Linux, so that there always is one of them."""
    new, before = around / _NEW, around / _BEFORE
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        target.rename(before)
        try:
            new.rename(target)
        except BaseException:
            before.rename(target)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once. False where system or file system can't."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _clear(left: Path) -> None:
    """Remove what is half-written, unless its writer lives. Of a folder that lacks, the whole one in it is put back."""
    found = _LEFT.fullmatch(left.name)
    if not found or not _abandoned(left):
        return
    target = left.with_name(found[1])
    if (left / _BEFORE).exists() and not target.exists():
        (left / (_NEW if (left / _NEW).exists() else _BEFORE)).rename(target)
        sync_folder(target.parent)
    if left.is_dir():
        shutil.rmtree(left)
    else:
        left.unlink(missing_ok=True)


def _abandoned(left: Path) -> bool:
    """Whether no process holds it any more. False where that can't be told."""
    try:
        handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _hold(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY) if fcntl else -1
    try:
        _hold(handle)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _hold(handle: int) -> bool:
    """Lock an open file or folder until it is closed, or the process ends. False where another one has, or none can."""
    if not fcntl:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each brought to the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """What the system says in it comes as `WriteError` of that file or folder."""
    try:
        yield
    except OSError as error:
        raise WriteError(path, error.said if isinstance(error, WriteError) else error) from error
