"""Manifest -> which photo is trained, validated, calibrated and tested on, in every fold; and the proof that it holds.

Three protocols. `grouped`: stratified by class, no photo group ever crosses. `original`: the folders as they came,
validation cut at random from the training photos of each class, as most tutorials do, copies and all. `deduplicated`:
the given test folder against training folders without copies of it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spectraderm.core import artifacts
from spectraderm.core.errors import SplitError
from spectraderm.data import protocols as making
from spectraderm.data.manifest import Row
from spectraderm.data.protocols import EXCLUDED, SPLITS, Fold

__all__ = ["COLUMNS", "EXCLUDED", "SPLITS", "Fold", "Protocol", "Split", "check", "make", "read", "write"]

Protocol = Literal["grouped", "original", "deduplicated"]
COLUMNS = ("protocol", "fold", "seed", "path", "photo_group", "split")


@dataclass(frozen=True)
class Split:
    """A protocol and its folds."""

    protocol: Protocol
    folds: list[Fold]


def make(rows: Sequence[Row], protocol: Protocol, folds: int, seed: int) -> Split:
    """Split the photos of a manifest.

    Args:
        rows: the manifest.
        protocol: `grouped`, `original` or `deduplicated`.
        folds: `grouped`: 1 holds out a test set, k >= 2 tests every photo once in k folds and adds a final
            model on all photos. `original`: how many random draws of the validation set, seeds counting up.
            `deduplicated`: 1.
        seed: of the shuffling and, per fold, of the training.

    Returns:
        The folds, `final` first. By photo, where the given folders can be trained and tested on, the last one is
        `original`, the very fold that `original` makes of this seed: the score that the folders would have given.

    Raises:
        SplitError: a class has too few photo groups, or the folders have no test split to keep.
    """
    if folds < 1 or (protocol == "deduplicated" and folds > 1):
        raise SplitError(f"{folds} folds can't be made", "Give 1" if folds > 1 else "Give 1 or more")
    if seed < 0:
        raise SplitError(f"{seed} is no seed", "Give 0 or more")
    if protocol == "original":
        made = making.original(rows, folds, seed)
    elif protocol == "deduplicated":
        made = [making.deduplicated(rows, seed)]
    else:
        made = making.grouped(rows, folds, seed) + _beside(rows, seed)
    split = Split(protocol, made)
    check(rows, split)
    return split


def check(rows: Sequence[Row], split: Split) -> None:
    """Prove a split, every time one is made or read.

    Raises:
        SplitError: in some fold a photo is missing or unknown, a class lacks from a split, or, by photo and cleaned, a
            photo group stands on two sides; as given and cleaned, a test photo is not from the test folder; cleaned, a
            photo is excluded that need not be; or the folds by photo do not test every photo exactly once.
    """
    by_path = {row.path: row for row in rows}
    measuring = [fold for fold in split.folds if fold.name not in (artifacts.FINAL, artifacts.ORIGINAL)]
    many = split.protocol == "grouped" and len(measuring) > 0
    for fold in split.folds:
        given = split.protocol == "original" or fold.name == artifacts.ORIGINAL
        needed = ("train", "val", "test") if given else SPLITS[:2] if many else SPLITS
        _check_sides(fold, by_path, needed, (*SPLITS, EXCLUDED) if split.protocol == "deduplicated" else SPLITS)
        if not given:
            _check_groups(fold, by_path)
        if given or split.protocol == "deduplicated":
            _check_test_folder(fold, by_path)
        if split.protocol == "deduplicated":
            _check_excluded(fold, by_path)
    tested = Counter(path for fold in measuring for path, side in fold.splits.items() if side == "test")
    if many and tested != Counter(dict.fromkeys(by_path, 1)):
        raise SplitError("the folds do not test every photo exactly once", "Split again")


def write(path: Path, split: Split, rows: Sequence[Row]) -> None:
    """Write `split.csv`, one line per fold and photo."""
    groups = {row.path: row.photo_group for row in rows}
    records = (
        dict(zip(COLUMNS, (split.protocol, fold.name, fold.seed, name, groups[name], side), strict=True))
        for fold in split.folds
        for name, side in fold.splits.items()
    )
    artifacts.write_csv(path, COLUMNS, records)


def read(path: Path, rows: Sequence[Row]) -> Split:
    """Read `split.csv` and check it against the manifest's rows."""
    records = artifacts.read_csv(path, COLUMNS, "Run `spectraderm split RUN` first")
    folds: dict[str, Fold] = {}
    for record in records:
        if not record["seed"].isdecimal():
            raise SplitError(f"{path}: seed {record['seed']!r} is not a number", "Split again")
        fold = folds.setdefault(record["fold"], Fold(record["fold"], int(record["seed"]), {}))
        if record["path"] in fold.splits:
            raise SplitError(f"{path}: fold {fold.name} names {record['path']} twice", "Split again")
        fold.splits[record["path"]] = record["split"]
    protocols = {record["protocol"] for record in records}
    known: list[Protocol] = [protocol for protocol in get_args(Protocol) if protocols == {protocol}]
    if not known:
        raise SplitError(f"{path} names no known protocol", "Split again")
    split = Split(known[0], list(folds.values()))
    check(rows, split)
    return split


