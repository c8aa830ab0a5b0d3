"""Manifest -> which photo is trained, validated, calibrated and tested on, in every fold; and the proof that it holds.

Two protocols. `by-photo`: stratified by class, no photo group ever crosses. `as-given`: the folders as they came,
validation cut at random from the training photos of each class, as most tutorials do, copies and all.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from spectraderm import artifacts
from spectraderm.data.manifest import Row
from spectraderm.errors import SplitError

Protocol = Literal["by-photo", "as-given"]
SPLITS = ("train", "val", "calibration", "test")
COLUMNS = ("protocol", "fold", "seed", "path", "photo_group", "split")
HOLDOUT = {"test": 0.2, "val": 0.1, "calibration": 0.1}
VALIDATION = 0.2
"""Share of each class's training photos that `as-given` validates on."""
FOLD_VALIDATION = 0.125
"""Share of each class's photo groups, outside the tested fold, that `by-photo` folds validate on."""


@dataclass(frozen=True)
class Fold:
    """One training: its name (`final` is exported, the others only measure), its seed, and the split of each path."""

    name: str
    seed: int
    splits: dict[str, str]


@dataclass(frozen=True)
class Split:
    """A protocol and its folds."""

    protocol: Protocol
    folds: list[Fold]


def make(rows: Sequence[Row], protocol: Protocol, folds: int, seed: int) -> Split:
    """Split the photos of a manifest.

    Args:
        rows: the manifest.
        protocol: `by-photo` or `as-given`.
        folds: `by-photo`: 1 holds out a test set, k >= 2 tests every photo once in k folds and adds a final
            model on all photos. `as-given`: how many random draws of the validation set, seeds counting up.
        seed: of the shuffling and, per fold, of the training.

    Raises:
        SplitError: a class has too few photo groups, or the folders have no test split to keep.
    """
    if folds < 1:
        raise SplitError(f"{folds} folds can't be made", "Give 1 or more")
    if seed < 0:
        raise SplitError(f"{seed} is no seed", "Give 0 or more")
    split = Split(protocol, _as_given(rows, folds, seed) if protocol == "as-given" else _by_photo(rows, folds, seed))
    check(rows, split)
    return split


def check(rows: Sequence[Row], split: Split) -> None:
    """Prove a split, every time one is made or read.

    Raises:
        SplitError: in some fold a photo is missing or unknown, a class lacks from a split, or, by photo, a photo
            group stands on two sides; or the folds do not test every photo exactly once.
    """
    by_path = {row.path: row for row in rows}
    labels = {row.label for row in rows}
    tested: Counter[str] = Counter()
    many = split.protocol == "by-photo" and len(split.folds) > 1
    needed = {"by-photo": SPLITS[:2] if many else SPLITS, "as-given": ("train", "val", "test")}[split.protocol]
    for fold in split.folds:
        if fold.splits.keys() != by_path.keys():
            odd = sorted(fold.splits.keys() ^ by_path.keys())[0]
            raise SplitError(f"fold {fold.name}: {odd} stands in only one of manifest and split", "Split again")
        sides: defaultdict[int, set[str]] = defaultdict(set)
        present: defaultdict[str, set[str]] = defaultdict(set)
        for path, name in fold.splits.items():
            sides[by_path[path].photo_group].add(name)
            present[name].add(by_path[path].label)
        unknown = sorted(present.keys() - set(SPLITS))
        if unknown:
            raise SplitError(f"fold {fold.name}: {unknown[0]!r} is not one of {', '.join(SPLITS)}", "Split again")
        for name in needed:
            if not present[name]:
                raise SplitError(f"fold {fold.name}: no photo is in {name}", "Split again")
        for name, own in present.items():
            if own != labels and name != "test":
                lacking = ", ".join(sorted(labels - own))
                raise SplitError(f"fold {fold.name}: {name} has no photo of {lacking}", "Add photos, or fewer folds")
        if split.protocol == "by-photo":
            crossing = [group for group, names in sides.items() if len(names) > 1]
            if crossing:
                raise SplitError(f"fold {fold.name}: photo group {crossing[0]} crosses the splits", "Split again")
        if fold.name != artifacts.FINAL:
            tested.update(path for path, name in fold.splits.items() if name == "test")
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
    if protocols not in ({"by-photo"}, {"as-given"}):
        raise SplitError(f"{path} names no known protocol", "Split again")
    split = Split("by-photo" if protocols == {"by-photo"} else "as-given", list(folds.values()))
    check(rows, split)
    return split


