"""Where text goes, and how the program ends: data to stdout, all else to stderr, expected errors in one line.

Predictions are written as they come, for programs or for people.
"""

import csv
import gc
import json
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

import typer

from spectraderm.core.errors import SpectraDermError, of_system
from spectraderm.core.printable import cell, json_text, line, say

if TYPE_CHECKING:
    from spectraderm.inference.classifier import Classifier
    from spectraderm.inference.prediction import Prediction

_goes_on: list[str] = []
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
    finally:
        gc.freeze()  # or Python's end looks for garbage in all of it, as long as a photo takes


@contextmanager
def starting() -> Iterator[None]:
    """Look for no garbage while modules and a model are loaded, which make none, nor among them later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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


def show(content: Mapping[str, Any], as_json: bool, say_it: Callable[[Any], None]) -> None:
    """Show what a command's function returned: one JSON object on stdout, where `--json` asks for it, or for people."""
    if not as_json:
        say_it(content)
        return
    with stdout() as stream:
        stream.write(f"{json_text(content, indent=2)}\n")


def write_predictions(
    predictions: Iterable[tuple[str, "Prediction"]],
    format: str,  # noqa: A002
    stream: TextIO,
    classifier: "Classifier",
    top_k: int,
    heatmap: bool = False,
) -> None:
    """Write predictions as they come, each with its path, as `jsonl`, `csv` or `table`.

    `jsonl` has one object a line: `path`, then the fields of `Prediction`, of which `heatmap` is empty unless asked
    for. `csv` has a header, then a line per photo: `path`, then the columns of `prediction.columns`, the heatmap aside;
    lists are lines of CSV of their own, between semicolons: what has one in it is quoted there. What an unusable photo
    lacks is empty, and no spreadsheet runs a text: see `printable.cell`. `table` shows `top_k` classes a photo.
    """
    if format == "table":
        write_table(predictions, stream, classifier, top_k)
    elif format == "jsonl":
        for path, prediction in predictions:
            record = {"path": path, **prediction.to_dict()} | ({} if heatmap else {"heatmap": []})
            stream.write(json.dumps(record, allow_nan=False) + "\n")
    else:
        from spectraderm.inference.prediction import columns  # noqa: PLC0415

        kinds = columns(classifier.labels)
        joined = [name for name, kind in kinds.items() if kind == list[str]]
        names = [name for name, kind in kinds.items() if kind != list[list[float]]]
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(cell, ["path", *names]))
        for path, prediction in predictions:
            row = prediction.to_row()
            row |= {"path": path, **{name: _joined(row[name]) for name in joined}}
            writer.writerow(cell(row.get(name)) for name in ["path", *names])


def _joined(cells: Iterable[str]) -> str:
    text = StringIO()
    csv.writer(text, delimiter=";", lineterminator="").writerow(cells)
    return text.getvalue()


def write_table(
    predictions: Iterable[tuple[str, "Prediction"]], stream: TextIO, classifier: "Classifier", top_k: int
) -> None:
    """Write for people: a paragraph per photo as it comes, and at the end what to keep in mind.

    Names no class where the photo is out of scope, for none is meant.
    """
    from rich.console import Console  # noqa: PLC0415 - takes as long to import as a photo
    from rich.text import Text  # noqa: PLC0415

    from spectraderm.inference.prediction import JUDGED, experience, percent, promise  # noqa: PLC0415

    console = Console(file=stream, highlight=False, soft_wrap=True)
    wrap = partial(_wrap, width=max(console.width, 40))
    note, verdicts = "", dict.fromkeys(_STYLES, 0)
    for path, prediction in predictions:
        shown = 0 if prediction.verdict == "out_of_scope" else top_k
        top = list(prediction.probabilities.items())[:shown]
        named = [f"{classifier.display_name(label)} {percent(value)}".replace(" ", _JOINT) for label, value in top]
        verdict = prediction.verdict.replace("_", " ")
        verdicts[prediction.verdict] += 1
        answer = Text(wrap(f"{verdict}: {', '.join(named)}" if named else verdict))
        answer.stylize(_STYLES[prediction.verdict], 2, 2 + len(verdict))
        rests = "" if prediction.verdict == "unusable_photo" else f" {JUDGED[prediction.calibrated_on]}"
        lines = [wrap(f"{prediction.reason}{rests}")]
        if prediction.in_training:
            lines.append(wrap("The model learned from this photo or a copy of it."))
        console.print(Text(line(path), style="bold"), answer, Text("\n".join(lines)), "", sep="\n")
        note = (
            f"Model {classifier.model_id}. Not a diagnosis. It knows {len(classifier.folder.conditions)} "
            f"conditions. {experience(classifier.folder.facts['calibration'])} {promise(classifier.calibrations)}"
        )
    if sum(verdicts.values()) > 1:
        counts = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in verdicts.items() if count)
        console.print(Text(wrap(f"{sum(verdicts.values())} photos: {counts}", indent=""), style="bold"), "", sep="\n")
    if note:
        console.print(Text(wrap(note, indent=""), style="dim"))


def _wrap(text: str, width: int, indent: str = "  ") -> str:
    """Lines that fit, broken at no `_JOINT`."""
    wrapped = textwrap.fill(line(text), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return wrapped.replace(_JOINT, " ")
