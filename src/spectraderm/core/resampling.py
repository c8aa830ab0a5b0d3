"""95 % intervals from drawing again with replacement: the percentile bootstrap (Efron & Tibshirani 1993)."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
_AT_ONCE = 2**17  # numbers: 1 MB, which stay in a processor's cache

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]
Interval = dict[str, float | None]
"""`value`, `low` and `high`; all of them None where the value is not defined."""


def rows_at_once(columns: int) -> int:
    """How many rows of so many numbers are computed together."""
    return max(1, _AT_ONCE // max(columns, 1))


def draws(count: int, seed: int | Sequence[int] = 0, rows: int = 0) -> Iterator[Integers]:
    """How often each of `count` things is drawn in as many draws with replacement, `RESAMPLES` times over.

    Yields `int64[<=rows, count]`, in chunks that fit into a cache where `rows` is 0. The numbers depend on count and
    seed alone.
    """
    random, rows = np.random.default_rng(seed), rows or rows_at_once(count)
    for first in range(0, RESAMPLES, rows):
        size = min(rows, RESAMPLES - first)
        # each row counts into columns of its own: row r into r * count ... (r + 1) * count - 1
        drawn = random.integers(0, max(count, 1), (size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)


def interval(values: Reals) -> Interval:
    """The first of `float[1 + resamples]` values, and bounds from those of the others that are defined."""
    value, resamples = values[0], values[1:][np.isfinite(values[1:])]
    if np.isnan(value) or not len(resamples):
        return {"value": None, "low": None, "high": None}
    low, high = np.percentile(resamples, [2.5, 97.5])
    return {"value": float(value), "low": float(low), "high": float(high)}


def share(values: Reals, count: int) -> Interval:
    """The `interval` of a share, 0 to 1, of `count` independent things.

    At 0 or 1 all resamples are alike and bound nothing: there the far bound is the binomial one.
    """
    result = interval(np.clip(values, 0, 1))
    if result["value"] is not None and np.isclose(result["value"], 1, rtol=0, atol=1e-12):
        return {"value": 1.0, "low": least_share(count), "high": 1.0}
    if result["value"] is not None and np.isclose(result["value"], 0, rtol=0, atol=1e-12):
        return {"value": 0.0, "low": 0.0, "high": 1 - least_share(count)}
    return result


def least_share(count: int) -> float:
    """The low end of the 95 % interval of a share that was 1 among `count` (Clopper & Pearson 1934).

    One minus it is the high end of a share that was 0.
    """
    least: float = 0.025 ** (1 / max(count, 1))
    return least
