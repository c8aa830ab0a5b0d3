"""Tables that people bring, whatever program saved them, and the usual names of their columns.

CSV with commas, semicolons, tabs or bars, JSON lines, and a JSON list of objects; in UTF-8, UTF-16 or, where neither
fits, Windows-1252. What can't be read for sure is refused, with its line.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from spectraderm.core.errors import DatasetError
from spectraderm.core.files import read_regular
from spectraderm.core.names import same
from spectraderm.core.printable import restored

JOINING = ("patient", "lesion", "group")
"""Columns that join photos into one photo group; all others only describe them."""
USUAL = {
    "file_name": (
        *("file_name", "filename", "file", "file_path", "image_file", "image_name", "image_path", "image", "image_id"),
        *("img", "img_id", "img_name", "img_path", "photo", "photo_id", "photo_name", "picture", "path", "isic_id"),
        *("ddi_file", "md5hash"),
    ),
    "patient": (
        *("patient", "patient_id", "patient_name", "patient_number", "patient_no", "patient_code", "pat_id", "pid"),
        *("subject", "subject_id", "person", "person_id", "participant", "participant_id", "mrn"),
    ),
    "lesion": ("lesion", "lesion_id", "lesion_number", "lesion_no"),
    "group": ("group", "group_id", "case", "case_id", "case_number"),
    "source": ("source", "dataset", "institution", "hospital", "clinic", "centre", "center"),
    "fitzpatrick": ("fitzpatrick", "fitzpatrick_skin_type", "fitzpatrick_scale", "fitspatrick", "skin_type", "fst"),
    "monk": ("monk", "monk_skin_tone", "mst"),
    "label": ("label", "labels", "class", "class_name", "dx", "diagnosis", "diagnostic", "disease", "target"),
}
"""What a column is -> the names it goes by, in any case and with spaces, hyphens or nothing for `_`; the first one that
a table has counts. Not `site`: of public sets it is a part of the body.
"""
FOLDERS = ("folder", "folder_name", "directory", "dir", "original", "original_label", "name")
"""Names of a label map's first column."""
_UNKNOWN = {
    *("unknown", "unk", "na", "nan", "none", "null", "nil", "nat", "missing", "undefined", "unspecified", "refna"),
    *("notavailable", "notknown", "notapplicable", "notgiven", "notprovided", "notrecorded", "unidentified", "tbd"),
    *("anonymous", "anon", "anonymized", "anonymised", "deidentified", "redacted", "noid", "unknownpatient"),
}
_SENTINELS = re.compile(r"-(1|9{1,4})(\.0)?")
_MOST = 2**28
"""Bytes of a table that is read, at most."""
_SAVE = "Save it as CSV in UTF-8"


class Line(NamedTuple):
    """A line that holds something: its number in the file, and by column its cells that do."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as it was read; `columns` are as the file names them, but trimmed.

    `encoding` is empty but where it had to be guessed.
    """

    path: Path
    columns: list[str]
    lines: list[Line]
    encoding: str = ""

    def named(self, names: Sequence[str]) -> list[str]:
        """Those of its columns that go by some names, in the order of the names."""
        wanted = [folded(name) for name in names]
        return sorted(
            (column for column in self.columns if folded(column) in wanted), key=lambda own: wanted.index(folded(own))
        )


