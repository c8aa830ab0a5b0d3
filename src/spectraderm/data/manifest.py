"""`manifest.csv`: one row per readable photo, and what `metadata.csv` beside the photos says of it."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectraderm.core import artifacts
from spectraderm.core.errors import DatasetError, RunFolderError

JOINING = ("patient", "lesion", "group")
"""Columns of `metadata.csv` that join photos into one photo group; all others only describe them."""
COLUMNS = ("path", "label", "given_split", "sha256", "format", "width", "height", "bytes", "photo_group")
MEASURED = ("copy_group", "phash", "jpeg_quality", "ita", "skin_tone_estimate", "unusable")
"""Columns that manifests written by 0.1.0 lack; they are read with their defaults."""
_AUDIT_FIRST = "Run `spectraderm audit PHOTOS --out RUN` first"


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
    name = re.sub(r"^[A-Z]{2}-\s*", "", label)
    name = re.sub(r"[\s_-]+", " ", name).strip()
    return name[:1].upper() + name[1:] if name else label


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
                metadata[name] = _metadata_of(record)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{file} can't be read ({error})", "Save it as UTF-8 CSV") from error
    return metadata


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write `manifest.csv`: `COLUMNS`, `MEASURED`, then the metadata columns that any photo has, joining ones first."""
    extra = dict.fromkeys(key for key in JOINING if any(key in row.metadata for row in rows))
    extra |= dict.fromkeys(key for row in rows for key in row.metadata)
    names = (*COLUMNS, *MEASURED)
    records = ({**{name: getattr(row, name) for name in names}, **row.metadata} for row in rows)
    artifacts.write_csv(path, (*names, *extra), records)


def read(path: Path) -> list[Row]:
    """Read `manifest.csv` back. Raises `RunFolderError` where it is missing or lacks one of `COLUMNS`."""
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
        metadata=_metadata_of(record),
        copy_group=int(record["copy_group"]) if record.get("copy_group") else None,
        phash=record.get("phash") or "",
        jpeg_quality=int(record.get("jpeg_quality") or 0),
        ita=float(record["ita"]) if record.get("ita") else None,
        skin_tone_estimate=record.get("skin_tone_estimate") or "",
        unusable=record.get("unusable") or "",
    )


def _metadata_of(record: dict[str, str]) -> dict[str, str]:
    """What a line says beside our own columns. Cells without a header come under None, missing ones as None."""
    own = {"file_name", *COLUMNS, *MEASURED}
    cells = {key: value.strip() for key, value in record.items() if isinstance(value, str)}
    return {key: value for key, value in cells.items() if key and value and key not in own}
