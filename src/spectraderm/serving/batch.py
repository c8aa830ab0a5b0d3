"""Many photos, named by files, folders, globs or `-` -> predictions one by one, and the ways they are written."""

import csv
import glob
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from rich.console import Console
from rich.text import Text

from spectraderm.errors import SpectraDermError, UnreadablePhoto
from spectraderm.preprocessing import HEIC_SUFFIXES, MAX_BYTES, SUFFIXES
from spectraderm.serving.classifier import Classifier
from spectraderm.serving.prediction import Prediction
from spectraderm.serving.reasons import percent

STDIN = "-"
_FIELDS = (
    *("verdict", "reason", "label", "display_name", "probability"),
    *("prediction_set", "coverage", "novelty", "in_training"),
)
_JOINT = "\N{NO-BREAK SPACE}"
_STYLES = {
    "predicted": "bold green",
    "unsure": "bold yellow",
    "out_of_scope": "bold magenta",
    "unusable_photo": "bold red",
}


def predict(
    classifier: Classifier, names: Sequence[str], stdin: BinaryIO
) -> Iterator[tuple[str, Prediction | SpectraDermError]]:
    """Classify every photo that the names stand for, in order; a bad one gives its error and the rest goes on."""
    for name in names:
        try:
            paths = find(name)
        except SpectraDermError as error:
            yield name, error
            continue
        for path in paths:
            try:
                yield path, classifier.predict(stdin.read(MAX_BYTES + 1) if path == STDIN else path)
            except SpectraDermError as error:
                yield path, error


def find(name: str) -> list[str]:
    """The photos that a file, a folder (with all below it), a glob or `-` stands for, sorted.

    Raises:
        UnreadablePhoto: there are none.
    """
    path = Path(name)
    if not name:  # or it would stand for the current folder
        raise UnreadablePhoto("a photo's name is empty", "Give a file, folder or glob")
    try:
        if name == STDIN or (path.exists() and not path.is_dir()):
            return [name]
        if path.is_dir():
            found = _below(path)
        else:
            found = [match for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]  # noqa: PTH207
    except OSError as error:  # such as a name that is too long
        raise UnreadablePhoto(f"{name}: {error.strerror}", "Check the path") from error
    if not found and path.is_dir():
        raise UnreadablePhoto(f"{name} holds no photos", "Give a folder with JPEG, PNG, WEBP, BMP, TIFF, GIF or HEIC")
    if not found:
        raise UnreadablePhoto(f"{name}: no such file or folder", "Check the path")
    return found


def _below(folder: Path) -> list[str]:
    """The photos in a folder and all below it, without hidden files and folders. A link is followed to a file only."""
    return [
        str(file)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES | HEIC_SUFFIXES
        and (file.is_file() or file.is_symlink())
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


class Writer(Protocol):
    """Writes predictions as they come."""

    def write(self, path: str, prediction: Prediction) -> None:
        """Take one prediction."""

    def close(self) -> None:
        """Write what is left."""


def writer(format: str, stream: TextIO, classifier: Classifier, top_k: int) -> Writer:  # noqa: A002
    """The writer of a format: `jsonl`, `csv` or `table`; the last shows `top_k` classes a photo."""
    if format == "jsonl":
        return JsonWriter(stream)
    return CsvWriter(stream, classifier) if format == "csv" else TableWriter(stream, classifier, top_k)


class JsonWriter:
    """One JSON object a line: `path`, then the fields of `Prediction`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, path: str, prediction: Prediction) -> None:
        """Write one prediction."""
        record = {"path": path, **prediction.to_dict()}
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")

    def close(self) -> None:
        """Nothing is left to write."""


class CsvWriter:
    """A header, then a line per photo: path, verdict, label, probability and so on, then every class's probability."""

    def __init__(self, stream: TextIO, classifier: Classifier) -> None:
        self._labels = classifier.labels
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow(["path", *_FIELDS, *(f"probability:{label}" for label in self._labels), "model_id"])

    def write(self, path: str, prediction: Prediction) -> None:
        """Write one prediction. A set's classes stand between semicolons; what an unusable photo lacks is empty."""
        facts = {**prediction.to_dict(), "prediction_set": ";".join(prediction.prediction_set)}
        values = [prediction.probabilities.get(label) for label in self._labels]
        self._writer.writerow([path, *(facts[name] for name in _FIELDS), *values, prediction.model_id])

    def close(self) -> None:
        """Nothing is left to write."""


class TableWriter:
    """For people: a paragraph per photo as it comes, and at the end what to keep in mind.

    Names no class where the photo is out of scope, for none is meant.
    """

    def __init__(self, stream: TextIO, classifier: Classifier, top_k: int) -> None:
        self._console = Console(file=stream, highlight=False, soft_wrap=True)
        self._classifier = classifier
        self._top_k = top_k
        self._written = 0

    def write(self, path: str, prediction: Prediction) -> None:
        """Write one prediction."""
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