def folded(header: str) -> str:
    """A column's name without case, spaces, hyphens, underscores and punctuation."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", header).casefold() if letter.isalnum())


@lru_cache(2**16)
def is_unknown(value: str) -> bool:
    """Whether a cell only says that something is not known: `NA`, `unknown`, `-`, `?`, `-1` and the like."""
    return not folded(value) or folded(value) in _UNKNOWN or bool(_SENTINELS.fullmatch(value))


def as_id(value: str) -> str:
    """A number that a program made of an id is that id: `3.0` -> `3`. All else stays, `007` too."""
    number = re.fullmatch(r"(\d+)\.0+", value)
    return number[1] if number else value


def skin_type(value: str) -> str:
    """A Fitzpatrick type as a digit: `III`, `FST3`, `Type 3` and `3.0` are `3`. All else stays, `3-4` too."""
    text = re.sub(r"^(fitzpatrick|skin|type|fst|\s)+", "", value.casefold())
    return {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}.get(text, as_id(text) or value)


def read(path: Path) -> Table:
    """Read a table.

    Raises:
        DatasetError: it is no text, has no header, two columns of one name, a line with more or fewer cells than the
            header, or a quote that never ends.
    """
    try:
        data = read_regular(path, _MOST)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} can't be read ({getattr(error, 'strerror', error)})", _SAVE) from error
    return parse(data, path)


def parse(data: bytes, path: Path, *, trim: bool = True) -> Table:
    """Read the table that a file called `path` holds, as `read` does; without `trim`, cells keep their spaces."""
    text, encoding = _decode(data, path)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    columns, lines = _json(text, path) if is_json else _separated(text, path, same if trim else str)
    return Table(path, columns, lines, encoding)


def read_label_map(
    path: Path,
    first: str = "folder",
    key: Callable[[str], str] = lambda text: text.rstrip("/\\"),
    data: bytes | None = None,
) -> dict[str, str]:
    """The label of every folder (or whatever its column `first` is called) that a table names, empty for none.

    Two names of the same `key` are one. `data` is what the file holds, where it is not to be read.

    Raises:
        DatasetError: as `read`; a column lacks; or one folder has two labels.
    """
    table = read(path) if data is None else parse(data, path)
    folders, labels = table.named(FOLDERS), table.named(USUAL["label"])
    if not folders or not labels:
        problem = f"{path} has no column {'label' if folders else first}, but {', '.join(table.columns[:5])}"
        raise DatasetError(problem, f"Its first line must be {first},label")
    wanted: dict[str, str] = {}
    for line in table.lines:
        folder, label = line.cells.get(folders[0], ""), line.cells.get(labels[0], "")
        if wanted.setdefault(key(folder), label) != label:
            problem = f"{path}, line {line.number}: {folder!r} is {label!r}, and {wanted[key(folder)]!r} before"
            raise DatasetError(problem, "Keep one of the lines")
    return wanted


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    """The text of a file, and its encoding where that had to be guessed."""
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
    marked = next((encoding for mark, encoding in marks.items() if data.startswith(mark)), "")
    for encoding in [marked] if marked else ["utf-8", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise DatasetError(f"{path} is no text: it holds zero bytes", _SAVE)
        return text, "Windows-1252" if encoding == "cp1252" else ""
    raise DatasetError(f"{path} can't be read: it is neither UTF-8 nor UTF-16 nor Windows-1252", _SAVE)


def _separated(text: str, path: Path, cell: Callable[[str], str]) -> tuple[list[str], list[Line]]:
    first, _, rest = text.lstrip("\n").partition("\n")
    named = re.fullmatch(r'"?sep=(.)"?[\s;,]*', first, re.IGNORECASE)  # as Excel reads and writes it
    if named:
        text = "\n" * (text.count("\n") - rest.count("\n")) + rest
    separator = named[1] if named else _separator(text)
    text = re.sub(rf'" +(?=[{re.escape(separator)}\n])', '"', text)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=cell is same, strict=True)
    rows = ((reader.line_num, [cell(restored(each)) for each in row]) for row in reader)
    lines: list[Line] = []
    try:
        filled = ((number, row) for number, row in rows if any(row))
        columns = [same(column) for column in next(filled, (1, [""]))[1]]
        _check_header(columns, path)
        lines = [Line(number, _cells(columns, row, f"{path}, line {number}")) for number, row in filled]
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}, can't be read ({error})", _SAVE) from error
    return [column for column in columns if column], lines


def _separator(text: str) -> str:
    """The separator by which the header has the most of the usual columns, or else the most columns."""
    usual = {folded(name) for names in (*USUAL.values(), FOLDERS) for name in names}

    def columns(separator: str) -> tuple[int, int]:
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
        try:
            header = next((row for row in reader if any(cell.strip() for cell in row)), [])
        except csv.Error:
            return 0, 0
        return len({folded(same(cell)) for cell in header} & usual), len(header)

    return max(",;\t|", key=columns)


def _check_header(columns: list[str], path: object) -> None:
    if not any(columns):
        raise DatasetError(f"{path} is empty", "Give it a first line with the names of its columns")
    names = [column.casefold() for column in columns if column]
    for column in (column for column in columns if names.count(column.casefold()) > 1):
        raise DatasetError(f"{path} has two columns {column!r}", "Rename or delete one")


def _cells(columns: Sequence[str], row: Sequence[str], where: str) -> dict[str, str]:
    if len(row) < len(columns) or any(row[len(columns) :]):
        problem = f"{where}, has {len(row)} cells, its header has {len(columns)}"
        raise DatasetError(problem, "Put cells that hold the separator into quotes, and leave none out")
    return {column: cell for column, cell in zip(columns, row, strict=False) if column and cell}


def _json(text: str, path: Path) -> tuple[list[str], list[Line]]:
    lines = []
    for number, record in _objects(text, path):
        _check_header([same(key) for key, _ in record], f"{path}, line {number},")
        cells = {same(key): same(value if isinstance(value, str) else json.dumps(value)) for key, value in record}
        lines.append(Line(number, {key: cell for key, cell in cells.items() if key and cell not in ("", "null")}))
    columns = list(dict.fromkeys(key for line in lines for key in line.cells))
    _check_header(columns, path)
    return columns, lines


def _objects(text: str, path: Path) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """The objects of JSON lines, or of one list, as pairs of key and value, each with its number."""
    whole = path.suffix.lower() == ".json"
    parts: Iterable[tuple[int, str]] = [(1, text)] if whole else enumerate(text.split("\n"), 1)
    for number, part in parts:
        if part.strip():
            try:
                read = json.loads(part, object_pairs_hook=_Pairs)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{path}, line {number}, is not JSON ({error})", "Give an object a line") from error
            for index, record in enumerate(read if whole and type(read) is list else [read], number):
                if not isinstance(record, _Pairs) or (whole and type(read) is not list):
                    raise DatasetError(f"{path}, line {number}, is no object of names and values", _SAVE)
                yield index, record


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with every key it has, those that it has twice, too."""
