"""The tables of public photo sets, as their owners publish them: which photo has which label, case, patient and tone.

Written after the published schemas. A table may lie in the folder itself or anywhere below it, as archives unpack.
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectraderm.core import tables
from spectraderm.core.errors import DatasetError
from spectraderm.data.class_folders import SPLIT_FOLDERS
from spectraderm.images.photo_files import HEIC_SUFFIXES, SUFFIXES

PHOTO_SUFFIXES = SUFFIXES | HEIC_SUFFIXES

Row = Mapping[str, str]

_FEET = ("body_parts_foot_top_or_side", "body_parts_foot_sole")
_DIAGNOSES = ("diagnosis", *(f"diagnosis_{depth}" for depth in (5, 4, 3, 2, 1)))
"""Of the ISIC Archive: one column in older downloads, five that become finer in newer ones."""


@dataclass(frozen=True)
class Listed:
    """A photo as its owner's table lists it.

    Attributes:
        file: its file name, with or without suffix, or its path in the folder.
        label: the owner's label.
        about: what else is known of it: `patient`, `lesion` (also a case), `fitzpatrick`, `age` and such.
        folder: its split folder, where the owner split the photos.
        why: why it can't be used, whatever its label is called; empty where it can.
    """

    file: str
    label: str
    about: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    why: str = ""


def scin(folder: Path, min_weight: float) -> list[Listed]:
    """SCIN: cases of up to three photos, each with the dermatologists' labels weighted to a sum of 1.

    The likeliest label counts where it weighs `min_weight` or more, and more than the second. Tinea is split by the
    body parts that were ticked: `Tinea (foot)`, `Tinea (foot and elsewhere)`, `Tinea`.
    """
    cases = _table(folder, ["scin_cases.csv"], ["case_id", "image_1_path"])
    weighted = _table(folder, ["scin_labels.csv"], ["case_id", "weighted_skin_condition_label"])
    labels = {row["case_id"]: row for row in weighted}
    photos = []
    for case in cases:
        row = labels.get(case["case_id"], {})
        label, weight, why = _likeliest(row.get("weighted_skin_condition_label", ""), min_weight, case["case_id"])
        tones = [_digits(row.get(f"dermatologist_fitzpatrick_skin_type_label_{n}")) for n in (1, 2, 3)]
        known = Counter(tone for tone in tones if tone).most_common(1)
        about = {
            "lesion": case["case_id"],
            "fitzpatrick": known[0][0] if known else _digits(case.get("fitzpatrick_skin_type")),
            "monk": _whole(row.get("monk_skin_tone_label_us")) or _whole(row.get("monk_skin_tone_label_india")),
            "age": case.get("age_group", ""),
            "sex": case.get("sex_at_birth", ""),
            "label_weight": weight,
        }
        files = [case.get(f"image_{n}_path", "") for n in (1, 2, 3)]
        label = _tinea(case) if label == "Tinea" else label
        photos += [Listed(Path(file).name, label, about, why=why) for file in files if file]
    return photos


def _likeliest(text: str, min_weight: float, case: str) -> tuple[str, str, str]:
    """The likeliest of SCIN's weighted labels, its weight, and why it can't be used."""
    try:
        weights = {str(name): float(weight) for name, weight in ast.literal_eval(text or "{}").items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        problem = f"scin_labels.csv: the weighted labels of case {case} are no table of weights"
        raise DatasetError(problem, "Give the file as its owner publishes it") from error
    (label, weight), *others = sorted(weights.items(), key=lambda each: -each[1]) or [("", 0.0)]
    if not label:
        return "", "", "no dermatologist's label"
    if weight < min_weight:
        return label, f"{weight:.2f}", f"likeliest label weighs less than {min_weight:g}"
    tied = others and others[0][1] == weight
    return label, f"{weight:.2f}", "two labels weigh the same" if tied else ""


def _tinea(case: Row) -> str:
    ticked = {name for name, value in case.items() if name.startswith("body_parts_") and value in ("YES", "True")}
    if not ticked & {*_FEET}:
        return "Tinea"
    return "Tinea (foot and elsewhere)" if ticked - {*_FEET} else "Tinea (foot)"


def fitzpatrick17k(folder: Path, _: float) -> list[Listed]:
    """Fitzpatrick17k: photos named by their MD5, of two atlases; nothing joins the photos of one patient."""
    rows = _table(folder, ["fitzpatrick17k.csv"], ["md5hash", "label"])
    tones = ("fitzpatrick_scale", "fitzpatrick", "fitzpatrick_centaur")  # -1: not known
    return [
        Listed(
            row["md5hash"], row["label"], {"fitzpatrick": next(filter(None, (_whole(row.get(n)) for n in tones)), "")}
        )
        for row in rows
    ]


def pad_ufes_20(folder: Path, _: float) -> list[Listed]:
    """PAD-UFES-20: smartphone photos of lesions, several of a patient."""
    photos = []
    for row in _table(folder, ["metadata.csv"], ["patient_id", "lesion_id", "img_id", "diagnostic"]):
        lesion, tone = f"{row['patient_id']}/{row['lesion_id']}", _whole(row.get("fitspatrick"))
        about = {"patient": row["patient_id"], "lesion": lesion, "fitzpatrick": tone}
        about |= _about(row, age="age", sex="gender", site="region")
        photos.append(Listed(row["img_id"], row["diagnostic"], about))
    return photos


def ddi(folder: Path, _: float) -> list[Listed]:
    """DDI: photos of biopsied lesions with the skin tone in three groups of two Fitzpatrick types: 12, 34, 56."""
    rows = _table(folder, ["ddi_metadata.csv"], ["ddi_file", "skin_tone", "disease"])
    tones = {pair: "-".join(pair) for pair in ("12", "34", "56")}
    return [
        Listed(row["ddi_file"], row["disease"], {"fitzpatrick": tones.get(_whole(row["skin_tone"]), "")})
        for row in rows
    ]


def ham10000(folder: Path, _: float) -> list[Listed]:
    """HAM10000: dermatoscopic photos, several of a lesion."""
    names = ["HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab"]
    return [
        Listed(row["image_id"], row["dx"], _about(row, lesion="lesion_id", age="age", sex="sex", site="localization"))
        for row in _table(folder, names, ["lesion_id", "image_id", "dx"])
    ]


def isic(folder: Path, _: float) -> list[Listed]:
    """The ISIC Archive, as its own tool downloads it: each photo with a licence and an attribution of its own."""
    photos = []
    for row in _table(folder, ["metadata.csv"], ["isic_id"]):
        label = next((row[name] for name in _DIAGNOSES if row.get(name)), "")
        about = _about(row, patient="patient_id", lesion="lesion_id", fitzpatrick="fitzpatrick_skin_type")
        about["fitzpatrick"] = tables.skin_type(about["fitzpatrick"])
        about |= _about(row, age="age_approx", sex="sex", licence="copyright_license", attribution="attribution")
        photos.append(Listed(row["isic_id"], label, about, why="" if label else "no diagnosis"))
    return photos


def reference(folder: Path, _: float) -> list[Listed]:
    """Kaggle's copy of the reference photos, in its own training and test folders, which it keeps."""
    homes = sorted({path.parent for path in folder.rglob("train_set") if path.is_dir()}, key=lambda p: len(p.parts))
    if not homes:
        raise DatasetError(f"{folder} has no folder train_set", "Give the folder that the archive was unpacked into")
    files = sorted(path for split in SPLIT_FOLDERS for path in homes[0].glob(f"{split}/*/*"))
    return [
        Listed(path.relative_to(folder).as_posix(), path.parent.name, folder=path.parent.parent.name)
        for path in files
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    ]


