"""Answers <-> the rows of Parquet files. The columns follow from the fields of `Prediction`."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.files import sha256
from spectraderm.inference.bulk.filesystem import write_whole
from spectraderm.inference.bulk.sources import Item, photo_bytes
from spectraderm.inference.classifier import Classifier, Opened
from spectraderm.inference.prediction import columns

_TYPES = {
    float: pa.float64(),
    float | None: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[list[float]]: pa.list_(pa.list_(pa.float32())),
}
"""Of the fields' types; any other is text."""


def schema(labels: Sequence[str]) -> pa.Schema:
    """The columns of `predictions/`.

    These are `path`, `version` (the file's size and times), `sha256` of the photo's bytes, every field of `Prediction`
    (`probabilities` as a column `probability:<class>` each), and `error` and `remedy`, which are null where the photo
    could be read; the fields of `Prediction` are null where it could not.
    """
    own = {name: _TYPES.get(kind, pa.string()) for name, kind in columns(labels).items()}
    before, behind = ("path", "version", "sha256"), ("error", "remedy")
    return pa.schema(dict.fromkeys(before, pa.string()) | own | dict.fromkeys(behind, pa.string()))


def answers(classifier: Classifier, photos: Sequence[tuple[Item, object]]) -> list[dict[str, Any]]:
    """Rows of `predictions/`: what a model says of photos of `read_photos`, or why one can't be read."""
    rows: list[dict[str, Any]] = [{"path": item.path, "version": item.version} for item, _ in photos]

    def opened(row: dict[str, Any], item: Item, cell: object) -> Opened | SpectraDermError:
        try:
            photo = photo_bytes(item, cell)
        except SpectraDermError as error:
            return error
        row["sha256"] = sha256(photo)
        return classifier.opened(photo, item.path)

    said = classifier.predict_opened(opened(row, *photo) for row, photo in zip(rows, photos, strict=True))
    for row, one in zip(rows, said, strict=True):
        row.update({"error": one.problem, "remedy": one.remedy} if isinstance(one, SpectraDermError) else one.to_row())
    return rows


def to_table(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> pa.Table:
    """Rows as one table; what a row lacks is null."""
    return pa.Table.from_pylist(list(rows), schema=schema(labels))


def parts(filesystem: AbstractFileSystem, folder: str) -> list[str]:
    """The paths of the Parquet files in a folder, sorted; none where there is no folder."""
    if not filesystem.isdir(folder):
        return []
    return sorted(path for path in filesystem.ls(folder, detail=False) if path.endswith(".parquet"))


def read(filesystem: AbstractFileSystem, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part of `predictions/`. Raises `pyarrow.ArrowException` where it is damaged."""
    with filesystem.open(path, "rb") as file:
        return pq.ParquetFile(file).read(columns)


def batches(filesystem: AbstractFileSystem, path: str, size: int) -> Iterator[list[Item]]:
    """The items of a file that `job` wrote, so many at a time."""
    with filesystem.open(path, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(size):
            yield [Item(**row) for row in batch.to_pylist()]


def write(filesystem: AbstractFileSystem, path: str, table: pa.Table) -> None:
    """Write a table, whole."""
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="zstd")
    write_whole(filesystem, path, stream.getvalue().to_pybytes())
