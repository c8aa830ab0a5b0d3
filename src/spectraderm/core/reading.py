"""The bytes of a file that may be no file at all, or far too large. Nothing is read of what has no end."""

import errno
import os
import stat
from pathlib import Path


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
