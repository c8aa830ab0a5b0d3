"""One training's splits of photos, and how photo groups are drawn for them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spectraderm.core.errors import SplitError
from spectraderm.data.manifest import Row

SPLITS = ("train", "val", "calibration", "test")
EXCLUDED = "excluded"
"""Split of the photos that a fold of `deduplicated` or `by-source` neither trains nor tests on."""
FOLD_VALIDATION = {"val": 0.125}
"""Share of each class's photo groups, outside the tested ones, that folds of `grouped` and `by-source` validate on."""


@dataclass(frozen=True)
class Fold:
    """One training: its name (`final` is exported, the others only measure), its seed, and the split of each path."""

    name: str
    seed: int
    splits: dict[str, str]


def shuffled(
    rows: Sequence[Row], labels: Iterable[str], seed: int, needed: int, what: str, remedy: str
) -> dict[str, list[int]]:
    """Photo groups of each class (and of `labels`) in random order; one whose files disagree is of its commonest class.

    Raises:
        SplitError: a class has fewer than `needed`.
    """
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.photo_group][row.label] += 1
    classes: dict[str, list[int]] = {label: [] for label in sorted({*labels, *(row.label for row in rows)})}
    for group, of in sorted(counts.items()):
        classes[min(of, key=lambda label: (-of[label], label))].append(group)
    for label, groups in classes.items():
        if len(groups) < needed:
            raise SplitError(f"class {label!r} has {len(groups)} {what}, {needed} are needed", remedy)
    random = np.random.default_rng(seed)
    return {label: [groups[i] for i in random.permutation(len(groups))] for label, groups in classes.items()}


def cut(classes: Mapping[str, Sequence[int]], shares: Mapping[str, float]) -> dict[int, str]:
    """Per class, the first groups to each named split, at least one each, and the rest to training."""
    splits: dict[int, str] = {}
    for groups in classes.values():
        start = 0
        for name, share in shares.items():
            stop = start + max(1, round(share * len(groups)))
            splits.update(dict.fromkeys(groups[start:stop], name))
            start = stop
        splits.update(dict.fromkeys(groups[start:], "train"))
    return splits


def of_paths(rows: Sequence[Row], splits: Mapping[int, str]) -> dict[str, str]:
    """The split of every path, by its photo group."""
    return {row.path: splits[row.photo_group] for row in rows}
