"""A folder of photos -> manifest and findings: what can be read, what is a copy of what, what gives a class away."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.progress import Track, no_track
from spectraderm.data import copies, crops, findings, gallery, manifest, shortcuts, usable
from spectraderm.data import measure_cache as blocks
from spectraderm.data import measurements as measure
from spectraderm.data.copies import Copy
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.manifest import Row
from spectraderm.data.measure_cache import Engine
from spectraderm.data.measurements import Table
from spectraderm.data.protocols import label_conflicts
from spectraderm.data.rows import flaws, rows
from spectraderm.data.shortcuts import Shortcut
from spectraderm.data.usable import Photos
from spectraderm.images.preprocessing import decode

__all__ = ["Audit", "audit", "leaked_test_photos"]

CROPS_UP_TO = 5000
"""Of more different photos than this, crops are looked for only where that is asked for."""
BLOCKS = "audit"
"""Folder in a run's cache folder where blocks of measurements are kept, until the audit is done."""


@dataclass(frozen=True)
class Audit:
    """A readable photo per row of `rows`, and the content of `audit.json` in `facts`."""

    rows: list[Row]
    facts: dict[str, Any]


@dataclass(frozen=True)
class _Groups:
    """The group of every photo, `int64[n]`: by hash alone, and with patients and lesions; then both with crops, too."""

    near: npt.NDArray[np.int64]
    whole: npt.NDArray[np.int64]
    copies: npt.NDArray[np.int64]
    photos: npt.NDArray[np.int64]
    looked_for_crops: bool


def audit(
    root: Path,
    out: Path,
    track: Track = no_track,
    *,
    look_for_crops: bool | None = None,
    engine: Engine = "local",
    address: str = "",
) -> Audit:
    """Read every photo below `root`, find copies and flaws, and write what was found into `out`.

    Written are `manifest.csv`, `measurements.npz`, `copies.csv`, `gallery.html` and, last, `audit.json`. An audit of
    many photos that was killed goes on where it was when it is begun again.

    Args:
        root: the folder of photos; nothing in it is changed.
        out: the run folder.
        track: how progress is shown.
        look_for_crops: also find crops and zooms of photos, which hashes miss; takes most of the time. None: of up to
            `CROPS_UP_TO` different photos.
        engine: what reads the photos: this machine's cores, or Ray.
        address: of a Ray cluster whose machines all have `root`; empty starts one on this machine.

    Raises:
        DatasetError: there is nothing to train on: no folder, no classes, no readable photo in a class.
        SpectraDermError: the engine died, or there is none.
    """
    kept = out / artifacts.CACHE / BLOCKS
    photos = usable.read(root, kept, track, engine, address)
    groups = _joined(root, photos, look_for_crops, track)
    against = flaws(photos.columns)
    manifested = rows(photos.usable, photos.columns, against, (groups.copies, groups.photos), photos.metadata)
    arrays = measure.measurements(photos.columns)
    telling = _shortcuts(manifested, arrays)
    paths = [entry["path"] for entry in photos.unreadable]
    seen = findings.Seen(manifested, groups.near, groups.whole, against, telling, paths, photos.found)
    result = Audit(manifested, {**_facts(root, seen, photos.unreadable), "looked_for_crops": groups.looked_for_crops})
    _write(out, root, result, arrays, copies.pair(manifested, photos.hashes, groups.near))
    blocks.forget(kept)
    return result


def _joined(root: Path, photos: Photos, look_for_crops: bool | None, track: Track) -> _Groups:
    pairs, count = near_pairs(photos.hashes), len(photos.usable)
    keys = [_keys(photos.metadata.get(path, {})) for path, _, _ in photos.usable]
    near, whole = photo_groups(count, pairs), photo_groups(count, pairs, keys)
    if look_for_crops is None:
        look_for_crops = int(near.max()) < CROPS_UP_TO
    if look_for_crops:
        pairs = np.concatenate([pairs, _crops(root, [path for path, _, _ in photos.usable], near, track)])
    return _Groups(near, whole, photo_groups(count, pairs), photo_groups(count, pairs, keys), look_for_crops)


def _write(out: Path, root: Path, result: Audit, arrays: Table, twins: Sequence[Copy]) -> None:
    """All files of an audit; that which says that there is one comes last."""
    manifest.write(out / artifacts.MANIFEST, result.rows)
    artifacts.write_arrays(out / artifacts.MEASUREMENTS, **arrays)
    copies.write(out / artifacts.COPIES, twins)
    gallery.write(out / artifacts.GALLERY, root, result.rows, twins)
    artifacts.write_json(out / artifacts.AUDIT, result.facts)


def _crops(root: Path, paths: Sequence[str], near: npt.NDArray[np.int64], track: Track) -> npt.NDArray[np.int64]:
    return crops.find_crops(lambda number: decode((root / paths[number]).read_bytes()).image, near, track)


def _keys(metadata: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, metadata[name]) for name in manifest.JOINING if name in metadata]


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
