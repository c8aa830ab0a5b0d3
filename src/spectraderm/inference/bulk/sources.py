"""What someone names -> the photos it stands for: files, or cells of Parquet files that hold photos themselves."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from spectraderm.core import tables
from spectraderm.core.errors import DatasetError, SpectraDermError, UnreadablePhoto, is_url
from spectraderm.core.files import read_json, read_regular
from spectraderm.core.roots import from_facts
from spectraderm.images.decoding import MAX_BYTES
from spectraderm.images.photo_files import DEBRIS, HEIC_SUFFIXES, OWN, SUFFIXES, LeftOut, is_debris, is_own, note
from spectraderm.inference.bulk.filesystem import local_path, open_filesystem, without_secrets
from spectraderm.inference.photo_paths import STDIN, walk

_PATH_COLUMNS, _PHOTO_COLUMNS = ("path", "file_name", "file", "url"), ("image", "bytes")
_ROWS = 10_000


class Item(NamedTuple):
    """One photo.

    Attributes:
        path: what its answer is called.
        address: the path or URL of the file.
        version: changes when the file does: its size and time or tag.
        row: its row in the file, a Parquet file that holds photos; -1 where the file is the photo.
    """

    path: str
    address: str
    version: str
    row: int = -1


def list_photos(sources: Sequence[str], left: LeftOut | None = None) -> Iterator[Item]:
    """All photos of all sources, in their order, each once. One that is called as another before it gets its address
    for a name.

    Sources are folders, files, globs, manifests (`.csv` with a column `path`), Parquet files or folders of them, URLs,
    where a photo is known by its suffix alone. `left` gets what is left out of folders, see `photo_files`.

    Raises:
        SpectraDermError: a source holds no photos or can't be read.
    """
    listed: set[tuple[str, int]] = set()
    named: dict[str, tuple[str, int]] = {}
    left = LeftOut(list) if left is None else left
    folder = len(sources) == 1 and not sources[0].lower().endswith(".csv")  # whose photos can't share a name
    for source in sources:
        for item in _list_source(source, left):
            place = item.address, item.row
            if folder and item.row < 0:
                yield item
            elif place not in listed:
                listed.add(place)
                alike = named.setdefault(item.path, place) != place
                yield (
                    item._replace(path=f"{item.address}#{item.row}" if item.row >= 0 else item.address)
                    if alike
                    else item
                )


def _list_source(source: str, left: LeftOut) -> Iterator[Item]:
    if source == STDIN:
        raise DatasetError("a photo on stdin has no path to be found by again", "Give files or folders with --out")
    filesystem, path = open_filesystem(source)
    try:
        if source.lower().endswith(".csv"):
            yield from _of_manifest(filesystem, path)
        elif source.lower().endswith(".parquet") and filesystem.isfile(path):
            yield from _of_parquet(filesystem, path)
        else:
            yield from _of_url(filesystem, path, left) if is_url(source) else _of_path(filesystem, source, left)
    except OSError as error:
        remedy = "Check the address and the permissions"
        raise SpectraDermError(f"{without_secrets(source)} can't be read ({error})", remedy) from error


def _of_path(filesystem: AbstractFileSystem, name: str, left: LeftOut) -> Iterator[Item]:
    """The photos of a file, folder or glob on this machine; of a folder without photos, its Parquet files' photos."""
    found = False
    try:
        for found_path in walk(name, left):
            found = True
            yield Item(found_path, os.path.abspath(found_path), _version_of(found_path))  # noqa: PTH100
    except UnreadablePhoto:
        tables = sorted(str(path) for path in Path(name).glob("*.parquet")) if Path(name).is_dir() else []
        if found or not tables:
            raise
        for table in tables:
            yield from _of_parquet(filesystem, os.path.abspath(table))  # noqa: PTH100


def _of_url(filesystem: AbstractFileSystem, path: str, left: LeftOut) -> Iterator[Item]:
    """A photo, or all photos and Parquet files below a folder of an object store."""
    found, folders = False, filesystem.walk(path, detail=True)
    if filesystem.isfile(path):
        folders = [("", {}, {path: filesystem.info(path)})]
    for where, below, entries in folders:
        if where.rstrip("/") != path.rstrip("/") and is_own((below.keys() | entries.keys()).__contains__):
            below.clear()
            note(left, OWN, where)
            continue
        for name in [name for name in below if is_debris(name)]:
            note(left, DEBRIS, below.pop(name)["name"])  # so that `walk` does not enter it
        for name, info in sorted(entries.items()):
            if is_debris(name):
                note(left, DEBRIS, info["name"])
            elif name.lower().endswith(".parquet"):
                found = True
                yield from _of_parquet(filesystem, info["name"])
            elif name.lower().endswith(tuple(SUFFIXES | HEIC_SUFFIXES)):
                found = True
                yield Item(info["name"], _address(filesystem, info["name"]), _version(info))
    if not found:
        raise DatasetError(f"{path} holds no photos", "Give a folder with photos or Parquet files")


