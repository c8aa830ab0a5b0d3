"""Manifest -> which photo is trained, validated, calibrated and tested on, in every fold; and the proof that it holds.

Four protocols. `grouped`: stratified by class, no photo group ever crosses. `original`: the folders as they came,
validation cut at random from the training photos of each class, as most tutorials do, copies and all. `deduplicated`:
the given test folder against training folders without copies of it. `by-source`: one source after the other is left
out and tested on.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from spectraderm.core import Protocol
from spectraderm.core.errors import SplitError
from spectraderm.core.files import read_csv, write_csv
from spectraderm.core.names import ONE_FOLDER, look_alikes
from spectraderm.core.run import FINAL, ORIGINAL, measuring
from spectraderm.data import source_folds
from spectraderm.data.folds import EXCLUDED, FOLD_VALIDATION, SPLITS, Fold, cut, of_paths, shuffled
from spectraderm.data.manifest import Row

__all__ = ["EXCLUDED", "SPLITS", "Fold", "Split", "check", "label_conflicts", "make", "read", "write"]

_KEEPING = ("original", "deduplicated")  # the given test folder
COLUMNS = ("protocol", "fold", "seed", "path", "photo_group", "split")
HOLDOUT = {"test": 0.2, "val": 0.1, "calibration": 0.1}
"""Shares of each class's photo groups that `grouped` with one fold holds out."""
VALIDATION = 0.2
"""Share of each class's training photos that `original` validates on."""
DEDUPLICATED = {"val": 0.125, "calibration": 0.125}
"""Shares of each class's photo groups outside the test folder that `deduplicated` validates and calibrates on."""


@dataclass(frozen=True)
class Split:
    """A protocol and its folds."""

    protocol: Protocol
    folds: list[Fold]


def make(rows: Sequence[Row], protocol: Protocol, folds: int, seed: int) -> Split:
    """Split the photos of a manifest; `seed` is of the shuffling and, per fold, of the training.

    Of `grouped` 1 fold holds out a test set, and k >= 2 test every photo once beside a final model on all photos; of
    `original` folds are random draws of the validation set, seeds counting up; of the others there is 1. `final` comes
    first. `grouped` and `by-source`, where the given folders can be trained and tested on, the last one is `original`,
    the very fold that `original` makes of this seed: the score that the folders would have given.

    Raises:
        SplitError: a class has too few photo groups, the folders have no test split to keep, or there are no sources.
    """
    if folds < 1 or (protocol in ("deduplicated", "by-source") and folds > 1):
        raise SplitError(f"{folds} folds can't be made", "Give 1" if folds > 1 else "Give 1 or more")
    if seed < 0:
        raise SplitError(f"{seed} is no seed", "Give 0 or more")
    if protocol in _KEEPING and not any(row.given_split == "test" for row in rows):
        raise SplitError("there is no test folder to keep", "Use --split grouped, which makes its own")
    if protocol == "original":
        made = _original(rows, folds, seed)
    elif protocol == "deduplicated":
        made = [_deduplicated(rows, seed)]
    elif protocol == "by-source":
        made = source_folds.make(rows, seed) + _beside(rows, seed)
    else:
        made = _grouped(rows, folds, seed) + _beside(rows, seed)
    split = Split(protocol, made)
    check(rows, split)
    return split


