"""`manifest.csv`, what is known of every photo."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import read_csv, sha256, write_csv
from spectraderm.core.names import tell_apart
from spectraderm.core.roots import Root
from spectraderm.core.tables import JOINING
from spectraderm.images.decoding import decode

COLUMNS = (
    *("path", "label", "given_split", "source", "sha256", "format", "width", "height", "bytes", "photo_group"),
    *("copy_group", "phash", "jpeg_quality", "ita", "skin_tone_estimate", "unusable"),
)
_NUMBERS = {
    "ita": float,
    **dict.fromkeys(("width", "height", "bytes", "photo_group", "copy_group", "jpeg_quality"), int),
}
_SINCE = ("source",)  # manifests of earlier versions lack it
_NEEDED = [name for name in COLUMNS[: COLUMNS.index("copy_group")] if name not in _SINCE]  # the others may be empty
_AUDIT_FIRST = "Run `spectraderm audit PHOTOS --out RUN` first"


@dataclass(frozen=True)
class Row:
    """One readable photo file. `path` is relative to the root, with forward slashes; sizes are in pixels and bytes.

    `photo_group` is the same for files that show one photo, patient or lesion; `given_split` is the split folder's
    meaning (`train`, `val`, `test`) or empty; `source` names who took the photo, where known; `metadata` holds the
    other columns of the tables beside the photos.
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
    source: str = ""


def display_name(label: str) -> str:
    """A class folder's name for people: `BA- cellulitis` -> `Cellulitis`, `FU-nail-fungus` -> `Nail fungus`.

    That of `other` is `None of these`.
    """
    if label == OTHER:
        return "None of these"
    name = re.sub(r"[\s_-]+", " ", re.sub(r"^[A-Z]{2}-\s*", "", label)).strip()
    return name[:1].upper() + name[1:] if name else label


def display_names(labels: Iterable[str]) -> dict[str, str]:
    """`display_name` of every class, told apart where some would be the same."""
    return tell_apart({label: display_name(label) for label in labels})


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
        for record in read_csv(path, [name for name in COLUMNS if name not in _SINCE], _AUDIT_FIRST):
            cells: dict[str, Any] = {name: record[name] for name in COLUMNS if record.get(name) or name in _NEEDED}
            numbers = {name: number(cells[name]) for name, number in _NUMBERS.items() if name in cells}
            rows.append(Row(**cells | numbers, metadata=_metadata(record)))
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error})", _AUDIT_FIRST) from error
    return rows


def open_photo(root: Root, row: Row) -> Image.Image:
    """Decode one photo. Raises `DatasetError` where it vanished or changed since the audit."""
    try:
        data = (root / row.path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{row.path} can't be read any more ({error.strerror})", "Run `audit` again") from error
    if sha256(data) != row.sha256:
        raise DatasetError(f"{row.path} was changed since the audit", "Run `audit` again, into a new run folder")
    return decode(data, row.path).image


def _metadata(record: Mapping[str, str]) -> dict[str, str]:
    """A line's cells that hold something, beside our own columns."""
    return {key: value for key, value in record.items() if key and value and key not in COLUMNS}
