"""A folder of photos -> manifest and findings: what can be read, what is a copy of what, what gives a class away.

Every photo is read and decoded once; all that follows looks at what was measured of it then.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import sha256, write_arrays, write_csv, write_json
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Given, Root, root_of, to_facts
from spectraderm.core.run import AUDIT, COPIES, GALLERY, MANIFEST, MEASUREMENTS, Run
from spectraderm.data import crops, duplicates, findings, gallery, importers, manifest, measurements, shortcuts
from spectraderm.data.duplicates import Copy, Integers, near_pairs, photo_groups
from spectraderm.data.findings import Evidence, leaked_test_photos
from spectraderm.data.layouts import Listing, PhotoFile, list_photos
from spectraderm.data.manifest import Row
from spectraderm.data.measurements import Embedding, Floats, Table
from spectraderm.data.metadata import Metadata, keys_of, read_metadata
from spectraderm.data.split import label_conflicts
from spectraderm.images import quality
from spectraderm.images.photo_files import below
from spectraderm.images.quality import Flaw, Quality

CROPS_UP_TO = 5000
"""Of more photos than this, crops are looked for only where that is asked for."""


@dataclass(frozen=True)
class Audit:
    """A readable photo per row of `rows`, and the content of `audit.json` in `facts`."""

    rows: list[Row]
    facts: dict[str, Any]


def audit(
    photos: Given,
    run: Run,
    track: Track = no_track,
    embedding: Embedding | None = None,
    *,
    look_for_crops: bool | None = None,
) -> Audit:
    """Read every photo, find copies and flaws, and write the audit's files into a run, `audit.json` last.

    Crops and zooms of photos, which hashes miss, are looked for by an `embedding`, which takes most of the time: where
    `look_for_crops` says so, or, None, of up to `CROPS_UP_TO` photos.

    Raises:
        DatasetError: there is nothing to train on: no folder, no classes, no readable photo in a class.
    """
    root = root_of(photos)
    listing = list_photos(root)
    paths = [photo.path for photo in listing.photos]
    metadata = read_metadata(root, listing)
    if look_for_crops is False or (look_for_crops is None and len(paths) > CROPS_UP_TO):
        embedding = None
    measured = measurements.measure_all(root, paths, run.folder, track, embedding)
    readable = [photo for photo, reason in zip(listing.photos, measured.reasons, strict=True) if not reason]
    for label in sorted({photo.label for photo in listing.photos} - {photo.label for photo in readable}):
        first = next(why for photo, why in zip(listing.photos, measured.reasons, strict=True) if photo.label == label)
        raise DatasetError(f"no photo of class {label!r} can be read", f"First: {first}")

    pairs = near_pairs(measured.table["hashes"])
    patients = [keys_of(metadata.of_photo.get(photo.path, {})) for photo in readable]
    near, whole = photo_groups(len(readable), pairs), photo_groups(len(readable), pairs, patients)
    if measured.features is not None:
        store = measurements.Store(run.folder)
        pairs = np.concatenate([pairs, crops.find_crops(measured.features, measured.grey, near, store, track)])
    groups = photo_groups(len(readable), pairs), photo_groups(len(readable), pairs, patients)

    sizes = measured.table[["quality", "width", "height"]].tolist()
    flaws = [quality.flaws(Quality(*values), width, height) for values, width, height in sizes]
    rows = _rows(readable, measured.table, flaws, groups, listing, metadata)
    arrays = measurements.arrays(measured.table)
    labels = np.unique([row.label for row in rows], return_inverse=True)[1]
    features = {name: arrays[name] for name in shortcuts.NAMES} | _sources_as_features(rows)
    found = shortcuts.measure(features, labels, groups[1], track=track)
    unreadable = [{"path": path, "reason": why} for path, why in zip(paths, measured.reasons, strict=True) if why]
    evidence = Evidence(rows, near, whole, flaws, found, unreadable, listing, metadata)
    facts = _facts(root, evidence) | {"looked_for_crops": embedding is not None}
    facts["tables"] = metadata.tables
    facts["datasets"] = importers.read_datasets(root)

    copies = duplicates.pair(rows, measured.table["hashes"], near)
    manifest.write(run.path(MANIFEST), rows)
    write_arrays(run.path(MEASUREMENTS), **arrays)
    write_csv(run.path(COPIES), [field.name for field in fields(Copy)], map(asdict, copies))
    gallery.write(run.path(GALLERY), rows, copies, measured.thumbnail)
    write_json(run.path(AUDIT), facts)  # last: it says that there is an audit
    return Audit(rows, facts)


def check_out(photos: Given, out: Path) -> None:
    """Make sure that a run folder to be made is not a folder of the photos themselves; it may lie beside them.

    Raises:
        DatasetError: it is.
    """
    root, made = root_of(photos), (out / MANIFEST).is_file()
    within = [root] if isinstance(root, Path) else [*root.of_source.values()]
    inside = any(out.resolve().is_relative_to(folder.resolve()) for folder in within)
    if inside and not made and out.is_dir() and any(below(str(out))):
        raise DatasetError(f"{out} holds photos, and can't be a run folder, too", "Give another --out")


def check_same(photos: Given, run: Run) -> None:
    """Make sure that photos are those that a run was made from, by their paths and bytes, as far as its files say.

    Raises:
        RunFolderError: one was added, changed, or is gone.
        DatasetError: as `audit`.
    """
    root = root_of(photos)
    try:
        before = {row.path: row.sha256 for row in manifest.read(run.path(MANIFEST))}
        before |= {entry["path"]: "" for entry in run.audit["unreadable"]}
    except RunFolderError:
        return
    paths = [photo.path for photo in list_photos(root).photos]
    new, gone = sorted({*paths} - before.keys()), sorted(before.keys() - {*paths})
    changed = (path for path in paths if path in before and before[path] not in ("", _sha256(root / path)))
    if path := next(iter([*new, *gone]), None) or next(changed, None):
        how = "is new" if path in new else "is gone" if path in gone else "was changed"
        raise RunFolderError(f"{run.folder} was made from other photos: {path} {how}", "Give another --out")


def _sha256(path: Path) -> str:
    try:
        return sha256(path.read_bytes())
    except OSError:
        return "unreadable"


def _rows(
    photos: Sequence[PhotoFile],
    table: Table,
    flaws: Sequence[Sequence[Flaw]],
    groups: tuple[Integers, Integers],
    listing: Listing,
    metadata: Metadata,
) -> list[Row]:
    """The manifest's rows, of photos in the table's order; `groups` are of copies, and with patients and lesions."""
    names = ("format", "width", "height", "bytes", "jpeg_quality")
    return [
        Row(
            *photo,
            sha256=bytes(table["sha256"][i]).hex(),
            **{name: table[name][i].item() for name in names},
            photo_group=int(groups[1][i]),
            source=told.get("source", listing.source_of(photo.path)),
            metadata={name: value for name, value in told.items() if name != "source"},
            copy_group=int(groups[0][i]),
            phash=bytes(table["hashes"][i, 0]).hex(),
            ita=None if np.isnan(table["ita"][i]) else float(table["ita"][i]),
            skin_tone_estimate=str(table["skin_tone"][i]),
            unusable=next((flaw.id for flaw in flaws[i] if flaw.unusable), ""),
        )
        for i, photo in enumerate(photos)
        for told in [metadata.of_photo.get(photo.path, {})]
    ]


def _sources_as_features(rows: Sequence[Row]) -> dict[str, Floats]:
    """`source` as something that a class is guessed from, `float32[n, sources]`; only where there are several."""
    sources, which = np.unique([row.source for row in rows], return_inverse=True)
    return {"source": np.eye(len(sources), dtype=np.float32)[which]} if len(sources) > 1 else {}


def _sources(rows: Sequence[Row]) -> dict[str, Any]:
    """Of every source its photos, photo groups and, by class, photos; empty where no source is known."""
    rows_of: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of[row.source].append(row)
    return {
        source: {
            "photos": len(own),
            "photo_groups": len({row.photo_group for row in own}),
            "classes": dict(sorted(Counter(row.label for row in own).items())),
        }
        for source, own in sorted(rows_of.items())
        if source
    }


def _facts(root: Root, evidence: Evidence) -> dict[str, Any]:
    """The content of `audit.json`. What only crops tell stands apart: other tools' counts are of whole photos."""
    rows = evidence.rows
    tested = sum(row.given_split == "test" for row in rows)
    leaked, by_copy = (len(leaked_test_photos(rows, groups)) for groups in (None, evidence.whole))
    conflicts, by_hash = (len(set(label_conflicts(rows, groups).values())) for groups in (None, evidence.near))
    photos = Counter(row.label for row in rows)
    groups = Counter(label for label, _ in {(row.label, row.photo_group) for row in rows})
    sources, names = _sources(rows), manifest.display_names(evidence.labels)
    return {
        **to_facts(root),
        "photos": len(rows),
        "photo_groups": len({row.photo_group for row in rows}),
        "classes": {
            label: {
                "display_name": names[label],
                "photos": photos[label],
                "photo_groups": groups[label],
                **({"other": True} if label == OTHER else {}),
            }
            for label in evidence.labels
        },
        **({"sources": sources} if sources else {}),
        "leakage": {
            "test_photos": tested,
            "test_photos_with_copy_in_train": by_copy,
            "share": by_copy / tested if tested else None,
            "test_photos_with_crop_in_train": leaked - by_copy,
            "share_with_crops": leaked / tested if tested else None,
        },
        "label_conflicts": by_hash,
        "label_conflicts_by_crop": conflicts - by_hash,
        "unreadable": evidence.unreadable,
        "shortcuts": [
            asdict(shortcut) | {"gives_away": [evidence.labels[number] for number in shortcut.gives_away]}
            for shortcut in evidence.shortcuts
        ],
        "findings": [asdict(finding) for finding in findings.collect(evidence)],
    }