def check(rows: Sequence[Row], split: Split) -> None:
    """Prove a split, every time one is made or read.

    Raises:
        SplitError: two classes look alike; in some fold a photo is missing or unknown, a class lacks from a split,
            or, `grouped` and `deduplicated`, a photo group stands in two splits; `original` and `deduplicated`, a test
            photo is not from the test folder; `deduplicated`, a photo is excluded that need not be; or the `grouped`
            folds do not test every photo exactly once. `by-source`: see `source_folds.problems`.
    """
    by_path = {row.path: row for row in rows}
    if alike := look_alikes({row.label for row in rows}):
        folders = [next(row.path.rpartition("/")[0] for row in rows if row.label == label) for label in alike[0]]
        problem = f"folders {' and '.join(map(repr, folders))} look alike, but lie beside each other"
        raise SplitError(problem, f"Look whether they are one class: {ONE_FOLDER}, and run `audit` again")
    names = measuring(split.protocol, [fold.name for fold in split.folds])
    measured, many = [fold for fold in split.folds if fold.name in names], bool(names)
    for fold in split.folds:
        protocol = "original" if fold.name == ORIGINAL else split.protocol
        needed = ("train", "val", "test") if protocol == "original" else SPLITS[:2] if many else SPLITS
        for problem in _problems(fold, by_path, protocol, needed):
            raise SplitError(f"fold {fold.name}: {problem}", "Split again, with more photos or fewer folds")
    tested = Counter(path for fold in measured for path, name in fold.splits.items() if name == "test")
    if split.protocol == "by-source":
        source_folds.check(rows, measured)
    elif many and tested != Counter(dict.fromkeys(by_path, 1)):
        raise SplitError("the folds do not test every photo exactly once", "Split again")


def write(path: Path, split: Split, rows: Sequence[Row]) -> None:
    """Write `split.csv`, one line per fold and photo."""
    groups = {row.path: row.photo_group for row in rows}
    records = []
    for fold in split.folds:
        about = {"protocol": split.protocol, "fold": fold.name, "seed": fold.seed}
        records += [about | {"path": p, "photo_group": groups[p], "split": name} for p, name in fold.splits.items()]
    write_csv(path, COLUMNS, records)


def read(path: Path, rows: Sequence[Row]) -> Split:
    """Read `split.csv` and check it against the manifest's rows."""
    folds: dict[str, Fold] = {}
    records = read_csv(path, COLUMNS, "Run `spectraderm split RUN` first")
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


def label_conflicts(rows: Sequence[Row], groups: Iterable[int] | None = None) -> dict[str, int]:
    """Photos that have a copy in another class: path -> number of their copies' group.

    Not a patient's two diseases: only files that show one photo count, where the manifest tells them apart; `groups`
    says otherwise which do, by row.
    """
    members: defaultdict[int, list[Row]] = defaultdict(list)
    copies = [row.photo_group if row.copy_group is None else row.copy_group for row in rows]
    for row, number in zip(rows, copies if groups is None else groups, strict=True):
        members[int(number)].append(row)
    disputed = {number for number, photos in members.items() if len({row.label for row in photos}) > 1}
    return {row.path: number for number in sorted(disputed) for row in members[number]}


def _original(rows: Sequence[Row], draws: int, seed: int) -> list[Fold]:
    """The folders as they came. Where none is for validation, a fifth of each class's training photos, at random."""
    given = {row.path: row.given_split for row in rows}
    labels = [] if "val" in given.values() else sorted({row.label for row in rows})
    folds = []
    for number in range(draws):
        random, splits = np.random.default_rng(seed + number), dict(given)
        for label in labels:
            train = [row.path for row in rows if row.label == label and row.given_split == "train"]
            if len(train) < 2:
                raise SplitError(f"class {label!r} has {len(train)} training photos, 2 are needed", "Add photos")
            taken = random.permutation(len(train))[: max(1, round(VALIDATION * len(train)))]
            splits.update((train[index], "val") for index in taken)
        folds.append(Fold(FINAL if number == 0 else f"draw-{number + 1}", seed + number, splits))
    return folds


def _grouped(rows: Sequence[Row], folds: int, seed: int) -> list[Fold]:
    """Photo groups shuffled by class: held out once, or in k folds beside a final training on all of them."""
    remedy = "Add other photos of it (copies do not count), or ask for fewer folds"
    classes = shuffled(rows, (), seed, max(folds + 1, len(SPLITS)), "photo groups", remedy)
    if folds == 1:
        return [Fold(FINAL, seed, of_paths(rows, cut(classes, HOLDOUT)))]
    made = [Fold(FINAL, seed, of_paths(rows, cut(classes, FOLD_VALIDATION)))]
    for fold in range(folds):
        tested = {group: "test" for groups in classes.values() for group in groups[fold::folds]}
        rest = {label: [g for g in groups if g not in tested] for label, groups in classes.items()}
        splits = of_paths(rows, tested | cut(rest, FOLD_VALIDATION))
        made.append(Fold(f"fold-{fold + 1}", seed + fold + 1, splits))
    return made