def _of_manifest(filesystem: AbstractFileSystem, path: str) -> Iterator[Item]:
    """The photos of a table with a column `path`: below the folder that was audited, or else that of the table."""
    folder = path.rpartition("/")[0]
    audit = Path(folder) / "audit.json"
    root = from_facts(read_json(audit, "Run `spectraderm audit` again")) if audit.is_file() else None
    with filesystem.open(path, mode="rb") as file:
        table = tables.parse(file.read(), Path(path), trim=False)
    columns = table.named(tables.USUAL["file_name"])
    if not columns:
        problem = f"{path} has no column path, but {', '.join(table.columns[:5])}"
        raise DatasetError(problem, "Give a manifest.csv, or a table with one")
    names = [line.cells.get(columns[0], "") for line in table.lines]
    if not names or not all(names):
        raise DatasetError(f"{path} has a line without a path, or none", "Give a manifest.csv")
    for name in names:
        yield _named(filesystem, name, str(root / name) if root else os.path.join(folder, name))  # noqa: PTH118


def _of_parquet(filesystem: AbstractFileSystem, path: str) -> Iterator[Item]:
    """The rows of a Parquet file, which holds photos (`image`, `bytes`) or names them (`path`, `file_name`...)."""
    version = _version(filesystem.info(path))
    with filesystem.open(path, "rb") as file:
        try:
            table = pq.ParquetFile(file)
        except pa.ArrowException as error:
            raise DatasetError(f"{path} is no Parquet file ({error})", "Write it again") from error
        names = table.schema_arrow.names
        holds_photos = any(name in names for name in _PHOTO_COLUMNS)
        naming = next((name for name in _PATH_COLUMNS if name in names), None)
        if not holds_photos and not naming:
            expected = ", ".join(_PHOTO_COLUMNS + _PATH_COLUMNS)
            raise DatasetError(f"{path} has none of the columns {expected}", "Name its photos so")
        row = 0
        for batch in table.iter_batches(_ROWS, columns=[naming] if naming else []):
            for name in batch.column(0).to_pylist() if naming else [None] * batch.num_rows:
                if holds_photos:
                    yield Item(name or f"{path}#{row}", _address(filesystem, path), version, row)
                elif name:
                    yield _named(filesystem, name, os.path.join(path.rpartition("/")[0], name))  # noqa: PTH118
                else:
                    raise DatasetError(f"{path} has a row without {naming}", "Leave it out")
                row += 1


def _named(filesystem: AbstractFileSystem, name: str, path: str) -> Item:
    """The photo that a table names by a URL, or by what is this path."""
    address = name if is_url(name) else _address(filesystem, path)
    return Item(name, address, _version_of(address))


def _address(filesystem: AbstractFileSystem, path: str) -> str:
    return path if "file" in filesystem.protocol else str(filesystem.unstrip_protocol(path))


def _version_of(address: str) -> str:
    """The version of a file; empty where it can't be had, which reading it will tell."""
    filesystem, path = open_filesystem(address)
    try:
        return _version(filesystem.info(path))
    except OSError:
        return ""


def _version(info: dict[str, Any]) -> str:
    """Of a file on this machine its size, its time, and when its entry was changed, which no program sets back."""
    if "ino" in info:
        return f"{info['size']} {info['mtime']} {info.get('created')}"
    return f"{info['size']} {info.get('ETag') or info.get('etag') or info.get('mtime') or info.get('LastModified')}"


def read_photos(items: Iterable[Item]) -> Iterator[tuple[Item, object]]:
    """Each photo with its cell of a Parquet file, of which one row group at a time is in memory; None for a file.

    What `photo_bytes` then makes of them may be asked for by several threads.
    """
    address, first, cells = "", 0, list[Any]()
    for item in items:
        if item.row >= 0 and (item.address != address or not 0 <= item.row - first < len(cells)):
            address, first, cells = item.address, *_row_group(item.address, item.row)
        yield item, cells[item.row - first] if item.row >= 0 else None


def photo_bytes(item: Item, cell: object) -> bytes:
    """A photo's bytes: of its file, or of its cell, which is bytes, or a struct with them, as Hugging Face's are.

    Raises:
        UnreadablePhoto: the file can't be read, the cell holds no photo, or there are too many bytes.
    """
    try:
        filesystem, path = open_filesystem(item.address)
        if item.row >= 0:
            data = cell.get("bytes") if isinstance(cell, dict) else cell
        elif here := local_path(filesystem, path):
            data = read_regular(here, MAX_BYTES)
        else:
            with filesystem.open(path, "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnreadablePhoto(f"{item.path}: {why}", "Check the path") from error
    if not isinstance(data, bytes):
        raise UnreadablePhoto(f"{item.path}: the cell holds no photo", "Leave the row out")
    if len(data) > MAX_BYTES:
        raise UnreadablePhoto(f"{item.path}: more than {MAX_BYTES / 1e6:g} MB", "Make it smaller")
    return data


def _row_group(address: str, row: int) -> tuple[int, list[Any]]:
    """The row group that holds a row of a Parquet file: its first row, and its photos' cells."""
    filesystem, path = open_filesystem(address)
    try:
        with filesystem.open(path, "rb") as file:
            table = pq.ParquetFile(file)
            column = next(name for name in _PHOTO_COLUMNS if name in table.schema_arrow.names)
            first = 0
            for number in range(table.num_row_groups):
                size = table.metadata.row_group(number).num_rows
                if row < first + size:
                    return first, table.read_row_group(number, columns=[column]).column(0).to_pylist()
                first += size
    except (OSError, pa.ArrowException, StopIteration) as error:
        raise SpectraDermError(f"{address} changed or is damaged ({error})", "Run the same command again") from error
    raise SpectraDermError(f"{address} has no row {row} any more", "Run the same command again")
