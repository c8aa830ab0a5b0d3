"""What tables beside photos say of them: which line is of which photo, who is one patient, and what can't be so.

A table's names are relative to the folder that it lies in: that of all photos, of a source, a split or a class.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from spectraderm.core import tables
from spectraderm.core.errors import DatasetError
from spectraderm.core.names import folded, join, look_alikes
from spectraderm.core.roots import Root
from spectraderm.core.tables import JOINING, USUAL
from spectraderm.data.class_folders import split_of
from spectraderm.data.layouts import Listing
from spectraderm.data.manifest import COLUMNS, display_name
from spectraderm.data.photo_tables import DESCRIBING, PhotoTable, folders_of, in_folder

MANY_CLASSES = 3
"""A patient or lesion with photos of so many classes is looked at twice."""
MANY_PHOTOS = 5
"""And so is one with more than these photos, and more than half of all."""
_FORMS: dict[str, Callable[[str], str]] = {"fitzpatrick": tables.skin_type, "source": str}
_FILLERS = re.compile("0+|9{2,}")
NOTES = (
    *("table_not_read", "line_without_photo", "photo_without_line", "table_label_conflict"),
    *(f"{key}_{kind}" for key in JOINING for kind in ("unknown", "look_alike", "of_many")),
)
"""Ids of all notes."""


class Note(NamedTuple):
    """Something about tables that is a finding: its id, how bad it is, examples and what to do."""

    id: str
    severity: Literal["high", "medium", "low"]
    examples: list[str]
    remedy: str


@dataclass
class Metadata:
    """What all tables say of the photos, by path; the tables that were read, as `audit.json` has them; and notes."""

    of_photo: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass
class _Scope:
    """Photos whose tables speak of the same patients: `labels` by path, and what the tables say of them."""

    labels: dict[str, str]
    used: list[PhotoTable] = field(default_factory=list)
    cells: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    lines: dict[tuple[str, str], tuple[PhotoTable, int]] = field(default_factory=dict)
    """By path and column, the table and its line that say it."""
    not_read: list[str] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)


def read_metadata(root: Root, listing: Listing) -> Metadata:
    """Read the tables beside the photos: path -> patient, lesion, group, source, and other columns by their own names.

    A patient, lesion or group of a table within a source is of that source alone, and the source is put before its
    name; what such a table says goes before what one of all sources says. Columns that the manifest has itself
    (`width`) are passed over.

    Raises:
        DatasetError: a table called `metadata` can't be read, or is of none of these photos; or tables contradict
            themselves or each other.
    """
    result, labels = Metadata(), {photo.path: photo.label for photo in listing.photos}
    for below in ["", *(f"{source}/" for source in listing.sources)]:
        scope = _Scope({path: label for path, label in labels.items() if path.startswith(below)})
        alone = below == "" and bool(listing.sources)  # its folders are the other scopes
        folders = folders_of(scope.labels, below, alone=alone) if below or isinstance(root, Path) else {}
        for parent, within in folders.items():
            for used in in_folder(root / parent, parent, within, scope.not_read):
                scope.used.append(used)
                result.tables.append(_add(used, scope))
        result.notes += [*_notes(scope), *_settle(scope)]
        for path, cells in scope.cells.items():
            scoped = {key: f"{below}{value}" if key in JOINING else value for key, value in cells.items()}
            result.of_photo[path] = result.of_photo.get(path, {}) | scoped
    result.notes += _suspicious(result.of_photo, labels)
    return result


def keys_of(cells: Mapping[str, str]) -> list[tuple[str, str]]:
    """What joins a photo to others, for `duplicates.photo_groups`: to be safe, names that look alike are one."""
    return [(key, folded(cells[key])) for key in JOINING if key in cells]


def _add(used: PhotoTable, scope: _Scope) -> dict[str, Any]:
    """Take what a table says into its scope; what `audit.json` has of it."""
    table, columns = used.table, {}
    for name in DESCRIBING:
        if named := table.named(USUAL[name]):
            columns[name] = named if name in JOINING else named[:1]
    if all(split_of(line.cells.get(columns.get("source", [""])[0], "")) for line in table.lines):
        columns.pop("source", None)  # a column `dataset` that says train and test
    label = _compare_labels(used, scope)
    taken = {column for named in columns.values() for column in named} | {*table.named(USUAL["file_name"])}
    others = [column for column in table.columns if column not in {*taken, *COLUMNS, label}]
    for number, (path, line) in enumerate(zip(used.photos, table.lines, strict=True)):
        values = {name: _one(used, number, name, line.cells, named) for name, named in columns.items()}
        values |= {column: line.cells.get(column, "") for column in others}
        for key, value in values.items() if path else ():
            before = scope.cells[path].get(key, "")
            if value and before not in ("", value) and not (tables.is_unknown(value) or tables.is_unknown(before)):
                table_before, line_before = scope.lines[path, key]
                if key in columns or table_before is used:
                    problem = f"{used.where(number)}: {path!r} has {key} {value!r}, and {before!r} in "
                    raise DatasetError(problem + table_before.where(line_before), "Keep the right one")
            elif value and (not before or tables.is_unknown(before)):
                scope.cells[path][key], scope.lines[path, key] = value, (used, number)
    return {
        "path": used.path,
        "lines": len(table.lines),
        "photos": len({*used.photos} - {""}),
        "columns": {name: ", ".join(named) for name, named in columns.items()} | ({"label": label} if label else {}),
        "other_columns": others,
        **({"encoding": table.encoding} if table.encoding else {}),
    }


def _one(used: PhotoTable, line: int, name: str, cells: dict[str, str], columns: Sequence[str]) -> str:
    """What the columns of one meaning say in a line; where only some know it, what these say."""
    values = [_FORMS.get(name, tables.as_id)(cells[column]) for column in columns if column in cells]
    known = list(dict.fromkeys(value for value in values if not tables.is_unknown(value)))
    if len(known) > 1:
        problem = f"{used.where(line)}: {' and '.join(columns)} name two of a {name}, {known[0]!r} and {known[1]!r}"
        raise DatasetError(problem, "Rename the column that is something else")
    return next(iter(known or (values if name in JOINING else ())), "")


def _compare_labels(used: PhotoTable, scope: _Scope) -> str:
    """The column that names classes as the folders do, at least half of them; empty where there is none."""
    classes = {*scope.labels.values()}
    for column in used.table.named(USUAL["label"]):
        cells = {path: line.cells.get(column, "") for path, line in zip(used.photos, used.table.lines, strict=True)}
        told = {path: value for path, value in cells.items() if path and not tables.is_unknown(value)}
        classed = join({*told.values()}, classes, {display_name(label): label for label in classes})
        if told and 2 * len(classed) >= len({*told.values()}):
            wrong = [path for path, value in told.items() if classed.get(value) != scope.labels[path]]
            scope.contradicted += [f"{path}: {told[path]!r} in {used.path}" for path in wrong]
            return column
    return ""


def _notes(scope: _Scope) -> Iterator[Note]:
    """What is wrong with a scope's tables."""
    yield Note("table_not_read", "medium", scope.not_read, f"Not taken into account: {''.join(scope.not_read[:1])}")
    numbered = [(used, number, path) for used in scope.used for number, path in enumerate(used.photos)]
    lost = [f"{used.where(number)}: {used.names[number]!r}" for used, number, path in numbered if not path]
    yield Note(
        "line_without_photo", "medium", lost, f"{''.join(lost[:1])} is no photo, or one of several: give its path"
    )
    named, parents = {path for _, _, path in numbered}, tuple(used.parent for used in scope.used)
    silent = [path for path in scope.labels if path.startswith(parents) and path not in named] if parents else []
    yield Note("photo_without_line", "low", silent, "The table says nothing of them: add lines, or they count alone")
    wrong = scope.contradicted
    yield Note("table_label_conflict", "high", wrong, f"{''.join(wrong[:1])}: keep the right one")


