"""Which tables lie beside photos, and which of their lines is of which photo."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spectraderm.core import tables
from spectraderm.core.errors import DatasetError
from spectraderm.core.names import folded, same
from spectraderm.core.tables import USUAL, Table
from spectraderm.images.photo_files import HEIC_SUFFIXES, SUFFIXES

_METADATA = "metadata"
"""A table of this name must be of use; one of another name may be."""
_READ = {".csv", ".tsv", ".tab", ".jsonl", ".ndjson"}
_SHEETS = {".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers", ".parquet", ".feather", ".sav", ".dta", ".rds"}
_PERHAPS = {".txt", ".json", ""}
_OURS = ({"photogroup", "phash"}, {"path", "verdict"}, {"original", "label"}, {"folder", "label"})
"""Columns of tables that SpectraDerm writes: manifest, predictions and label maps."""
DESCRIBING = tuple(name for name in USUAL if name not in ("file_name", "label"))
"""Columns that say something of a photo, by what they are."""
_PHOTOS = tuple(SUFFIXES | HEIC_SUFFIXES)


class PhotoTable(NamedTuple):
    """A table in the folder `parent` (empty, or ending in a slash), and by line the photo that it is of, or nothing."""

    table: Table
    parent: str
    photos: list[str]
    names: list[str]

    @property
    def path(self) -> str:
        """Of the table, relative to the root."""
        return f"{self.parent}{self.table.path.name}"

    def where(self, line: int) -> str:
        """A line, for people."""
        return f"{self.path}, line {self.table.lines[line].number}"


def folders_of(paths: Iterable[str], below: str, *, alone: bool) -> dict[str, list[str]]:
    """The paths in the folder `below`, all of them, and, unless it stands alone, in each folder in it; folders sorted.

    A folder is empty, or ends in a slash.
    """
    within = defaultdict(list, {below: [*paths]})
    for path in () if alone else within[below]:
        end = path.find("/", len(below))
        while end >= 0:
            within[path[: end + 1]].append(path)
            end = path.find("/", end + 1)
    return dict(sorted(within.items()))


def in_folder(folder: Path, parent: str, within: Sequence[str], not_read: list[str]) -> Iterator[PhotoTable]:
    """The tables in a folder that are of use; `not_read` gets why others are passed over.

    `parent` is the folder as the paths of the photos `within` begin with it.

    Raises:
        DatasetError: a table called `metadata` is of no use.
    """
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        kind = _kind(name)
        if not kind or not (folder / name).is_file():
            continue
        try:
            used = _use(folder / name, parent, within)
        except DatasetError as error:
            if kind == "needed":
                raise
            if kind == "named":
                not_read.append(str(error))
        else:
            yield from [used] if used else []


def _kind(name: str) -> str:
    """`needed`: a table that must be of use; `named`: one that is told where it is not; `perhaps`; or nothing."""
    path = Path(name)
    suffix = path.suffix.lower()
    if name.startswith((".", "~$")):
        return ""
    if suffix in (".gz", ".zip", ".xz", ".bz2"):
        return "named" if Path(path.stem).suffix.lower() in _READ else ""
    if suffix in _READ | _SHEETS | _PERHAPS and tables.folded(path.stem) == _METADATA:
        return "needed"
    if suffix in _READ | _SHEETS:
        return "named"
    return "perhaps" if suffix == ".txt" or (suffix in _PERHAPS and _METADATA in name.lower()) else ""


def _use(file: Path, parent: str, paths: Sequence[str]) -> PhotoTable | None:
    """A table and its lines' photos; None for one of our own. Raises `DatasetError` where it is of no use."""
    if file.suffix.lower() not in _READ | _PERHAPS:
        raise DatasetError(f"{file} can't be read as it is", "Save it as CSV in UTF-8")
    table = tables.read(file)
    if any(ours <= {tables.folded(column) for column in table.columns} for ours in _OURS):
        return None
    columns, has = table.named(USUAL["file_name"]), f"it has {', '.join(table.columns[:6])}"
    if not columns:
        raise DatasetError(f"{file} has no column file_name", f"Name that of the photos so; {has}")
    if not any(table.named(USUAL[name]) for name in (*DESCRIBING, "label")) and _kind(file.name) != "needed":
        raise DatasetError(f"{file} has no column patient, lesion, source or label", f"Name them so; {has}")
    best: list[str] = []
    names: list[str] = []
    for column in columns:  # the one that names the most photos
        given = [tidy(line.cells.get(column, "")) for line in table.lines]
        matched = match_photos(given, [path.removeprefix(parent) for path in paths])
        photos = [f"{parent}{matched[name]}" if name in matched else "" for name in given]
        if not names or sum(map(bool, photos)) > sum(map(bool, best)):
            best, names = photos, given
    if names and not any(best):
        problem = f"{file} names none of these photos, but {next(filter(None, names), '')!r}"
        raise DatasetError(problem, f"Give paths relative to the folder of {file.name}, such as {paths[0]}")
    return PhotoTable(table, parent, best, names)


def tidy(name: str) -> str:
    """A photo's name as a table gives it, with forward slashes and without what leads nowhere."""
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def match_photos(names: Sequence[str], photos: Sequence[str]) -> dict[str, str]:
    """The photo of every name: that of this path, or of this end of a path, or without suffix, if only one fits.

    Names are compared as they are, then as ones that are the same, then as ones that look alike (`core.names`). What
    has a folder in its name that holds other photos is not taken for a photo elsewhere.
    """
    matched = {name: name for name in {*names} & {*photos}}
    folders = {part for photo in photos for part in photo.split("/")[:-1]}
    for form in (str, cache(same), cache(folded)):
        for bare in (False, True):
            for length in (0, 3, 2, 1):
                left = {*names} - matched.keys() - {""}
                if not left:
                    return matched
                taken, named = {*matched.values()}, _by_end(left, length, form, bare)
                free = _by_end((photo for photo in photos if named and photo not in taken), length, form, bare)
                for end, name in named.items():
                    photo = free.get(end, "")
                    if name and photo and not ({*name.split("/")[:-1]} & folders) - {*photo.split("/")}:
                        matched[name] = photo
    return matched


def _by_end(paths: Iterable[str], length: int, form: Callable[[str], str], bare: bool) -> dict[str, str]:
    """The path that ends so, by its last parts, so many or all; nothing where several do.

    The last part is without a photo's suffix, where `bare`.
    """
    ends: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")[-length:]
        if len(parts) < length:
            continue
        if bare and parts[-1].lower().endswith(_PHOTOS):
            parts[-1] = parts[-1].rpartition(".")[0]
        end = "/".join(map(form, parts))
        ends[end] = "" if end in ends else path
    return ends
