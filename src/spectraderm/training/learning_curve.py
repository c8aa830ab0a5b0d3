"""What more photos would bring: a closed-form head fitted again on a part of a fold's training photo groups.

Each fold writes `learning_curve.csv`, a line per share, draw and test photo group; its test photos that have a copy
among its training photos are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core.files import write_csv
from spectraderm.core.rows import Rows
from spectraderm.training import lda
from spectraderm.training.lda import Floats, Integers

SHARES = (0.25, 0.5, 0.75)
"""Of the photo groups of each class; that of all of them is the fold's own head."""
COLUMNS = ("share", "draw", "train_groups", "photo_group", "right")
_DRAWS = 3
"""How often a part is drawn in all: more takes longer than the training itself."""


@dataclass(frozen=True)
class Photos(Rows):
    """Rows of photos: `features` `float32[n, width]`, class numbers `targets` and photo groups `groups`, `int64[n]`."""

    features: Floats
    targets: Integers
    groups: Integers

    def fit(self, invariance: float, shrinkage: float, normalisation: float) -> tuple[lda.Statistics, Integers, Any]:
        """Statistics of these photos, the numbers of the classes that are among them, and weights and bias for them."""
        present, targets = np.unique(self.targets, return_inverse=True)
        statistics = lda.collect(self.features, targets, self.groups, len(present), invariance)
        return statistics, present, statistics.solve(shrinkage, normalisation)


def draws(folds: Sequence[str]) -> dict[str, int]:
    """How many draws each of the measuring folds takes, of those that take any: three in all, if there are so many."""
    taking = folds[:_DRAWS]
    return {fold: -(-_DRAWS // len(taking)) for fold in taking}


def write(
    path: Path, train: Photos, tested: Photos, guesses: Integers, how: tuple[float, float, float], seed: int, draws: int
) -> None:
    """Write a fold's `learning_curve.csv`; nothing where it has no test photos.

    The head was fitted on augmented photos `train`, by `invariance`, `shrinkage` and `normalisation` (`how`), and gave
    `tested`, as it sees them, the class numbers `guesses` `int64[n]`. In each draw smaller shares are parts of larger.
    """
    clean = ~np.isin(tested.groups, train.groups)
    tested, guesses = tested.take(clean), guesses[clean]
    if not len(guesses):
        return
    rows = list(_rows(1.0, 0, train, tested, guesses))
    for draw in range(draws):
        order = _order(train, seed, draw)
        for share in SHARES:
            chosen = [groups[: max(1, round(share * len(groups)))] for groups in order]
            part = train.take(np.isin(train.groups, np.concatenate(chosen)))
            _, present, fitted = part.fit(*how)
            weights, bias = (values.astype(np.float32) for values in fitted)
            rows += _rows(share, draw, part, tested, present[(tested.features @ weights.T + bias).argmax(1)])
    write_csv(path, COLUMNS, sorted(rows, key=lambda row: (row["share"], row["draw"], row["photo_group"])))


def _order(train: Photos, seed: int, draw: int) -> list[Integers]:
    """Of every class its photo groups, in random order."""
    groups, first = np.unique(train.groups, return_index=True)
    classes, random = train.targets[first], np.random.default_rng((seed, draw))
    return [random.permutation(groups[classes == number]) for number in np.unique(classes)]


def _rows(share: float, draw: int, train: Photos, tested: Photos, guesses: Integers) -> Iterator[dict[str, Any]]:
    """A line for each test photo group; `right` is the share of its files that are guessed right."""
    groups, number, files = np.unique(tested.groups, return_inverse=True, return_counts=True)
    right = np.bincount(number, guesses == tested.targets) / files
    counts = len(np.unique(train.groups))
    for group, value in zip(groups.tolist(), right.tolist(), strict=True):
        yield dict(zip(COLUMNS, (share, draw, counts, group, round(value, 6)), strict=True))
