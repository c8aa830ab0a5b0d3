"""95 % intervals from resampling photo groups: the percentile bootstrap (Efron & Tibshirani 1993).

A resample is a row of weights, one per photo: how often it was drawn. Copies of one photo are drawn together, so their
weights are equal. A `Measure` turns `float[r, n]` weights into named quantities `float[..., r]`, NaN where undefined.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from spectraderm.core.resampling import draws, rows_at_once, share
from spectraderm.evaluation.scored import Booleans, Integers, Reals

MIN_GROUPS = 10
"""Below so many photo groups an interval is no ground for a claim."""

Measure = Callable[[Reals], dict[str, Reals]]


def weights(groups: Integers, seed: int | Sequence[int] = 0, by_group: bool = False, rows: int = 0) -> Iterator[Reals]:
    """First the photos as they are, `float[1, n]`, then 1000 resamples of their groups, `float[<=rows, n]` at a time.

    With `by_group` every photo weighs 1 / the size of its group. The draws depend on groups and seed alone.
    """
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    own = 1 / size[group] if by_group else np.ones(len(group))
    yield own[None]
    for times in draws(len(size), seed, rows or rows_at_once(len(group))):
        yield np.take(times, group, axis=1) * own


def resample(measure: Measure, drawn: Iterable[Reals]) -> dict[str, Reals]:
    """Each quantity as measured, followed by its resamples: `float[..., 1 + 1000]`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [measure(chunk) for chunk in drawn]
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def mean(values: Reals | Booleans, drawn: Reals) -> Reals:
    """Weighted means of `[n]` or `[n, k]` values by resample: `float[r]` or `float[k, r]`."""
    result: Reals = (drawn @ values.astype(np.float64)).T / drawn.sum(1)
    return result


def rate(hits: Booleans, groups: Integers, seed: int = 0, by_group: bool = False) -> dict[str, Any]:
    """How large a share of photos hits: `value`, `low`, `high`, `n_photos`, `n_groups`, `too_few` for a claim."""
    count = len(np.unique(groups))
    values = resample(lambda drawn: {"share": mean(hits, drawn)}, weights(groups, seed, by_group))["share"]
    return {**share(values, count), "n_photos": len(hits), "n_groups": count, "too_few": count < MIN_GROUPS}
