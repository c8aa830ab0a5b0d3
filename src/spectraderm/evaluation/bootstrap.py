"""Scored photos, and 95 % intervals of their scores from resampling photo groups.

A resample is a row of weights, one per photo: how often it was drawn. Copies of one photo are drawn together, so their
weights are equal. A `Statistic` turns weights `float[r, n]` into named quantities `float[..., r]`, NaN where undefined.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from spectraderm.core.resampling import draws, rows_at_once, share
from spectraderm.core.rows import Rows
from spectraderm.inference.prediction import VERDICTS

NO_CLASS = -1
"""The class number of a photo that shows none of the classes."""
MIN_GROUPS = 10
"""Below so many photo groups an interval is no ground for a claim."""

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Statistic = Callable[[Reals], dict[str, Reals]]


@dataclass(frozen=True)
class Labelled(Rows):
    """n photos: true class numbers `int64[n]`, and photo groups `int64[n]`, equal for copies of one photo.

    `other` is the number of the class of photos of none of the others, if there is one; else these are `NO_CLASS`.
    """

    labels: Integers
    groups: Integers
    other: int | None = field(default=None, kw_only=True)

    @property
    def is_other(self) -> Booleans:
        """Which photos are of none of the classes, `bool[n]`."""
        return np.isin(self.labels, [NO_CLASS] if self.other is None else [NO_CLASS, self.other])

    @property
    def own(self) -> Self:
        """The photos of the classes."""
        return self.take(~self.is_other)

    @property
    def others(self) -> Self:
        """The photos of none of the classes."""
        return self.take(self.is_other)

    @property
    def n_groups(self) -> int:
        """The number of photo groups."""
        return len(np.unique(self.groups))


@dataclass(frozen=True)
class Scored(Labelled):
    """n photos in c classes with their probabilities `float64[n, c]`, calibrated or not.

    The class `other` is a guess, but none that is scored: scores are of `own` photos. `folds`, `int64[n]`, tells which
    model and temperature each photo's probabilities are of; None: all of the same.
    """

    probabilities: Reals
    folds: Integers | None = None

    @property
    def rows_of_folds(self) -> list[Integers]:
        """The row numbers of each fold's photos."""
        folds = np.zeros(len(self), np.int64) if self.folds is None else self.folds
        return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]

    @property
    def classes(self) -> int:
        """The number of classes, c."""
        return int(self.probabilities.shape[1])

    @property
    def known(self) -> list[int]:
        """The numbers of the classes that are scored, all but `other`."""
        return [number for number in range(self.classes) if number != self.other]

    @property
    def guesses(self) -> Integers:
        """The likeliest class of each photo, `int64[n]`; of equally likely ones the first."""
        result: Integers = self.probabilities.argmax(1)
        return result

    @property
    def confidence(self) -> Reals:
        """The probability of the guess, `float64[n]`."""
        result: Reals = self.probabilities.max(1)
        return result

    @property
    def right(self) -> Booleans:
        """Whether the guess is the true class, `bool[n]`."""
        result: Booleans = self.guesses == self.labels
        return result


@dataclass(frozen=True, kw_only=True)
class Judged(Scored):
    """Scored photos with what is said of them: `sets` `bool[n, c]` and `verdicts` `int64[n]`, numbers in `VERDICTS`."""

    sets: Booleans
    verdicts: Integers

    @property
    def predicted(self) -> Booleans:
        """Whether the verdict is `predicted`, `bool[n]`."""
        return np.equal(self.verdicts, VERDICTS.index("predicted"))

    @property
    def covered(self) -> Booleans:
        """Whether the set holds the true class, `bool[n]`."""
        return self.sets[np.arange(len(self)), self.labels]


def group_weights(groups: Integers) -> Reals:
    """1 / the size of its photo group, for every photo."""
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    weights: Reals = 1.0 / size[group]
    return weights


def weights(groups: Integers, seed: int | Sequence[int] = 0, by_group: bool = False, rows: int = 0) -> Iterator[Reals]:
    """First the photos as they are, `float[1, n]`, then 1000 resamples of their groups, `float[<=rows, n]` at a time.

    With `by_group` every photo weighs 1 / the size of its group. The draws depend on groups and seed alone.
    """
    once = group_weights(groups) if by_group else np.ones(len(groups))
    yield once[None]
    unique, group = np.unique(groups, return_inverse=True)
    for times in draws(len(unique), seed, rows or rows_at_once(len(group))):
        yield np.take(times, group, axis=1) * once


def resample(statistic: Statistic, drawn: Iterable[Reals]) -> dict[str, Reals]:
    """Each quantity of the photos as they are, followed by its resamples: `float[..., 1 + 1000]`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [statistic(chunk) for chunk in drawn]
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def mean(values: Reals | Booleans | Integers, drawn: Reals) -> Reals:
    """Weighted means of `[n]` or `[n, k]` values by resample: `float[r]` or `float[k, r]`."""
    result: Reals = (drawn @ values.astype(np.float64)).T / drawn.sum(1)
    return result


def means(values: Reals | Booleans | Integers, groups: Integers, by_group: bool = False) -> Reals:
    """The mean of `[n]` values, followed by its resamples: `float[1 + 1000]`."""
    return resample(lambda drawn: {"mean": mean(values, drawn)}, weights(groups, by_group=by_group))["mean"]


def rate(hits: Booleans, groups: Integers, by_group: bool = False) -> dict[str, Any]:
    """The share of photos that are hits: `value`, `low`, `high`, `n_photos`, `n_groups`, `too_few` for a claim."""
    count = len(np.unique(groups))
    return {
        **share(means(hits, groups, by_group), count),
        "n_photos": len(hits),
        "n_groups": count,
        "too_few": count < MIN_GROUPS,
    }