def _beside(rows: Sequence[Row], seed: int) -> list[Fold]:
    """The folders as they came as one more fold, where each class can be trained, validated and tested in them."""
    labels = {row.label for row in rows}
    if any({row.label for row in rows if row.given_split == side} != labels for side in ("train", "test")):
        return []
    try:
        fold = Fold(artifacts.ORIGINAL, seed, making.original(rows, 1, seed)[0].splits)
        check(rows, Split("original", [fold]))
    except SplitError:  # one training photo, or a validation folder without some class
        return []
    return [fold]


def _check_sides(fold: Fold, by_path: Mapping[str, Row], needed: Sequence[str], allowed: Sequence[str]) -> None:
    """Every photo on one side that is allowed, no needed side empty, every class on every side but the test's."""
    if fold.splits.keys() != by_path.keys():
        odd = sorted(fold.splits.keys() ^ by_path.keys())[0]
        raise SplitError(f"fold {fold.name}: {odd} stands in only one of manifest and split", "Split again")
    present: defaultdict[str, set[str]] = defaultdict(set)
    for path, name in fold.splits.items():
        present[name].add(by_path[path].label)
    unknown = sorted(present.keys() - set(allowed))
    if unknown:
        raise SplitError(f"fold {fold.name}: {unknown[0]!r} is not one of {', '.join(allowed)}", "Split again")
    for name in needed:
        if not present[name]:
            raise SplitError(f"fold {fold.name}: no photo is in {name}", "Split again")
    labels = {row.label for row in by_path.values()}
    for name, own in present.items():
        if own != labels and name not in ("test", EXCLUDED):
            lacking = ", ".join(sorted(labels - own))
            raise SplitError(f"fold {fold.name}: {name} has no photo of {lacking}", "Add photos, or fewer folds")


def _check_groups(fold: Fold, by_path: Mapping[str, Row]) -> None:
    sides: defaultdict[int, set[str]] = defaultdict(set)
    for path, name in fold.splits.items():
        if name != EXCLUDED:
            sides[by_path[path].photo_group].add(name)
    crossing = [group for group, names in sides.items() if len(names) > 1]
    if crossing:
        raise SplitError(f"fold {fold.name}: photo group {crossing[0]} crosses the splits", "Split again")


def _check_test_folder(fold: Fold, by_path: Mapping[str, Row]) -> None:
    for path, name in fold.splits.items():
        if (name == "test") != (by_path[path].given_split == "test") and name != EXCLUDED:
            raise SplitError(f"fold {fold.name}: {path} is in {name}, its folder says otherwise", "Split again")


def _check_excluded(fold: Fold, by_path: Mapping[str, Row]) -> None:
    """Excluded are photos whose copies disagree, all of them, and those of tested photo groups: no others."""
    disputed = making.label_conflicts(list(by_path.values()))
    tested = {by_path[path].photo_group for path, name in fold.splits.items() if name == "test"}
    for path, name in fold.splits.items():
        leaks = by_path[path].given_split != "test" and by_path[path].photo_group in tested
        if (name == EXCLUDED) != (path in disputed or leaks):
            raise SplitError(f"fold {fold.name}: {path} must not be in {name}", "Split again")
