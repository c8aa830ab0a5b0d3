"""Where text goes, and how the program ends: data to stdout, all else to stderr, expected errors in one line.

Predictions are written as they come, for programs or for people.
"""

import csv
import json
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

from spectraderm.core.errors import SpectraDermError, of_system

if TYPE_CHECKING:
    from spectraderm.inference.classifier import Classifier
    from spectraderm.inference.prediction import Prediction

_goes_on: list[str] = []
_JSON = json.JSONEncoder(allow_nan=False)
_JOINT = "\N{NO-BREAK SPACE}"
_STYLES = {
    "predicted": "bold green",
    "unsure": "bold yellow",
    "out_of_scope": "bold magenta",
    "unusable_photo": "bold red",
}


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
            say(f"stopped; {_goes_on[-1]}" if _goes_on else "stopped")
        raise


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Say after Ctrl-C how to go on with what is done in it."""
    _goes_on.append(how)
    yield
    _goes_on.pop()  # not after Ctrl-C


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


class Writer(Protocol):
    """Writes predictions as they come."""

    def write(self, path: str, prediction: "Prediction") -> None:
        """Take one prediction."""

    def close(self) -> None:
        """Write what is left."""


def writer_of(format: str, stream: TextIO, classifier: "Classifier", top_k: int) -> Writer:  # noqa: A002
    """The writer of a format: `jsonl`, `csv` or `table`; the last shows `top_k` classes a photo."""
    if format == "jsonl":
        return JsonWriter(stream)
    return CsvWriter(stream, classifier) if format == "csv" else TableWriter(stream, classifier, top_k)


class JsonWriter:
    """One JSON object a line: `path`, then the fields of `Prediction`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, path: str, prediction: "Prediction") -> None:
        """Write one prediction."""
        self._stream.write(_JSON.encode({"path": path, **prediction.to_dict()}) + "\n")

    def close(self) -> None:
        """Nothing is left to write."""


class CsvWriter:
    """A header, then a line per photo: `path`, then the columns of `prediction.columns`, the heatmap aside."""

    def __init__(self, stream: TextIO, classifier: "Classifier") -> None:
        from spectraderm.inference.prediction import columns  # noqa: PLC0415

        kinds = columns(classifier.labels)
        self._joined = [name for name, kind in kinds.items() if kind == list[str]]
        names = [name for name, kind in kinds.items() if kind != list[list[float]]]
        self._writer = csv.DictWriter(stream, ["path", *names], extrasaction="ignore", lineterminator="\n")
        self._writer.writeheader()

    def write(self, path: str, prediction: "Prediction") -> None:
        """Write one prediction. Lists stand between semicolons; what an unusable photo lacks is empty."""
        row = prediction.to_row()
        self._writer.writerow({"path": path, **row, **{name: ";".join(row[name]) for name in self._joined}})

    def close(self) -> None:
        """Nothing is left to write."""


class TableWriter:
    """For people: a paragraph per photo as it comes, and at the end what to keep in mind.

    Names no class where the photo is out of scope, for none is meant.
    """

    def __init__(self, stream: TextIO, classifier: "Classifier", top_k: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - takes as long to import as a photo

        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._classifier = classifier
        self._top_k = top_k
        self._written = 0

    def write(self, path: str, prediction: "Prediction") -> None:
        """Write one prediction."""
        from rich.text import Text  # noqa: PLC0415

        from spectraderm.inference.prediction import percent  # noqa: PLC0415

        shown = 0 if prediction.verdict == "out_of_scope" else self._top_k
        top = list(prediction.probabilities.items())[:shown]
        named = [f"{self._classifier.display_name(label)} {percent(value)}" for label, value in top]
        verdict = prediction.verdict.replace("_", " ")
        answer = self._wrap(f"{verdict}: {', '.join(_unbroken(one) for one in named)}" if named else verdict)
        lines = [self._wrap(prediction.reason)]
        if prediction.in_training:
            lines.append(self._wrap("The model learned from this photo or a copy of it."))
        styled = Text(answer)
        styled.stylize(_STYLES[prediction.verdict], 2, 2 + len(verdict))
        self._console.print(Text(_printable(path), style="bold"), styled, Text("\n".join(lines)), "", sep="\n")
        self._written += 1

    def close(self) -> None:
        """Write what holds for all of them."""
        if self._written:
            from rich.text import Text  # noqa: PLC0415

            note = (
                f"Model {self._classifier.model_id}. Not a diagnosis. It knows {len(self._classifier.labels)} "
                "conditions and was measured on photos like those it learned from; yours may be harder."
            )
            self._console.print(Text(self._wrap(note, ""), style="dim"))

    def _wrap(self, text: str, indent: str = "  ") -> str:
        """Lines that fit; never broken inside of `_unbroken`."""
        width = max(self._console.width, 40)
        wrapped = textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        return wrapped.replace(_JOINT, " ")


def _unbroken(text: str) -> str:
    return text.replace(" ", _JOINT)


def _printable(path: str) -> str:
    """Without what could move the cursor or clear the screen."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in path)
