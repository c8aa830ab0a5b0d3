"""A folder of photos -> manifest and findings: what can be read, what is a copy of what, what gives a class away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from spectraderm import artifacts, quality, shortcuts
from spectraderm.data import copies, crops, findings, gallery, manifest, measure
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.folders import Found, walk
from spectraderm.data.folds import label_conflicts
from spectraderm.data.manifest import Row
from spectraderm.data.measure import Measured
from spectraderm.errors import DatasetError
from spectraderm.preprocessing import decode
from spectraderm.progress import Track, no_track
from spectraderm.shortcuts import Shortcut

__all__ = ["Audit", "audit", "leaked_test_photos"]

MANY = 3000
"""From so many photos on they are read by processes."""
CROPS_UP_TO = 5000
"""Of more different photos than this, crops are looked for only where that is asked for."""


@dataclass(frozen=True)
class Audit:
    """A readable photo per row of `rows`, and the content of `audit.json` in `facts`."""

    rows: list[Row]
    facts: dict[str, Any]


def audit(root: Path, out: Path, track: Track = no_track, *, look_for_crops: bool | None = None) -> Audit:
    """Read every photo below `root`, find copies and flaws, and write what was found into `out`.

    Written are `manifest.csv`, `measurements.npz`, `copies.csv`, `gallery.html` and, last, `audit.json`.

    Args:
        root: the folder of photos; nothing in it is changed.
        out: the run folder.
        track: how progress is shown.
        look_for_crops: also find crops and zooms of photos, which hashes miss; takes most of the time. None: of up to
            `CROPS_UP_TO` different photos.

    Raises:
        DatasetError: there is nothing to train on: no folder, no classes, no readable photo in a class.
    """
    found = walk(root)
    metadata = manifest.read_metadata(root, (path for path, _, _ in found.photos))
    photos, unreadable = _measure(root, found, track)
    measured = list(photos.values())
    arrays = measure.arrays(measured)
    hashes = np.stack([own.hashes for own in measured])
    pairs = near_pairs(hashes)
    near = photo_groups(len(photos), pairs)
    keys = [_keys(metadata.get(path, {})) for path in photos]
    whole = photo_groups(len(photos), pairs, keys)
    if look_for_crops is None:
        look_for_crops = int(near.max()) < CROPS_UP_TO
    if look_for_crops:
        pairs = np.concatenate([pairs, _crops(root, list(photos), near, track)])
    rows = _rows(found, photos, photo_groups(len(photos), pairs), photo_groups(len(photos), pairs, keys), metadata)
    telling = _shortcuts(rows, arrays)
    flaws = [quality.flaws(own.quality, own.width, own.height) for own in measured]
    seen = findings.Seen(rows, near, whole, flaws, telling, [entry["path"] for entry in unreadable], found)
    result = Audit(rows, {**_facts(root, seen, unreadable), "looked_for_crops": look_for_crops})
    twins = copies.pair(rows, hashes, near)
    manifest.write(out / artifacts.MANIFEST, rows)
    artifacts.write_arrays(out / artifacts.MEASUREMENTS, **arrays)
    copies.write(out / artifacts.COPIES, twins)
    gallery.write(out / artifacts.GALLERY, root, rows, twins)
    artifacts.write_json(out / artifacts.AUDIT, result.facts)
    return result


def _measure(root: Path, found: Found, track: Track) -> tuple[dict[str, Measured], list[dict[str, str]]]:
    """The numbers of every photo that can be read, by path, and why each of the others can't."""
    paths = [path for path, _, _ in found.photos]
    # threads wait for each other between the parts that NumPy and Pillow do; processes take seconds to start
    kind: Literal["threading", "loky"] = "loky" if len(paths) > MANY else "threading"
    jobs = (delayed(measure.measure)(root, path) for path in paths)
    read = Parallel(n_jobs=-1, backend=kind, return_as="generator")(jobs)
    results = dict(zip(paths, track(read, "Reading photos", len(paths)), strict=True))
    photos = {path: result for path, result in results.items() if isinstance(result, Measured)}
    unreadable = [{"path": path, "reason": result} for path, result in results.items() if isinstance(result, str)]
    for label in sorted({own for _, own, _ in found.photos} - {own for path, own, _ in found.photos if path in photos}):
        first = next(path for path, own, _ in found.photos if own == label)
        raise DatasetError(f"{root}: no photo of class {label!r} can be read", f"First: {results[first]}")
    return photos, unreadable


def _crops(root: Path, paths: Sequence[str], near: npt.NDArray[np.int64], track: Track) -> npt.NDArray[np.int64]:
    return crops.find_crops(lambda number: decode((root / paths[number]).read_bytes()).image, near, track)


def _keys(metadata: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, metadata[name]) for name in manifest.JOINING if name in metadata]


def _rows(
    found: Found,
    photos: dict[str, Measured],
    copy_groups: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    metadata: dict[str, dict[str, str]],
) -> list[Row]:
    sides = {path: (label, split) for path, label, split in found.photos}
    return [
        Row(
            path=path,
            label=sides[path][0],
            given_split=sides[path][1],
            sha256=own.sha256,
            format=own.format,
            width=own.width,
            height=own.height,
            bytes=own.bytes,
            photo_group=int(group),
            metadata=metadata.get(path, {}),
            copy_group=int(copy_group),
            phash=own.phash,
            jpeg_quality=own.jpeg_quality,
            ita=own.ita,
            skin_tone_estimate=own.skin_tone,
            unusable=next((flaw.id for flaw in quality.flaws(own.quality, own.width, own.height) if flaw.unusable), ""),
        )
        for (path, own), copy_group, group in zip(photos.items(), copy_groups, groups, strict=True)
    ]


def _shortcuts(rows: Sequence[Row], arrays: dict[str, npt.NDArray[Any]]) -> list[Shortcut]:
    labels = np.unique([row.label for row in rows], return_inverse=True)[1]
    groups = np.array([row.photo_group for row in rows])
    return shortcuts.measure({name: arrays[name] for name in shortcuts.NAMES}, labels, groups)


def _facts(root: Path, seen: findings.Seen, unreadable: list[dict[str, str]]) -> dict[str, Any]:
    """The content of `audit.json`. What only crops tell stands apart: other tools' counts are of whole photos."""
    tested = sum(row.given_split == "test" for row in seen.rows)
    leaked, by_copy = (len(leaked_test_photos(seen.rows, groups)) for groups in (None, seen.whole))
    conflicts, by_hash = (len(set(label_conflicts(seen.rows, groups).values())) for groups in (None, seen.near))
    classes = Counter(row.label for row in seen.rows)
    groups = Counter(label for label, _ in {(row.label, row.photo_group) for row in seen.rows})
    return {
        "root": str(root.resolve()),
        "photos": len(seen.rows),
        "photo_groups": len({row.photo_group for row in seen.rows}),
        "classes": {
            label: {
                "display_name": manifest.display_name(label),
                "photos": classes[label],
                "photo_groups": groups[label],
            }
            for label in sorted(classes)
        },
        "leakage": {
            "test_photos": tested,
            "test_photos_with_copy_in_train": by_copy,
            "share": by_copy / tested if tested else None,
            "test_photos_with_crop_in_train": leaked - by_copy,
            "share_with_crops": leaked / tested if tested else None,
        },
        "label_conflicts": by_hash,
        "label_conflicts_by_crop": conflicts - by_hash,
        "unreadable": unreadable,
        "shortcuts": [
            asdict(own) | {"gives_away": [seen.labels[number] for number in own.gives_away]} for own in seen.shortcuts
        ],
        "findings": [asdict(finding) for finding in findings.collect(seen)],
    }
