"""The photos of a folder and their manifest: which file is a photo of which class and given split, and `manifest.csv`.

`metadata.csv` beside the photos may say more of each.
"""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import read_csv, sha256, write_csv
from spectraderm.images.decoding import HEIC_SUFFIXES, SUFFIXES, decode

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
JOINING = ("patient", "lesion", "group")
"""Columns of `metadata.csv` that join photos into one photo group; all others only describe them."""
COLUMNS = (
    *("path", "label", "given_split", "sha256", "format", "width", "height", "bytes", "photo_group"),
    *("copy_group", "phash", "jpeg_quality", "ita", "skin_tone_estimate", "unusable"),
)
_SUFFIXES = SUFFIXES | HEIC_SUFFIXES
_NUMBERS = {
    "ita": float,
    **dict.fromkeys(("width", "height", "bytes", "photo_group", "copy_group", "jpeg_quality"), int),
}
_NEEDED = COLUMNS[: COLUMNS.index("copy_group")]  # the others may be empty
_AUDIT_FIRST = "Run `spectraderm audit PHOTOS --out RUN` first"


class PhotoFile(NamedTuple):
    """A file that should be a photo: its path relative to the root, its class, and its folder's split or nothing."""

    path: str
    label: str
    given_split: str


@dataclass
class Listing:
    """The photo files of a folder, and what is not read: other files, links out of it, and folders too deep."""

    photos: list[PhotoFile] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One readable photo file. `path` is relative to the root, with forward slashes; sizes are in pixels and bytes.

    `photo_group` is the same for files that show one photo, patient or lesion; `given_split` is the split folder's
    meaning (`train`, `val`, `test`) or empty; `metadata` holds the other columns of `metadata.csv`.
    Measured, where known: `copy_group` is the same for files that show one photo (None: take `photo_group`), `phash`
    the photo's own 64-bit hash as 16 hexadecimal digits, `jpeg_quality` that of its last save (0: unknown), `ita` the
    skin's individual typology angle in degrees, `skin_tone_estimate` the group that angle falls into, and `unusable`
    the flaw for which the quality gate would refuse the photo.
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
    copy_group: int | None = None
    phash: str = ""
    jpeg_quality: int = 0
    ita: float | None = None
    skin_tone_estimate: str = ""
    unusable: str = ""


def display_name(label: str) -> str:
    """A class folder's name for people: `BA- cellulitis` -> `Cellulitis`, `FU-nail-fungus` -> `Nail fungus`."""
    name = re.sub(r"[\s_-]+", " ", re.sub(r"^[A-Z]{2}-\s*", "", label)).strip()
    return name[:1].upper() + name[1:] if name else label


def list_photos(root: Path) -> Listing:
    """List the photos of `root/<split>/<class>/*` or `root/<class>/*`, sorted by path.

    Hidden files and folders are passed over; links that lead out of `root` are not followed.

    Raises:
        DatasetError: no such folder, no photos, fewer than two classes, or a class that only the test split has.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", "Give the folder that holds the class or split folders")
    listing = Listing()
    folders = _folders(root, "", listing)
    splits = {folder: SPLIT_FOLDERS.get(folder.lower(), "") for folder in folders}
    if not any(splits.values()):
        for label in folders:
            _list_class(root, PhotoFile(label, label, ""), listing)
    else:
        for folder in folders:
            listing.nested += [] if splits[folder] else [folder]
            for label in _folders(root, f"{folder}/", listing) if splits[folder] else ():
                _list_class(root, PhotoFile(f"{folder}/{label}", label, splits[folder]), listing)
    labels = {photo.label for photo in listing.photos}
    if len(labels) < 2:
        raise DatasetError(
            f"{root} holds photos of {len(labels)} classes, two are needed",
            "Put the photos into one folder per class, or into train/<class> and test/<class>",
        )
    for label in sorted(labels - {photo.label for photo in listing.photos if photo.given_split in ("train", "")}):
        raise DatasetError(f"{root}: class {label!r} has no training photos", "Name its folder the same in every split")
    return listing


def read_metadata(root: Path, paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Read `root/metadata.csv`, if there is one: path -> its columns that are not empty, of any name.

    Columns that the manifest has itself (`label`, `width`) are passed over.

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
                metadata[name] = _metadata(record)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} can't be read ({error})", "Save it as UTF-8 CSV") from error
    return metadata


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `manifest.csv`: `COLUMNS`, then the metadata columns that any photo has, joining ones first."""
    extra = dict.fromkeys(key for key in JOINING if any(key in row.metadata for row in rows))
    extra |= dict.fromkeys(key for row in rows for key in row.metadata)
    records = ({**{name: getattr(row, name) for name in COLUMNS}, **row.metadata} for row in rows)
    write_csv(path, (*COLUMNS, *extra), records)


