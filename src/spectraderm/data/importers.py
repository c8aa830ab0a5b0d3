"""A public set, as its owner publishes it -> a folder of photos by class, with patients, cases, tones and licence.

Labels become classes by a table of two columns, `original,label`, one a set in `data/imports/`: a class of the default
model, `other` (none of its classes), or nothing (left out). Labels that look alike (`core.names`) are one. What stands
in no line is left out, too, and told.
"""

import csv
import io
import os
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from spectraderm.core import OTHER, tables
from spectraderm.core.errors import DatasetError
from spectraderm.core.files import check_writable, read_json, sha256, write_bytes, write_csv, write_errors, write_json
from spectraderm.core.names import folded, unite
from spectraderm.core.printable import stored
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Folders, Root
from spectraderm.data.class_folders import check_class
from spectraderm.data.public_sets import PHOTO_SUFFIXES, READERS, Listed
from spectraderm.images.photo_files import is_debris, why_left_out

DATASET, LABELS, METADATA = "dataset.json", "label_map.csv", "metadata.csv"
MIN_WEIGHT = 0.5
"""Of SCIN's likeliest label, from which a photo is taken."""
ANY = "*"
"""In place of a label: its line is for all labels that have none of their own."""
SHOWN = 20
"""How many missing photos `dataset.json` names."""

_LICENCE_FACTS = ("title", "homepage", "licence", "redistributable_training", "terms", "citation")
_FREE = {"CC-0", "CC-BY"}
"""Licences of photos in the ISIC Archive under which what was learned from them may be passed on."""
_COLUMNS = ("file_name", "source", "patient", "lesion", "fitzpatrick", "monk", "original_label")
_AGAIN = "Delete it, and import the set again"
_START_OVER = "then delete what was made, and import the set again"


def import_set(
    name: str,
    folder: Path,
    out: Path,
    label_map: Path | None = None,
    min_weight: float | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Copy the photos of a public set into `out/<class>/`, unchanged, beside a `metadata.csv` of what is known of them.

    Takes what `api.scores.import_` takes; the set's name becomes the photos' `source`. Photos of one patient or case
    stay one photo group: `audit` joins them by the columns `patient` and `lesion`.

    Returns:
        The content of `dataset.json`, which is written last: licence and citation, photos by class, what became of
        every label, and what was left out and why.

    Raises:
        DatasetError: no such set, table, column or class; none of its photos is there or has a class; two of one name
            differ; or `out` holds something.
        WriteError: the disk is full.
    """
    if name not in READERS:
        raise DatasetError(f"there is no set {name!r}", f"Give one of {', '.join(READERS)}")
    if min_weight is not None and name != "scin":
        raise DatasetError(f"{name} has no weighted labels", "Leave --min-weight out")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", "Give the folder that holds what the set's owner publishes")
    check_writable(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} is not empty", "Delete it, or give another --out")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{out} lies in {folder}, which is only read", "Give another --out")
    table = read_label_map(name, label_map)
    listed = READERS[name](folder, MIN_WEIGHT if min_weight is None else min_weight)
    files = _photo_files(folder)
    chosen = [_choose(photo, table, files) for photo in listed]
    facts = _facts(name, folder, listed, chosen, table)
    for photo, (label, _) in zip(listed, chosen, strict=True):
        if label:
            _check_one(photo.file, files[photo.file])
    rows = _copy(name, out, listed, chosen, files, track)
    extra = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _COLUMNS]
    write_csv(out / METADATA, (*_COLUMNS, *extra), rows)
    write_bytes(out / LABELS, _to_csv(table))
    write_json(out / DATASET, facts)
    return facts


def read_datasets(root: Root) -> list[dict[str, Any]]:
    """Of a folder of photos and of the folders in it, or of several, each `dataset.json`: name, licence, citation.

    Raises:
        RunFolderError: one is damaged.
    """
    if isinstance(root, Folders):
        folders = list(root.of_source.values())
    else:
        folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    datasets = []
    for folder in folders:
        if (folder / DATASET).is_file():
            content = read_json(folder / DATASET, _AGAIN)
            facts = {key: str(content.get(key, "")) for key in ("name", *_LICENCE_FACTS)}
            may = content.get("redistributable_training") is True  # only an express yes is one
            datasets.append(facts | {"redistributable_training": may})
    return datasets


def read_label_map(name: str, override: Path | None = None) -> dict[str, str]:
    """The table of a set, the owner's label -> class, `other` or nothing; lines of `override` take precedence.

    Raises:
        DatasetError: `override` can't be read, lacks a column, names a class that can't be a folder, or two of one
            label.
    """
    shipped = resources.files("spectraderm.data") / "imports" / f"{name}.csv"
    lines = tables.read_label_map(Path(f"{name}.csv"), "original", folded, shipped.read_bytes())
    if override:
        lines |= tables.read_label_map(override, "original", folded)
    classes = unite([label] for label in (OTHER, *lines.values()) if label)
    for label in classes:
        if {"/", "\\"} & {*label} or label.startswith("."):
            raise DatasetError(f"{override}: {label!r} can't be a class", "Name a class folder, `other`, or nothing")
        check_class(label, override)
    return {original: classes.get(label, "") for original, label in lines.items()}


def _to_csv(table: Mapping[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("original", "label"))
    writer.writerows(map(stored, line) for line in sorted(table.items()))
    return text.getvalue().encode()


def _photo_files(folder: Path) -> dict[str, list[Path]]:
    """Photo files below a folder by path, by name, and by name without suffix.

    Links, and what `photo_files` calls debris, are passed over.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if not why_left_out(parent, each, is_folder=True))
        paths = [Path(parent, each) for each in sorted(names) if not is_debris(each)]
        found += [path for path in paths if path.suffix.lower() in PHOTO_SUFFIXES and not path.is_symlink()]
    stems, files = defaultdict[str, list[Path]](list), defaultdict[str, list[Path]](list)
    for path in found:
        stems[path.stem].append(path)
        files[path.name].append(path)
    return stems | files | {path.relative_to(folder).as_posix(): [path] for path in found}


