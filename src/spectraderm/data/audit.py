"""A folder of photos -> manifest and findings: what can be read, what is a copy of what, what gives a class away."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm import artifacts
from spectraderm.data import manifest
from spectraderm.data.duplicates import near_pairs, photo_groups, turned_hashes
from spectraderm.data.manifest import Row
from spectraderm.errors import DatasetError, SpectraDermError
from spectraderm.preprocessing import decode
from spectraderm.progress import Track, no_track

EXAMPLES = 5
"""How many examples a finding names at most."""


@dataclass(frozen=True)
class Audit:
    """A readable photo per row of `rows`, and the content of `audit.json` in `facts`."""

    rows: list[Row]
    facts: dict[str, Any]


def audit(root: Path, out: Path, track: Track = no_track) -> Audit:
    """Read every photo below `root`, find copies and flaws, and write `manifest.csv` and `audit.json` into `out`.

    Raises:
        DatasetError: there is nothing to train on: no folder, no classes, no readable photo in a class.
    """
    found = manifest.walk(root)
    metadata = manifest.read_metadata(root, (path for path, _, _ in found.photos))
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda photo: _read(root, photo[0]), found.photos)
        results = list(track(read, "Reading photos", len(found.photos)))
    unreadable = [
        {"path": path, "reason": result}
        for (path, _, _), result in zip(found.photos, results, strict=True)
        if isinstance(result, str)
    ]
    good = [(*photo, *result) for photo, result in zip(found.photos, results, strict=True) if isinstance(result, tuple)]
    for label in sorted({label for _, label, _ in found.photos} - {photo[1] for photo in good}):
        first = [photo[1] for photo in found.photos].index(label)
        raise DatasetError(f"{root}: no photo of class {label!r} can be read", f"First: {results[first]}")
    hashes = np.stack([photo[-1] for photo in good])
    keys = [
        [(name, metadata[photo[0]][name]) for name in ("patient", "lesion", "group") if name in metadata[photo[0]]]
        if photo[0] in metadata
        else []
        for photo in good
    ]
    pairs = near_pairs(hashes)
    groups = photo_groups(len(good), pairs, keys)
    rows = [
        Row(path, label, split, *facts, int(group), metadata.get(path, {}))
        for (path, label, split, facts, _), group in zip(good, groups, strict=True)
    ]
    result = Audit(rows, _facts(root, rows, photo_groups(len(rows), pairs), unreadable, found))
    manifest.write(out / artifacts.MANIFEST, rows)
    artifacts.write_json(out / artifacts.AUDIT, result.facts)
    return result


def leaked_test_photos(rows: Sequence[Row]) -> list[Row]:
    """Photos of the given test split whose photo group is in the given training split, too."""
    trained = {row.photo_group for row in rows if row.given_split == "train"}
    return [row for row in rows if row.given_split == "test" and row.photo_group in trained]


def _read(root: Path, path: str) -> tuple[tuple[str, str, int, int, int], npt.NDArray[np.uint8]] | str:
    """Facts and hashes of one photo, or in a word why it can't be read."""
    try:
        data = (root / path).read_bytes()
        photo = decode(data, path)
    except (SpectraDermError, OSError) as error:
        return str(error)
    facts = (artifacts.sha256(data), photo.format, photo.width, photo.height, len(data))
    return facts, turned_hashes(photo.image)


def _facts(
    root: Path,
    rows: list[Row],
    copies: npt.NDArray[np.int64],
    unreadable: list[dict[str, str]],
    found: manifest.Found,
) -> dict[str, Any]:
    """The content of `audit.json`; `copies` are the photo groups without metadata: a patient may have two diseases."""
    tested = [row for row in rows if row.given_split == "test"]
    leaked = leaked_test_photos(rows)
    labels_of_copies: defaultdict[int, set[str]] = defaultdict(set)
    for row, number in zip(rows, copies.tolist(), strict=True):
        labels_of_copies[number].add(row.label)
    conflicts = {number for number, labels in labels_of_copies.items() if len(labels) > 1}
    in_conflict = [row.path for row, number in zip(rows, copies.tolist(), strict=True) if number in conflicts]
    classes = Counter(row.label for row in rows)
    class_groups = {label: len({r.photo_group for r in rows if r.label == label}) for label in sorted(classes)}
    given_away = _sizes_that_give_away(rows)
    sizes = "; ".join(f"{label} is always {w}x{h}" for label, (w, h) in given_away.items())
    findings = [
        _finding("leakage", "high", [r.path for r in leaked], "Split by photo: `--split by-photo`, the default"),
        _finding("label_conflict", "high", in_conflict, "One photo, two classes: keep the right one"),
        _finding("unreadable", "high", [entry["path"] for entry in unreadable], "Replace or delete these files"),
        _finding(
            "size_gives_class_away",
            "high",
            [row.path for row in rows if row.label in given_away],
            f"{sizes}, and no other class is: a model can learn the size. Add photos of other sizes",
        ),
        _finding("other_files", "low", found.other_files, "Not photos in a class folder: they were passed over"),
        _finding("nested_folder", "medium", found.nested, "Only <split>/<class>/* or <class>/* is read: move them up"),
        _finding("link_outside", "medium", found.outside, "Links that lead out of the folder are not followed"),
    ]
    return {
        "root": str(root.resolve()),
        "photos": len(rows),
        "photo_groups": len({row.photo_group for row in rows}),
        "classes": {
            label: {
                "display_name": manifest.display_name(label),
                "photos": classes[label],
                "photo_groups": class_groups[label],
            }
            for label in sorted(classes)
        },
        "leakage": {
            "test_photos": len(tested),
            "test_photos_with_copy_in_train": len(leaked),
            "share": len(leaked) / len(tested) if tested else None,
        },
        "label_conflicts": len(conflicts),
        "unreadable": unreadable,
        "findings": [finding for finding in findings if finding["count"]],
    }


def _finding(name: str, severity: str, paths: Sequence[str], remedy: str) -> dict[str, Any]:
    return {
        "id": name,
        "severity": severity,
        "count": len(paths),
        "examples": list(paths[:EXAMPLES]),
        "remedy": remedy,
    }


def _sizes_that_give_away(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """Classes whose photos all have one size that no photo of another class has."""
    sizes: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    holders: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
    for row in rows:
        sizes[row.label].add((row.width, row.height))
        holders[row.width, row.height].add(row.label)
    single = {label: next(iter(own)) for label, own in sorted(sizes.items()) if len(own) == 1}
    return {label: size for label, size in single.items() if holders[size] == {label}}
