"""Where text goes, and how the program ends: data to stdout, all else to stderr, expected errors in one line."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO

import typer

from spectraderm.core.errors import SpectraDermError, of_system


def run(app: Callable[[], object]) -> None:
    """Run the command line: errors that are expected become one line and exit code 2."""
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except (SpectraDermError, OSError) as error:  # OSError: of a library that writes to a full disk, for one
        say(f"error: {error if isinstance(error, SpectraDermError) else of_system(error)}")
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:
            say("stopped; --resume goes on where training was")
        raise


def _stop(*_: object) -> None:
    """Of Ctrl-C. Prints nothing itself: it may come in the middle of another line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(130)


@contextmanager
def stdout() -> Iterator[TextIO]:
    """Where data goes, flushed at the end. Leaves quietly when its reader has gone, as in `predict ... | head -1`."""
    if sys.stdout is None:  # Python's, where it was closed before the start
        raise SpectraDermError("stdout is closed", "Nothing can be printed")
    if isinstance(sys.stdout, TextIOWrapper):  # names of files need not be text in its encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:  # a photo's own are `SpectraDermError`s
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries, and fails, again at its end
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(141) from None
        raise SpectraDermError(f"stdout can't be written to ({error.strerror})") from error


def say(text: str) -> None:
    """Print for people."""
    if sys.stderr is not None:  # closed before the start
        sys.stderr.write(text + "\n")