def _as_given(rows: Sequence[Row], draws: int, seed: int) -> list[Fold]:
    if not any(row.given_split == "test" for row in rows):
        raise SplitError("there is no test folder to keep", "Use --split by-photo, which makes its own")
    given = {row.path: row.given_split for row in rows}
    has_val = "val" in given.values()
    folds = []
    for number in range(draws):
        random = np.random.default_rng(seed + number)
        splits = dict(given)
        for label in sorted({row.label for row in rows} if not has_val else ()):
            own = [row.path for row in rows if row.label == label and row.given_split == "train"]
            if len(own) < 2:
                raise SplitError(f"class {label!r} has {len(own)} training photos, 2 are needed", "Add photos")
            taken = random.permutation(len(own))[: max(1, round(VALIDATION * len(own)))]
            splits.update((own[index], "val") for index in taken)
        folds.append(Fold(artifacts.FINAL if number == 0 else f"draw-{number + 1}", seed + number, splits))
    return folds


def _by_photo(rows: Sequence[Row], folds: int, seed: int) -> list[Fold]:
    classes = _groups_of_classes(rows)
    needed = max(folds + 1, len(SPLITS))
    for label, groups in classes.items():
        if len(groups) < needed:
            raise SplitError(
                f"class {label!r} has {len(groups)} photo groups, {needed} are needed",
                "Add other photos of it (copies do not count), or ask for fewer folds",
            )
    random = np.random.default_rng(seed)
    shuffled = {label: [groups[i] for i in random.permutation(len(groups))] for label, groups in classes.items()}
    if folds == 1:
        return [Fold(artifacts.FINAL, seed, _paths(rows, _cut(shuffled, HOLDOUT)))]
    result = [Fold(artifacts.FINAL, seed, _paths(rows, _cut(shuffled, {"val": FOLD_VALIDATION})))]
    for fold in range(folds):
        tested = {group: "test" for groups in shuffled.values() for group in groups[fold::folds]}
        rest = {label: [g for g in groups if g not in tested] for label, groups in shuffled.items()}
        sides = tested | _cut(rest, {"val": FOLD_VALIDATION})
        result.append(Fold(f"fold-{fold + 1}", seed + fold + 1, _paths(rows, sides)))
    return result


def _groups_of_classes(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Photo groups by class; a group whose files disagree counts under its most frequent class."""
    labels: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        labels[row.photo_group][row.label] += 1
    classes: dict[str, list[int]] = {label: [] for label in sorted({row.label for row in rows})}
    for group, counts in sorted(labels.items()):
        classes[min(counts, key=lambda label: (-counts[label], label))].append(group)
    return classes


def _cut(classes: Mapping[str, Sequence[int]], shares: Mapping[str, float]) -> dict[int, str]:
    """Per class, the first groups to each named split, at least one each, and the rest to training."""
    sides: dict[int, str] = {}
    for groups in classes.values():
        start = 0
        for name, share in shares.items():
            stop = start + max(1, round(share * len(groups)))
            sides.update(dict.fromkeys(groups[start:stop], name))
            start = stop
        sides.update(dict.fromkeys(groups[start:], "train"))
    return sides


def _paths(rows: Sequence[Row], sides: Mapping[int, str]) -> dict[str, str]:
    return {row.path: sides[row.photo_group] for row in rows}
