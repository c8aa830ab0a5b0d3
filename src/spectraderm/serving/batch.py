"""Many photos, named by files, folders, globs or `-` -> predictions one by one, and the ways they are written."""

import csv
import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spectraderm.errors import SpectraDermError, UnreadablePhoto
from spectraderm.preprocessing import HEIC_SUFFIXES, MAX_BYTES, SUFFIXES
from spectraderm.serving.classifier import Classifier, Prediction

STDIN = "-"


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
        self._stream.write(json.dumps({"path": path, **prediction.to_dict()}) + "\n")

    def close(self) -> None:
        """Nothing is left to write."""


class CsvWriter:
    """A header, then a line per photo: path, label, probability, then every class's probability."""

    def __init__(self, stream: TextIO, classifier: Classifier) -> None:
        self._labels = classifier.labels
        self._writer = csv.writer(stream, lineterminator="\n")
        columns = [f"probability:{label}" for label in self._labels]
        self._writer.writerow(["path", "label", "display_name", "probability", *columns, "model_id"])

    def write(self, path: str, prediction: Prediction) -> None:
        """Write one prediction."""
        values = [prediction.probabilities[label] for label in self._labels]
        head = [path, prediction.label, prediction.display_name, prediction.probability]
        self._writer.writerow([*head, *values, prediction.model_id])

    def close(self) -> None:
        """Nothing is left to write."""


class TableWriter:
    """A table for people, written when all photos are done, with what to keep in mind below it."""

    def __init__(self, stream: TextIO, classifier: Classifier, top_k: int) -> None:
        self._console = Console(file=stream)
        self._classifier = classifier
        self._top_k = top_k
        self._table = Table(box=None, pad_edge=False)
        self._table.add_column("photo", overflow="fold")
        self._table.add_column("most probable")
        self._table.add_column("probability")
        if top_k > 1:
            self._table.add_column("then")

    def write(self, path: str, prediction: Prediction) -> None:
        """Add one prediction."""
        others = list(prediction.probabilities.items())[1 : self._top_k]
        then = ", ".join(f"{self._classifier.display_name(label)} {100 * value:.0f} %" for label, value in others)
        cells = [path, prediction.display_name, f"{100 * prediction.probability:.0f} %", then]
        self._table.add_row(*(Text(cell) for cell in cells[: len(self._table.columns)]))

    def close(self) -> None:
        """Print the table."""
        if self._table.row_count:
            self._console.print(self._table)
            note = (
                f"\nModel {self._classifier.model_id}. Not a diagnosis: it knows {len(self._classifier.labels)} "
                "conditions and always names one of them. Probabilities are not calibrated."
            )
            self._console.print(Text(note, style="dim"))
