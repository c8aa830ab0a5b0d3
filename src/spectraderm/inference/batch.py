"""Many photos, named by files, folders, globs or `-` -> predictions one by one, and the ways they are written."""

import csv
import json
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO, Protocol, TextIO

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.parallel import in_order
from spectraderm.images.preprocessing import MAX_BYTES
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.photo_paths import STDIN, Found, find, found_by, walk
from spectraderm.inference.prediction import Prediction
from spectraderm.inference.reasons import percent

__all__ = ["FEW", "STDIN", "CsvWriter", "JsonWriter", "TableWriter", "Writer", "find", "predict", "walk", "writer"]
FEW = 32
"""So many photos are done before threads for many would have started."""
_FIELDS = (
    *("verdict", "reason", "label", "display_name", "probability"),
    *("prediction_set", "coverage", "novelty", "in_training"),
)
_JSON = json.JSONEncoder(allow_nan=False)
_JOINT = "\N{NO-BREAK SPACE}"
_STYLES = {
    "predicted": "bold green",
    "unsure": "bold yellow",
    "out_of_scope": "bold magenta",
    "unusable_photo": "bold red",
}

Result = Prediction | SpectraDermError


def predict(classifier: Classifier, names: Sequence[str], stdin: BinaryIO) -> Iterator[tuple[str, Result]]:
    """Classify every photo that the names stand for, in order; a bad one gives its error and the rest goes on.

    Many photos are taken several at once, each through all stages by one thread, in memory that does not grow with
    their number. A few are taken one after the other, with all threads in the network.
    """
    found = found_by(names)
    first = list(islice(found, FEW + 1))
    if len(first) <= FEW:
        for path, error in first:
            yield path, error or _answer(classifier, stdin.read(MAX_BYTES + 1) if path == STDIN else path)
        return
    many, threads = classifier.for_many()
    yield from _several(many, threads, chain(first, found), stdin)


def _several(
    classifier: Classifier, threads: int, found: Iterator[Found], stdin: BinaryIO
) -> Iterator[tuple[str, Result]]:
    def coming() -> Iterator[tuple[str, str | bytes | SpectraDermError]]:
        for path, error in found:
            yield path, error or (stdin.read(MAX_BYTES + 1) if path == STDIN else path)

    for (path, _), result in in_order(lambda one: _answer(classifier, one[1]), coming(), threads):
        yield path, result


def _answer(classifier: Classifier, photo: str | bytes | SpectraDermError) -> Result:
    if isinstance(photo, SpectraDermError):
        return photo
    try:
        return classifier.predict(photo)
    except SpectraDermError as error:
        return error


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
        self._stream.write(_JSON.encode({"path": path, **vars(prediction)}) + "\n")

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
        facts = {**vars(prediction), "prediction_set": ";".join(prediction.prediction_set)}
        values = [prediction.probabilities.get(label) for label in self._labels]
        self._writer.writerow([path, *(facts[name] for name in _FIELDS), *values, prediction.model_id])

    def close(self) -> None:
        """Nothing is left to write."""


class TableWriter:
    """For people: a paragraph per photo as it comes, and at the end what to keep in mind.

    Names no class where the photo is out of scope, for none is meant.
    """

    def __init__(self, stream: TextIO, classifier: Classifier, top_k: int) -> None:
        from rich.console import Console  # noqa: PLC0415  # only here, for it takes as long to import as a photo

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
        from rich.text import Text  # noqa: PLC0415

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
