"""One writer to a folder at a time. The lock is the system's and goes with the process, however that ends.

POSIX record locks, for they are not inherited by forked workers that may outlive the process: `filelock` takes `flock`,
which is. On file systems without either, `filelock` turns to a file that stays behind after a kill.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spectraderm.core.errors import FolderInUse, WriteError
from spectraderm.core.files import sweep

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""In a folder that is being written into: who does. It is deleted at the end, and means nothing after a kill."""
VARIABLE = "SPECTRADERM_LOCK"
"""`off` in the environment: write without a lock, where a file system has none."""
_BUSY = (errno.EACCES, errno.EAGAIN)


@dataclass(frozen=True)
class _Held:
    process: int
    thread: int


_held: dict[Path, _Held] = {}


def is_main() -> bool:
    """Whether this process is the one that writes, where `torchrun` or `accelerate` started several."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a folder, which is made where there is none, and tidy up after killed ones.

    A thread that is so already may come in again. Of several processes of one training only the first one locks.

    Raises:
        FolderInUse: another process or thread is; the error says which and since when.
        WriteError: the folder can't be written to, or its file system knows no locks.
    """
    key = Path(os.path.realpath(folder))
    holder = _held.get(key)
    if holder and holder.process == os.getpid() and holder.thread != threading.get_ident():
        raise FolderInUse(f"{folder} is being written to by another thread of this process", "Wait until it has ended")
    if not is_main() or (holder and holder.process == os.getpid()):
        yield
        return
    with _made(folder), _locked(folder):
        _held[key] = _Held(os.getpid(), threading.get_ident())
        try:
            sweep(folder)
            yield
        finally:
            del _held[key]


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """A folder; one that was not there before and got nothing is removed again."""
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from error
    try:
        yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if not fcntl or os.environ.get(VARIABLE) == "off":
        yield
        return
    path = folder / LOCK
    handle = _take(path, folder)
    try:
        _tell(handle, folder)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # before it is let go: what is opened under this name later is another file
        os.close(handle)


def _take(path: Path, folder: Path) -> int:
    """The locked file, open. Until it is closed nothing else in this process may open it: that would end the lock."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise WriteError(folder, error) from error
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            said = os.pread(handle, 10_000, 0)
            os.close(handle)
            if error.errno in _BUSY:
                raise FolderInUse(f"{folder} is being written to by {_who(said)}", _REMEDY) from error
            raise _without(folder, error) from error
        if _is_at(handle, path):
            return handle
        os.close(handle)  # its last holder deleted it a moment ago


_REMEDY = "Wait until it has ended, or give another folder"


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _tell(handle: int, folder: Path) -> None:
    """Write into the lock who has it: for people, nothing is decided by it."""
    facts = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(facts).encode() + b"\n", 0)
    except OSError as error:
        raise WriteError(folder, error) from error


def _who(said: bytes) -> str:
    try:
        facts = json.loads(said)
        return "process {process} on {machine} since {since} ({command})".format(**facts)
    except (ValueError, KeyError, TypeError):
        return "another process"


def _without(folder: Path, error: OSError) -> WriteError:
    why = OSError(error.errno, f"its file system gives no locks ({error.strerror})")
    return WriteError(folder, why, f"Give a folder elsewhere; or, where nothing else writes there, set {VARIABLE}=off")
