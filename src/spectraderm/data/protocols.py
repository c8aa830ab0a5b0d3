"""Manifest -> folds: the split of every photo in one training, by each of three protocols."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectraderm.core import artifacts
from spectraderm.core.errors import SplitError
from spectraderm.data.manifest import Row

SPLITS = ("train", "val", "calibration", "test")
EXCLUDED = "excluded"
"""Side of the photos that `deduplicated` neither trains nor tests on."""
HOLDOUT = {"test": 0.2, "val": 0.1, "calibration": 0.1}
VALIDATION = 0.2
"""Share of each class's training photos that `original` validates on."""
FOLD_VALIDATION = 0.125
"""Share of each class's photo groups, outside the tested fold, that `grouped` folds validate on."""
CLEANED = {"val": 0.125, "calibration": 0.125}
"""Shares of each class's photo groups outside the test folder that `deduplicated` validates and calibrates on."""


@dataclass(frozen=True)
class Fold:
    """One training: its name (`final` is exported, the others only measure), its seed, and the split of each path."""

    name: str
    seed: int
    splits: dict[str, str]


def original(rows: Sequence[Row], draws: int, seed: int) -> list[Fold]:
    """The folders as they came. Where none is for validation, a fifth of each class's training photos, at random."""
    _need_test_folder(rows)
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


def grouped(rows: Sequence[Row], folds: int, seed: int) -> list[Fold]:
    """Photo groups shuffled by class: held out once, or in k folds beside a final training on all of them."""
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


def deduplicated(rows: Sequence[Row], seed: int) -> Fold:
    """The folders as they came, without what makes their score a lie. The test folder stays as it is, so that scores on
    it can be compared; what of its photo groups stands elsewhere is excluded, and so is every photo whose copies
    disagree on the class. Validation and calibration are cut anew from all that is left, by photo group.
    """
    _need_test_folder(rows)
    disputed = label_conflicts(rows)
    splits = dict.fromkeys((row.path for row in rows if row.path in disputed), EXCLUDED)
    kept = [row for row in rows if row.path not in splits]
    splits |= {row.path: "test" for row in kept if row.given_split == "test"}
    tested = {row.photo_group for row in kept if row.given_split == "test"}
    splits |= {row.path: EXCLUDED for row in kept if row.given_split != "test" and row.photo_group in tested}
    rest = [row for row in rows if row.path not in splits]
    classes = dict.fromkeys(sorted({row.label for row in rows}), ()) | _groups_of_classes(rest)
    for label, groups in classes.items():
        if len(groups) <= len(CLEANED):
            raise SplitError(
                f"class {label!r} has {len(groups)} photo groups that are not in the test folder, "
                f"{len(CLEANED) + 1} are needed",
                "Use --split grouped, which cuts its own test set",
            )
    random = np.random.default_rng(seed)
    shuffled = {label: [groups[i] for i in random.permutation(len(groups))] for label, groups in classes.items()}
    splits |= _paths(rest, _cut(shuffled, CLEANED))
    return Fold(artifacts.FINAL, seed, {row.path: splits[row.path] for row in rows})


def label_conflicts(rows: Sequence[Row], groups: Iterable[int] | None = None) -> dict[str, int]:
    """Photos that have a copy in another class: path -> number of their copies' group.

    Not a patient's two diseases: only files that show one photo count, where the manifest tells them apart; `groups`
    says otherwise which do, by row.
    """
    members: defaultdict[int, list[Row]] = defaultdict(list)
    own = [row.photo_group if row.copy_group is None else row.copy_group for row in rows]
    for row, number in zip(rows, own if groups is None else groups, strict=True):
        members[int(number)].append(row)
    disputed = {number for number, own in members.items() if len({row.label for row in own}) > 1}
    return {row.path: number for number in sorted(disputed) for row in members[number]}


def _need_test_folder(rows: Sequence[Row]) -> None:
    if not any(row.given_split == "test" for row in rows):
        raise SplitError("there is no test folder to keep", "Use --split grouped, which makes its own")


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
