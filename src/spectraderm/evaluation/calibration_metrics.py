"""How good the probabilities themselves are: proper scores, and how often they come true."""

from typing import Any

import numpy as np
from scipy import sparse

from spectraderm.core.resampling import Interval, interval
from spectraderm.evaluation.bootstrap import Measure, mean
from spectraderm.evaluation.scored import Booleans, Integers, Reals, Scored

BINS = 15
"""Of equal width; each holds its upper edge, not its lower one (Guo et al. 2017)."""


def measure(scored: Scored) -> Measure:
    """Brier score, log loss, and expected calibration error of the guess and of every class.

    `ece` is that of Guo et al. (2017), `classwise_ece` that of Kull et al. (2019): the mean over all classes. Their
    signed parts, a row to each bin, are `ece_gaps` and `classwise_ece_gaps`, for `error_interval`.
    """
    losses = np.stack([brier(scored), log_loss(scored)], axis=1)
    top = _gaps(scored.confidence[:, None], scored.right[:, None])
    every = _gaps(scored.probabilities, _truth(scored))

    def measured(drawn: Reals) -> dict[str, Reals]:
        own, by_class = ((drawn @ gaps).T / drawn.sum(1) for gaps in (top, every))
        gaps = {"ece": own, "classwise_ece": by_class / scored.classes}
        return {
            **dict(zip(("brier", "log_loss"), mean(losses, drawn), strict=True)),
            **{name: np.abs(each).sum(0) for name, each in gaps.items()},
            **{f"{name}_gaps": each for name, each in gaps.items()},
        }

    return measured


def error_interval(gaps: Reals) -> Interval:
    """The calibration error that is the sum of `float[bins, 1 + resamples]` gaps, and an interval that allows for bias.

    Chance only ever adds to the sum of absolute gaps, and to that of resamples twice, so that percentiles would leave
    the truth out. The upper bound is the percentile. The lower one is the value less what chance alone can do: the
    97.5 % quantile of the sum of |resampled gap - gap|, which by the triangle inequality is never too little.
    """
    result = interval(np.abs(gaps).sum(0))
    if result["value"] is None:
        return result
    chance = np.percentile(np.abs(gaps[:, 1:] - gaps[:, :1]).sum(0), 97.5)
    return {**result, "low": max(0.0, result["value"] - float(chance))}


def brier(scored: Scored) -> Reals:
    """The squared error summed over classes (Brier 1950), `float[n]` from 0 to 2."""
    result: Reals = ((scored.probabilities - _truth(scored)) ** 2).sum(1)
    return result


def log_loss(scored: Scored) -> Reals:
    """Minus the natural logarithm of the probability of the true class, `float[n]`; at most 36, as if of 2e-16."""
    true = np.take_along_axis(scored.probabilities, scored.labels[:, None], axis=1)[:, 0]
    result: Reals = -np.log(np.clip(true, np.finfo(np.float64).eps, 1))
    return result


def reliability(scored: Scored, weights: Reals | None = None) -> list[dict[str, Any]]:
    """The reliability diagram: per bin of confidence `low`, `high`, `n_photos`, mean `confidence` and `accuracy`.

    `weights` is `float[n]`; confidence and accuracy are None where no photo weighs anything.
    """
    own = np.ones(len(scored)) if weights is None else weights
    place = _bin(scored.confidence)
    photos, total, confidence, right = (
        np.bincount(place, values, BINS)
        for values in (np.ones(len(scored)), own, own * scored.confidence, own * scored.right)
    )
    return [
        {
            "low": i / BINS,
            "high": (i + 1) / BINS,
            "n_photos": int(photos[i]),
            "confidence": float(confidence[i] / total[i]) if total[i] else None,
            "accuracy": float(right[i] / total[i]) if total[i] else None,
        }
        for i in range(BINS)
    ]


def _bin(values: Reals) -> Integers:
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], values, side="left")


def _truth(scored: Scored) -> Booleans:
    result: Booleans = scored.labels[:, None] == np.arange(scored.classes)
    return result


def _gaps(claimed: Reals, came_true: Booleans) -> sparse.csr_array:
    """Probability minus truth of `[n, k]` claims, each in the column of its claim and bin: `float[n, k * BINS]`."""
    count, claims = claimed.shape
    column = _bin(claimed) + BINS * np.arange(claims)
    row = np.repeat(np.arange(count), claims)
    return sparse.csr_array(((claimed - came_true).ravel(), (row, column.ravel())), shape=(count, BINS * claims))
