"""One writer to a folder at a time. The lock is the system's and goes with the process, however that ends."""

import contextlib
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from spectraderm.core.errors import FolderInUse, WriteError
from spectraderm.core.files import sweep, write_errors

LOCK = ".lock"
"""In a folder that is being written into. It is deleted at the end, and means nothing after a kill."""
WRITER = ".writer"
"""Beside it: who writes, as JSON, for people."""
VARIABLE = "SPECTRADERM_LOCK"
"""`off` in the environment: write without a lock, where a file system has none."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def is_main() -> bool:
    """Whether this process is the one that writes, where `torchrun` or `accelerate` started several."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a folder, which is made where there is none, and tidy up after killed ones.

    A thread that is so already may come in again. Of several processes of one training only the first one locks. A
    folder that was not there before and got nothing is removed again.

    Raises:
        FolderInUse: another process or thread is; the error says which and since when.
        WriteError: the folder can't be written to, or its file system knows no locks.
    """
    if not is_main():
        yield
        return
    there = folder.is_dir()
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder):
            sweep(folder)
            yield
    finally:
        if not there:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout  # noqa: PLC0415 - a tenth of a second, for those who only read

    if os.environ.get(VARIABLE) == "off":
        yield
        return
    path = Path(os.path.realpath(folder))
    lock = FileLock(path / LOCK, timeout=0, is_singleton=True)
    outermost = not lock.is_locked
    facts = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    try:
        lock.acquire()
    except Timeout as error:
        remedy = "Wait until it has ended, or give another folder"
        raise FolderInUse(f"{folder} is being written to by {_who(path)}", remedy) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise WriteError(folder, error) from error
        why = OSError(error.errno, f"its file system gives no locks ({error.strerror})")
        remedy = f"Give a folder elsewhere; or, where nothing else writes there, set {VARIABLE}=off"
        raise WriteError(folder, why, remedy) from error
    try:
        if outermost:
            with contextlib.suppress(OSError):  # a full disk is told where something is written that counts
                (path / WRITER).write_text(json.dumps(facts))
        yield
    finally:
        if outermost:
            for name in (WRITER, LOCK):  # before it is let go: what is opened under this name later is another file
                with contextlib.suppress(OSError):
                    (path / name).unlink()
        lock.release()


def _who(folder: Path) -> str:
    try:
        facts = json.loads((folder / WRITER).read_text())
        return "process {process} on {machine} since {since} ({command})".format(**facts)
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