def read(path: Path) -> list[Row]:
    """Read `manifest.csv` back. Raises `RunFolderError` where it is missing or lacks one of `COLUMNS`."""
    rows = []
    try:
        for record in read_csv(path, COLUMNS, _AUDIT_FIRST):
            cells: dict[str, Any] = {name: record[name] for name in COLUMNS if record[name] or name in _NEEDED}
            numbers = {name: number(cells[name]) for name, number in _NUMBERS.items() if name in cells}
            rows.append(Row(**cells | numbers, metadata=_metadata(record)))
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error})", _AUDIT_FIRST) from error
    return rows


def open_photo(root: Path, row: Row) -> Image.Image:
    """Decode one photo. Raises `DatasetError` where it vanished or changed since the audit."""
    try:
        data = (root / row.path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{row.path} can't be read any more ({error.strerror})", "Run `audit` again") from error
    if sha256(data) != row.sha256:
        raise DatasetError(f"{row.path} was changed since the audit", "Run `audit` again, into a new run folder")
    return decode(data, row.path).image


def _folders(root: Path, parent: str, listing: Listing) -> list[str]:
    """Names of the folders in `parent` (empty, or ending in a slash); photos beside them are other files."""
    folders = []
    for name in _names(root, parent, listing):
        if (root / parent / name).is_dir():
            if _printable(name) != name:
                raise DatasetError(f"{root}: the name of folder {parent + name!r} is not UTF-8", "Rename it")
            folders.append(name)
        elif Path(name).suffix.lower() in _SUFFIXES:
            listing.other_files.append(_printable(parent + name))
    return folders


def _list_class(root: Path, folder: PhotoFile, listing: Listing) -> None:
    for name in _names(root, f"{folder.path}/", listing):
        path = f"{folder.path}/{name}"
        if (root / path).is_dir():
            listing.nested.append(_printable(path))
        elif Path(name).suffix.lower() in _SUFFIXES and _printable(name) == name:
            listing.photos.append(folder._replace(path=path))
        else:
            listing.other_files.append(_printable(path))


def _names(root: Path, parent: str, listing: Listing) -> list[str]:
    """What is in a folder and not hidden; links out of `root` go to the listing. `Path.resolve` fails on link loops."""
    try:
        names = sorted(name for name in os.listdir(root / parent) if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{root / parent} can't be listed ({error})", "Check its permissions") from error
    home = os.path.realpath(root)
    links = [name for name in names if (root / parent / name).is_symlink()]
    out = [name for name in links if not Path(os.path.realpath(root / parent / name)).is_relative_to(home)]
    listing.outside += [_printable(parent + name) for name in out]
    return [name for name in names if name not in out]


def _printable(name: str) -> str:
    r"""A name with `\xe9` in place of bytes that are not UTF-8, so that it can be written."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _metadata(record: Mapping[str, str | None]) -> dict[str, str]:
    """A line's cells beside our own columns. Cells without a header come under None, missing ones as None."""
    own = {"file_name", *COLUMNS}
    cells = {key: value.strip() for key, value in record.items() if isinstance(value, str)}
    return {key: value for key, value in cells.items() if key and value and key not in own}
