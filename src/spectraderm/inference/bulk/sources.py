"""What someone named -> the photos it stands for: paths, or places in Parquet files that hold photos themselves."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from spectraderm.core import artifacts
from spectraderm.core.errors import DatasetError, UnreadablePhoto
from spectraderm.images.preprocessing import HEIC_SUFFIXES, SUFFIXES
from spectraderm.inference.bulk.filesystem import Place, is_url
from spectraderm.inference.photo_paths import STDIN, walk

_PATHS, _PHOTOS = ("path", "file_name", "file", "url"), ("image", "bytes")
_MANY_PATHS = 10_000
_MOST_MANIFEST = 2**31
FILE = -1
"""Of what is a file of its own: it has no row group."""


class Item(NamedTuple):
    """A photo: what answers call it, the number of its source, which file it is or lies in, and where in that.

    `file` is a path in the source's file system, or a URL; `group` and `row` are a Parquet file's row group and the row
    in it, or `FILE`.
    """

    path: str
    source: int
    file: str
    group: int = FILE
    row: int = FILE


def items(sources: Sequence[str]) -> Iterator[Item]:
    """All photos of all sources, in their order. Raises `SpectraDermError` for a source without any."""
    for number, source in enumerate(sources):
        yield from _of(source, number)


def _of(source: str, number: int) -> Iterator[Item]:
    if source == STDIN:
        raise DatasetError("a photo on stdin has no path to be found by again", "Give files or folders with --out")
    place = Place.of(source)
    if source.lower().endswith(".csv"):
        yield from _of_manifest(place, number)
    elif source.lower().endswith(".parquet") and place.kind() == "file":
        yield from _of_parquet(place, number)
    elif is_url(source):
        yield from _of_address(place, number)
    elif place.kind() == "folder" and not _has_photos(place) and (tables := _tables(place)):
        for table in tables:
            yield from _of_parquet(place.at(table), number)
    else:
        for path in walk(source):
            yield Item(path, number, os.path.abspath(path))  # noqa: PTH100


def _of_address(place: Place, number: int) -> Iterator[Item]:
    """A photo, or a folder with all below it, in an object store."""
    found = False
    for path in [place.path] if place.kind() == "file" else _below(place):
        name = path.lower()
        if name.endswith(".parquet"):
            found = True
            yield from _of_parquet(place.at(path), number)
        elif name.endswith(tuple(SUFFIXES | HEIC_SUFFIXES)):
            found = True
            yield Item(path, number, path)
    if not found:
        raise DatasetError(f"{place.path} holds no photos", "Give a folder with photos or Parquet files")


def _below(place: Place) -> Iterator[str]:
    waiting = [place.entries()]
    while waiting:
        for path, is_folder in waiting[-1]:
            if path.rpartition("/")[2].startswith("."):
                continue
            if is_folder:
                waiting.append(place.at(path).entries())
                break
            yield path
        else:
            waiting.pop()


def _of_manifest(place: Place, number: int) -> Iterator[Item]:
    """The photos of a CSV with a column `path`: from the folder that was audited, or else the one the CSV lies in."""
    above = place.at(place.folder)
    root = above.path
    if above.local and (above.local / artifacts.AUDIT).is_file():
        root = artifacts.read_json(above.local / artifacts.AUDIT, "Run `spectraderm audit` again")["root"]
    try:
        rows = csv.DictReader(io.StringIO(place.read(_MOST_MANIFEST).decode("utf-8-sig")))
        paths = [row["path"] for row in rows]
    except (UnicodeDecodeError, csv.Error, KeyError) as error:
        raise DatasetError(f"{place.path} is no CSV with a column path ({error})", "Give a manifest.csv") from error
    if not paths or not all(paths):
        raise DatasetError(f"{place.path} has a line without a path, or none", "Give a manifest.csv")
    for path in paths:
        yield Item(path, number, _joined(root, path))


def _of_parquet(place: Place, number: int) -> Iterator[Item]:
    """The rows of a Parquet file, which holds photos (`image`, `bytes`) or their paths (`path`, `file_name`)."""
    with place.open() as file:
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowException as error:
            raise DatasetError(f"{place.path} is no Parquet file ({error})", "Write it again") from error
        names = table.schema_arrow.names
        holding = next((name for name in _PHOTOS if name in names), None)
        naming = next((name for name in _PATHS if name in names), None)
        if holding:
            yield from _held(table, place, number, naming)
        elif naming:
            for batch in table.iter_batches(_MANY_PATHS, columns=[naming]):
                for path in batch.column(0).to_pylist():
                    if not path:
                        raise DatasetError(f"{place.path} has a row without {naming}", "Leave it out")
                    yield Item(path, number, _joined(place.folder, path))
        else:
            raise DatasetError(
                f"{place.path} has none of the columns {', '.join(_PHOTOS + _PATHS)}", "Name its photos so"
            )


def _held(table: pq.ParquetFile, place: Place, number: int, naming: str | None) -> Iterator[Item]:
    for group in range(table.num_row_groups):
        names = table.read_row_group(group, columns=[naming]).column(0).to_pylist() if naming else []
        for row in range(table.metadata.row_group(group).num_rows):
            name = names[row] if names and names[row] else f"{place.path}#{group}.{row}"
            yield Item(name, number, place.path, group, row)


def _joined(folder: str, path: str) -> str:
    return path if is_url(path) else os.path.join(folder, path)  # noqa: PTH118


def _tables(place: Place) -> list[str]:
    return [path for path, is_folder in place.entries() if path.lower().endswith(".parquet") and not is_folder]


def _has_photos(place: Place) -> bool:
    try:
        return next(walk(place.path), None) is not None
    except UnreadablePhoto:
        return False