def _holders(cells: Mapping[str, Mapping[str, str]], key: str) -> dict[str, list[str]]:
    """The photos of every patient, lesion or group."""
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for path, own in cells.items():
        if key in own:
            holders[own[key]].append(path)
    return holders


def _settle(scope: _Scope) -> Iterator[Note]:
    """Take away patients, lesions and groups that are nobody's name; lesions numbered anew in each patient are theirs.

    `0` and `99` are no names only where they hold more photos, or of more classes, than any other.
    """
    for key in JOINING:
        holders = _holders(scope.cells, key)
        nobody = [value for value in holders if tables.is_unknown(value)]
        patients = {value: {scope.cells[path].get("patient") for path in paths} for value, paths in holders.items()}
        if key != "patient" and any(len(own - {None}) > 1 for value, own in patients.items() if value not in nobody):
            for own in scope.cells.values():
                if key in own and "patient" in own and own[key] not in nobody:
                    own[key] = f"{own['patient']}/{own[key]}"
        else:
            sizes = {value: (len(paths), _classes(paths, scope.labels)) for value, paths in holders.items()}
            names = [size for value, size in sizes.items() if value not in nobody and not _FILLERS.fullmatch(value)]
            most = [max((size[part] for size in names), default=0) for part in (0, 1)]
            fillers = [value for value in holders if _FILLERS.fullmatch(value)]
            nobody += [value for value in fillers if sizes[value][0] > most[0] or sizes[value][1] > most[1]]
        paths = [path for value in nobody for path in holders[value]]
        for path in paths:
            del scope.cells[path][key]
        counts = ", ".join(f"{value!r} ({len(holders[value])} photos)" for value in nobody[:5])
        yield Note(f"{key}_unknown", "low", paths, f"{counts}: taken for no {key}, each photo counts alone")


def _suspicious(cells: Mapping[str, Mapping[str, str]], labels: Mapping[str, str]) -> Iterator[Note]:
    """Patients, lesions and groups that join more than one would think, or two that may be one."""
    for key in JOINING:
        odd, holders = [], _holders(cells, key)
        for value, paths in holders.items():
            classes = _classes(paths, labels)
            if classes >= MANY_CLASSES or len(paths) > max(MANY_PHOTOS, len(labels) // 2):
                odd.append(f"{value!r}: {len(paths)} photos of {classes} classes")
        remedy = f"{odd[0] if odd else ''}, kept together as one {key}: if it is none, leave its cells empty"
        yield Note(f"{key}_of_many", "medium", odd, remedy)
        alike = [" and ".join(map(repr, group)) for group in look_alikes(holders)]
        yield Note(f"{key}_look_alike", "medium", alike, f"Taken for one {key}, to be safe: spell apart what is two")


def _classes(paths: Sequence[str], labels: Mapping[str, str]) -> int:
    return len({labels[path] for path in paths})
