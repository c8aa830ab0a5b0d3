"""A folder of photos -> which files are photos, of which class, in which given split. Decodes nothing."""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectraderm import artifacts
from spectraderm.errors import DatasetError, RunFolderError
from spectraderm.preprocessing import HEIC_SUFFIXES, SUFFIXES

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
METADATA = ("patient", "lesion", "group", "source", "skin_tone")
COLUMNS = ("path", "label", "given_split", "sha256", "format", "width", "height", "bytes", "photo_group")
_AUDIT_FIRST = "Run `spectraderm audit PHOTOS --out RUN` first"


@dataclass
class Found:
    """What a walk over the folder met: photos as (relative path, label, given split), and all that was left out."""

    photos: list[tuple[str, str, str]] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One readable photo file. `path` is relative to the root, with forward slashes; sizes are in pixels and bytes.

    `photo_group` is the same for files that show one photo, patient or lesion; `given_split` is the split folder's
    meaning (`train`, `val`, `test`) or empty; `metadata` holds the columns of `metadata.csv` that are known.
    """

    path: str
    label: str
    given_split: str
    sha256: str
    format: str
    width: int
    height: int
    bytes: int
    photo_group: int
    metadata: dict[str, str] = field(default_factory=dict)


def display_name(label: str) -> str:
    """A class folder's name for people: `BA- cellulitis` -> `Cellulitis`, `FU-nail-fungus` -> `Nail fungus`."""
    name = re.sub(r"^[A-Z]{2}-\s*", "", label)
    name = re.sub(r"[\s_-]+", " ", name).strip()
    return name[:1].upper() + name[1:] if name else label


def walk(root: Path) -> Found:
    """List the photos of `root/<split>/<class>/*` or `root/<class>/*`, sorted by path.

    Hidden files and folders are passed over; links that lead out of `root` are not followed.

    Raises:
        DatasetError: no such folder, no photos, fewer than two classes, or a class that only the test split has.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", "Give the folder that holds the class or split folders")
    found = Found()
    folders = _visible_folders(root, "", found)
    splits = {folder: SPLIT_FOLDERS.get(folder.lower(), "") for folder in folders}
    if any(splits.values()):
        for folder in folders:
            if splits[folder]:
                for label in _visible_folders(root, f"{folder}/", found):
                    _list_class(root, f"{folder}/{label}", label, splits[folder], found)
            else:
                found.nested.append(folder)
    else:
        for label in folders:
            _list_class(root, label, label, "", found)
    _check_classes(root, found)
    return found


def read_metadata(root: Path, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `root/metadata.csv`, if there is one: path -> its known columns that are not empty.

    Raises:
        DatasetError: no `file_name` column, a file named twice, or one that is not among `paths`.
    """
    file = root / "metadata.csv"
    if not file.is_file():
        return {}
    known = set(paths)
    metadata: dict[str, dict[str, str]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if "file_name" not in (reader.fieldnames or ()):
                raise DatasetError(f"{file} has no column file_name", "Its first column must be file_name")
            for line, record in enumerate(reader, start=2):
                name = (record["file_name"] or "").replace("\\", "/").removeprefix("./")
                if name not in known:
                    raise DatasetError(
                        f"{file}, line {line}: no photo {name!r}", "Give paths relative to the folder of metadata.csv"
                    )
                if name in metadata:
                    raise DatasetError(f"{file}, line {line}: {name!r} stands there twice", "Keep one of the lines")
                metadata[name] = {key: record[key].strip() for key in METADATA if (record.get(key) or "").strip()}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} can't be read ({error})", "Save it as UTF-8 CSV") from error
    return metadata


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `manifest.csv`: `COLUMNS`, then those metadata columns that any photo has."""
    extra = [key for key in METADATA if any(key in row.metadata for row in rows)]
    records = ({**{name: getattr(row, name) for name in COLUMNS}, **row.metadata} for row in rows)
    artifacts.write_csv(path, (*COLUMNS, *extra), records)


def read(path: Path) -> list[Row]:
    """Read `manifest.csv` back. Raises `RunFolderError` where it is missing or lacks a column."""
    records = artifacts.read_csv(path, COLUMNS, _AUDIT_FIRST)
    try:
        return [_row(record) for record in records]
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error})", _AUDIT_FIRST) from error


def _row(record: dict[str, str]) -> Row:
    return Row(
        path=record["path"],
        label=record["label"],
        given_split=record["given_split"],
        sha256=record["sha256"],
        format=record["format"],
        width=int(record["width"]),
        height=int(record["height"]),
        bytes=int(record["bytes"]),
        photo_group=int(record["photo_group"]),
        metadata={key: record[key] for key in METADATA if record.get(key)},
    )


def _visible_folders(root: Path, parent: str, found: Found) -> list[str]:
    """Names of the folders in `parent` (empty, or ending in a slash); photos beside them go to `found`."""
    folders = []
    for name in _names(root, parent):
        if _leads_out(root, parent + name):
            found.outside.append(_printable(parent + name))
        elif (root / parent / name).is_dir():
            if not _is_utf8(name):
                raise DatasetError(f"{root}: the name of folder {parent + name!r} is not UTF-8", "Rename it")
            folders.append(name)
        elif Path(name).suffix.lower() in SUFFIXES | HEIC_SUFFIXES:
            found.other_files.append(_printable(parent + name))
    return folders


def _list_class(root: Path, folder: str, label: str, split: str, found: Found) -> None:
    for name in _names(root, folder):
        path = f"{folder}/{name}"
        if _leads_out(root, path):
            found.outside.append(_printable(path))
        elif (root / path).is_dir():
            found.nested.append(_printable(path))
        elif Path(name).suffix.lower() in SUFFIXES | HEIC_SUFFIXES and _is_utf8(name):
            found.photos.append((path, label, split))
        else:
            found.other_files.append(_printable(path))


def _names(root: Path, folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(root / folder) if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{root / folder} can't be listed ({error})", "Check its permissions") from error


def _leads_out(root: Path, path: str) -> bool:
    """Whether it is a link out of `root`. `realpath` bears link loops, `Path.resolve` does not."""
    file = root / path
    return file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def _is_utf8(name: str) -> bool:
    return _printable(name) == name


def _printable(name: str) -> str:
    r"""A name with `\xe9` in place of bytes that are not UTF-8, so that it can be written."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _check_classes(root: Path, found: Found) -> None:
    labels = {label for _, label, _ in found.photos}
    if len(labels) < 2:
        raise DatasetError(
            f"{root} holds photos of {len(labels)} classes, two are needed",
            "Put the photos into one folder per class, or into train/<class> and test/<class>",
        )
    trained = {label for _, label, split in found.photos if split in ("train", "")}
    for label in sorted(labels - trained):
        raise DatasetError(f"{root}: class {label!r} has no training photos", "Name its folder the same in every split")