def _deduplicated(rows: Sequence[Row], seed: int) -> Fold:
    """The folders as they came, without what makes their score a lie. The test folder stays as it is, so that scores on
    it can be compared; what of its photo groups stands elsewhere is excluded, and so is every photo whose copies
    disagree on the class. Validation and calibration are cut anew from all that is left, by photo group.
    """
    disputed = label_conflicts(rows)
    splits = dict.fromkeys((row.path for row in rows if row.path in disputed), EXCLUDED)
    kept = [row for row in rows if row.path not in splits]
    splits |= {row.path: "test" for row in kept if row.given_split == "test"}
    tested = {row.photo_group for row in kept if row.given_split == "test"}
    splits |= {row.path: EXCLUDED for row in kept if row.given_split != "test" and row.photo_group in tested}
    rest = [row for row in rows if row.path not in splits]
    what, remedy = "photo groups that are not in the test folder", "Use --split grouped, which cuts its own test set"
    classes = shuffled(rest, {row.label for row in rows}, seed, len(DEDUPLICATED) + 1, what, remedy)
    splits |= of_paths(rest, cut(classes, DEDUPLICATED))
    return Fold(FINAL, seed, {row.path: splits[row.path] for row in rows})


def _beside(rows: Sequence[Row], seed: int) -> list[Fold]:
    """The folders as they came as one more fold, where each class can be trained, validated and tested in them."""
    labels = {row.label for row in rows}
    if any({row.label for row in rows if row.given_split == name} != labels for name in ("train", "test")):
        return []
    try:
        fold = Fold(ORIGINAL, seed, _original(rows, 1, seed)[0].splits)
        check(rows, Split("original", [fold]))
    except SplitError:  # one training photo, or a validation folder without some class
        return []
    return [fold]


def _problems(fold: Fold, by_path: Mapping[str, Row], protocol: Protocol, needed: Sequence[str]) -> Iterator[str]:
    """What breaks the promise of a fold of that protocol; what comes after the first may follow from it."""
    if fold.splits.keys() != by_path.keys():
        yield f"{min(fold.splits.keys() ^ by_path.keys())} stands in only one of manifest and split"
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for path, name in fold.splits.items():
        labels[name].add(by_path[path].label)
    of_source = protocol == "by-source" and fold.name != FINAL
    allowed = (*SPLITS, EXCLUDED) if of_source or protocol == "deduplicated" else SPLITS
    yield from (f"{name!r} is not one of {', '.join(allowed)}" for name in sorted(labels.keys() - {*allowed}))
    yield from (f"no photo is in {name}" for name in needed if not labels[name])
    everything = set().union(*labels.values())
    for name, present in labels.items() if not of_source else ():
        if present != everything and name not in ("test", EXCLUDED):
            yield f"{name} has no photo of {', '.join(sorted(everything - present))}"
    kept = [(path, name, by_path[path]) for path, name in fold.splits.items() if name != EXCLUDED]
    splits: dict[int, str] = {}
    for _, name, row in kept if protocol != "original" else ():
        if splits.setdefault(row.photo_group, name) != name:
            yield f"photo group {row.photo_group} crosses the splits"
    for path, name, row in kept if protocol in _KEEPING else ():
        if (name == "test") != (row.given_split == "test"):
            yield f"{path} is in {name}, its folder says otherwise"
    # excluded are photos whose copies disagree, all of them, and those of tested photo groups: no others
    disputed = label_conflicts(list(by_path.values()))
    tested = {row.photo_group for _, name, row in kept if name == "test"}
    for path, name in fold.splits.items() if protocol == "deduplicated" else ():
        leaks = by_path[path].given_split != "test" and by_path[path].photo_group in tested
        if (name == EXCLUDED) != (path in disputed or leaks):
            yield f"{path} must not be in {name}"
