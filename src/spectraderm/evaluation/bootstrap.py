"""95 % intervals from resampling photo groups: the percentile bootstrap (Efron & Tibshirani 1993).

A resample is a row of weights, one per photo: how often it was drawn. Copies of one photo are drawn together, so their
weights are equal. A `Measure` turns `float[r, n]` weights into named quantities `float[..., r]`, NaN where undefined.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from spectraderm.core.binomial import least_share
from spectraderm.evaluation.scored import Booleans, Integers, Reals

RESAMPLES = 1000
MIN_GROUPS = 10
"""Below so many photo groups an interval is no ground for a claim."""
_AT_ONCE = 2**17  # weights: 1 MB, which stay in a processor's cache

Measure = Callable[[Reals], dict[str, Reals]]
Interval = dict[str, float | None]


def rows_at_once(photos: int) -> int:
    """How many resamples of so many photos fit into memory together."""
    return max(1, _AT_ONCE // max(photos, 1))


def weights(
    groups: Integers, seed: int | Sequence[int] = 0, by_group: bool = False, rows: int | None = None
) -> Iterator[Reals]:
    """First the photos as they are, `float[1, n]`, then 1000 resamples of their groups, `float[<=rows, n]` at a time.

    With `by_group` every photo weighs 1 / the size of its group. The draws depend on groups and seed alone.
    """
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    own = 1 / size[group] if by_group else np.ones(len(group))
    yield own[None]
    random, rows = np.random.default_rng(seed), rows or rows_at_once(len(group))
    for first in range(0, RESAMPLES, rows):
        times = _times(random, min(rows, RESAMPLES - first), len(size))
        yield np.take(times, group, axis=1) * own


def _times(random: np.random.Generator, rows: int, count: int) -> Integers:
    """How often each of `count` things is drawn in as many draws with replacement, `int64[rows, count]`."""
    drawn = random.integers(0, max(count, 1), (rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)


def resample(measure: Measure, drawn: Iterable[Reals]) -> dict[str, Reals]:
    """Each quantity as measured, followed by its resamples: `float[..., 1 + 1000]`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [measure(chunk) for chunk in drawn]
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def interval(values: Reals) -> Interval:
    """`value`, and `low` and `high` from the resamples in which it is defined; None throughout if `value` is not."""
    value, resamples = values[0], values[1:][np.isfinite(values[1:])]
    if np.isnan(value) or not len(resamples):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(resamples, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}


def share(values: Reals, groups: int) -> Interval:
    """The same for a share of so many groups, between 0 and 1.

    At 0 or 1 all resamples are alike, and the far bound is the binomial one.
    """
    result = interval(np.clip(values, 0, 1))
    far = least_share(groups)
    if result["value"] is not None and np.isclose(result["value"], 1, rtol=0, atol=1e-12):
        return {"value": 1.0, "low": far, "high": 1.0}
    if result["value"] is not None and np.isclose(result["value"], 0, rtol=0, atol=1e-12):
        return {"value": 0.0, "low": 0.0, "high": 1 - far}
    return result


def mean(values: Reals | Booleans, drawn: Reals) -> Reals:
    """Weighted means of `[n]` or `[n, k]` values by resample: `float[r]` or `float[k, r]`."""
    result: Reals = (drawn @ values.astype(np.float64)).T / drawn.sum(1)
    return result


def rate(hits: Booleans, groups: Integers, seed: int = 0, by_group: bool = False) -> dict[str, Any]:
    """How large a share of photos hits: `value`, `low`, `high`, `n_photos`, `n_groups`, `too_few` for a claim."""
    count = len(np.unique(groups))
    values = resample(lambda drawn: {"share": mean(hits, drawn)}, weights(groups, seed, by_group))["share"]
    return {**share(values, count), "n_photos": len(hits), "n_groups": count, "too_few": count < MIN_GROUPS}
