"""The folder where things are kept that can be made again."""

import errno
import os
from pathlib import Path

from spectraderm.core.errors import WriteError
from spectraderm.core.files import write_bytes

CACHE_VARIABLE = "SPECTRADERM_CACHE"
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Kept by SpectraDerm, which can make it again.\n"
"""Of a folder that needs no backup, see https://bford.info/cachedir."""


def cache_folder() -> Path | None:
    """Where things are kept that can be made again: `SPECTRADERM_CACHE` or the user's; None without a home folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given is not None:
        return Path(given)
    try:
        above = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return above / "spectraderm"


def kept_folder(part: str = "") -> Path | None:
    """A part of the cache folder, made, and tagged as such; None where the user's own can't be written to.

    Raises:
        WriteError: `SPECTRADERM_CACHE` is set, but not to what can be.
    """
    given, above = os.environ.get(CACHE_VARIABLE), cache_folder()
    if above is None:
        return None
    try:
        if given is not None and not given.strip():
            raise OSError(errno.ENOENT, "it is empty")
        (above / part).mkdir(parents=True, exist_ok=True)
        if not os.access(above / part, os.R_OK | os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if not (above / "CACHEDIR.TAG").exists():
            write_bytes(above / "CACHEDIR.TAG", _TAG)
    except OSError as error:
        if given is None:
            return None
        said, remedy = (
            error.said if isinstance(error, WriteError) else error,
            "Set it to a folder that you may write to",
        )
        raise WriteError(f"{CACHE_VARIABLE}={given}", said, f"{remedy}, or unset it") from error
    return above / part