READERS: dict[str, Callable[[Path, float], list[Listed]]] = {
    "scin": scin,
    "fitzpatrick17k": fitzpatrick17k,
    "pad-ufes-20": pad_ufes_20,
    "ddi": ddi,
    "ham10000": ham10000,
    "isic": isic,
    "reference": reference,
}
"""What each set's folder is read by."""


def _table(folder: Path, names: Sequence[str], needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows of an owner's table by column, in lower case; the first of these names, nearest to the folder's top.

    Raises:
        DatasetError: there is none, it can't be read, or a column lacks.
    """
    order = {name.lower(): number for number, name in enumerate(names)}
    files = [path for path in folder.rglob("*") if path.name.lower() in order and path.is_file()]
    if not files:
        raise DatasetError(f"{folder} has no {names[0]}", "Give the folder that holds what the set's owner publishes")
    table = tables.read(min(files, key=lambda path: (len(path.parts), order[path.name.lower()], path)))
    columns = {column: column.lower().replace(" ", "_") for column in table.columns}
    if missing := [name for name in needed if name not in columns.values()]:
        raise DatasetError(f"{table.path} has no column {', '.join(missing)}", "Give it as its owner publishes it")
    return [
        dict.fromkeys(columns.values(), "") | {columns[key]: cell for key, cell in line.cells.items()}
        for line in table.lines
    ]


def _about(row: Row, **columns: str) -> dict[str, str]:
    """What some columns say, by what that is; empty where the table has no such column."""
    return {name: row.get(column, "") for name, column in columns.items()}


def _digits(text: str | None) -> str:
    """`FST3` -> `3`; empty where there is no digit."""
    return "".join(letter for letter in text or "" if letter.isdecimal())


def _whole(text: str | None) -> str:
    """`3.0` -> `3`; empty for what is no number above 0."""
    try:
        value = float(text or "")
    except ValueError:
        return ""
    return str(int(value)) if 0 < value < 1000 else ""
