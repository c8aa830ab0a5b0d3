"""How good the probabilities themselves are: proper scores, how often they come true, and what chance alone does."""

from typing import Any

import numpy as np
from scipy import sparse

from spectraderm.core.resampling import Interval, interval, rows_at_once
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, Scored, Statistic, group_weights, mean

BINS = 15
"""Of equal width; each holds its upper edge, not its lower one (Guo et al. 2017)."""
_CHANCE_DRAWS = 400


def statistic(scored: Scored) -> Statistic:
    """Brier score, log loss, and expected calibration error of the guess and of every class.

    `ece` is that of Guo et al. (2017), `classwise_ece` that of Kull et al. (2019): the mean over all classes. Their
    signed parts, a row to each bin, are `ece_gaps` and `classwise_ece_gaps`, for `error_interval`.
    """
    truth: Booleans = scored.labels[:, None] == np.arange(scored.classes)
    # squared error summed over classes (Brier 1950), 0 to 2; log loss at most 36, as if of a probability of 2e-16
    brier = ((scored.probabilities - truth) ** 2).sum(1)
    likelihood = np.take_along_axis(scored.probabilities, scored.labels[:, None], axis=1)[:, 0]
    losses = np.stack([brier, -np.log(np.clip(likelihood, np.finfo(np.float64).eps, 1))], axis=1)
    top = _gaps(scored.confidence[:, None], scored.right[:, None])
    every = _gaps(scored.probabilities[:, scored.known], truth[:, scored.known])

    def quantities(drawn: Reals) -> dict[str, Reals]:
        top_gaps, class_gaps = ((drawn @ gaps).T / drawn.sum(1) for gaps in (top, every))  # [bins, r], [c * bins, r]
        gaps = {"ece": top_gaps, "classwise_ece": class_gaps / len(scored.known)}
        return {
            **dict(zip(("brier", "log_loss"), mean(losses, drawn), strict=True)),
            **{name: np.abs(each).sum(0) for name, each in gaps.items()},
            **{f"{name}_gaps": each for name, each in gaps.items()},
        }

    return quantities


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


def reliability(scored: Scored) -> list[dict[str, Any]]:
    """The reliability diagram: per bin of confidence `low`, `high`, `n_photos`, mean `confidence` and `accuracy`.

    The means count every photo group once, and are None in an empty bin.
    """
    weights = group_weights(scored.groups)
    weighted = np.stack([weights, weights * scored.confidence, weights * scored.right])
    bins, rows = _bin(scored.confidence), []
    for i in range(BINS):
        total, confidence, right = weighted[:, bins == i].sum(1).tolist()
        means = {"confidence": confidence / total if total else None, "accuracy": right / total if total else None}
        rows.append({"low": i / BINS, "high": (i + 1) / BINS, "n_photos": int((bins == i).sum()), **means})
    return rows


def error_by_chance(scored: Scored) -> dict[str, float]:
    """The expected calibration error that a perfectly calibrated model would show on these photos.

    Each photo's guess is let come true with exactly the probability that was claimed for it, copies of one photo
    together, 400 times ("consistency resampling", Bröcker & Smith 2007), every photo group counting once. Gives the
    `mean` and `high`, the 95 % quantile.
    """
    claimed, weights = scored.confidence, group_weights(scored.groups)
    in_bin = (_bin(claimed)[:, None] == np.arange(BINS)) * (weights / weights.sum())[:, None]  # [n, bins]
    group = np.unique(scored.groups, return_inverse=True)[1]
    random, errors, step = np.random.default_rng(0), np.empty(_CHANCE_DRAWS), rows_at_once(len(scored))
    for first in range(0, _CHANCE_DRAWS, step):
        # one uniform number per draw and photo group, the same for its copies: [step, n]
        luck = random.random((min(step, _CHANCE_DRAWS - first), int(group.max()) + 1))[:, group]
        errors[first : first + step] = np.abs(((luck < claimed) - claimed) @ in_bin).sum(1)
    return {"mean": float(errors.mean()), "high": float(np.percentile(errors, 95))}


def _bin(values: Reals) -> Integers:
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], values, side="left")


def _gaps(claimed: Reals, came_true: Booleans) -> sparse.csr_array:
    """Probability minus truth of `[n, k]` claims, each in the column of its claim and bin: `float[n, k * BINS]`."""
    count, claims = claimed.shape
    column = _bin(claimed) + BINS * np.arange(claims)
    row = np.repeat(np.arange(count), claims)
    return sparse.csr_array(((claimed - came_true).ravel(), (row, column.ravel())), shape=(count, BINS * claims))