def _check_one(file: str, paths: Sequence[Path]) -> None:
    """Raise `DatasetError` where several files go by the name that a table has for a photo, and are not the same."""
    one = paths[0]
    if other := next((path for path in paths[1:] if path.read_bytes() != one.read_bytes()), None):
        raise DatasetError(f"{one} and {other} differ, and either may be {file!r} of the table", "Move one away")


def _choose(photo: Listed, table: Mapping[str, str], files: Mapping[str, Sequence[Path]]) -> tuple[str, str]:
    """The class of a photo, or an empty one and why it is left out."""
    if photo.why:
        return "", photo.why
    key = folded(photo.label)
    if not key or (key not in table and ANY not in table):
        return "", "no line for its label" if key else "no label"
    label = table.get(key, table.get(ANY, ""))
    if not label:
        return "", "its label is left out"
    return (label, "") if photo.file in files else ("", "missing")


def _facts(
    name: str,
    folder: Path,
    listed: Sequence[Listed],
    chosen: Sequence[tuple[str, str]],
    table: Mapping[str, str],
) -> dict[str, Any]:
    """The content of `dataset.json`. Raises `DatasetError` where no photo is left."""
    taken = Counter(label for label, _ in chosen if label)
    left_out = Counter(why for _, why in chosen if why)
    missing = [photo.file for photo, (_, why) in zip(listed, chosen, strict=True) if why == "missing"]
    if not taken:
        if missing:
            raise DatasetError(
                f"{folder} has none of the {len(missing)} photos that its table names, such as {missing[0]}",
                "Put the photos below that folder, named as their owner names them",
            )
        reasons = ", ".join(f"{why}: {count}" for why, count in left_out.most_common()) or "it lists none"
        raise DatasetError(f"no photo of {folder} can be used ({reasons})", "Give a --label-map original,label")
    # what becomes of a label, whether its photos are there or not
    usable = Counter(photo.label for photo in listed if not photo.why)
    labels = [
        {
            "original": label,
            "label": table.get(folded(label), table.get(ANY)),
            "listed": folded(label) in table,
            "photos": n,
        }
        for label, n in sorted(usable.items(), key=lambda each: (-each[1], each[0]))
    ]
    used = [photo for photo, (label, _) in zip(listed, chosen, strict=True) if label]
    return {
        "name": name,
        "source": name,
        **_licence(name, used),
        "photos": sum(taken.values()),
        "classes": dict(sorted(taken.items())),
        "labels": labels,
        "left_out": dict(left_out.most_common()),
        "missing": missing[:SHOWN],
        "label_map_sha256": sha256(_to_csv(table)),
    }


def _licence(name: str, used: Sequence[Listed]) -> dict[str, Any]:
    """What is known of a set's licence; of the ISIC Archive, of the photos that are used."""
    text = (resources.files("spectraderm.data") / "imports" / "sets.toml").read_text(encoding="utf-8")
    facts = {key: tomllib.loads(text)[name][key] for key in _LICENCE_FACTS}
    if name == "isic":
        counts = Counter(photo.about["licence"] or "none given" for photo in used)
        facts["licence"] = ", ".join(f"{licence} ({count} photos)" for licence, count in counts.most_common())
        facts["redistributable_training"] = counts.keys() <= _FREE
    return facts


def _copy(
    name: str,
    out: Path,
    listed: Sequence[Listed],
    chosen: Sequence[tuple[str, str]],
    files: Mapping[str, Sequence[Path]],
    track: Track,
) -> list[dict[str, str]]:
    """Copy the photos that have a class; the lines of `metadata.csv`.

    A photo that two lines list is copied twice: `audit` finds the copies and joins their cases.
    """
    pairs = [(photo, label) for photo, (label, _) in zip(listed, chosen, strict=True) if label]
    rows: list[dict[str, str]] = []
    taken: set[str] = set()
    for photo, label in track(pairs, "Copying photos", len(pairs)):
        original = files[photo.file][0]
        path = next(path for path in _names(photo, label, original) if path.lower() not in taken)
        taken.add(path.lower())
        try:
            data = original.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{original} can't be read ({error.strerror})", f"Look whether it is yours; {_START_OVER}"
            ) from error
        with write_errors(out / path):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(data)
        nobody = [key for key in tables.JOINING if tables.is_unknown(photo.about.get(key, ""))]
        known = {key: value for key, value in photo.about.items() if value and key not in nobody}
        rows.append({"file_name": path, "source": name, **known, "original_label": photo.label})
    return rows


def _names(photo: Listed, label: str, original: Path) -> Iterator[str]:
    """Paths below `out` that a photo may get."""
    folder = "/".join(part for part in (photo.folder, label) if part)
    yield f"{folder}/{original.name}"
    number = 2
    while True:
        yield f"{folder}/{original.stem}-{number}{original.suffix}"
        number += 1
