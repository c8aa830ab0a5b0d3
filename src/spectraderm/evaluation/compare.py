"""Which of two models is better on the same photos, and how well a score tells strange photos from known ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import binomtest

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.resampling import interval, rows_at_once, share
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import MIN_GROUPS, resample, weights
from spectraderm.evaluation.ranking import auroc
from spectraderm.evaluation.scored import Integers, Reals, Scored

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "ece", "auroc")
_NOTHING = 1e-12  # rounding, not a difference


def compare(a: Scored, b: Scored, seed: int = 0) -> dict[str, Any]:
    """Two models on the same photos in the same order, paired: every resample of photo groups is drawn for both.

    Each metric is `{a, b, difference, low, high, better}`: a minus b with its 95 % interval, and `better` is "neither"
    where that holds 0 or there are too few photo groups. `by_group` counts every photo group once; `right` has the
    counts and an exact test.

    Raises:
        SpectraDermError: the photos, their order or their groups differ.
    """
    if not (np.array_equal(a.labels, b.labels) and np.array_equal(a.groups, b.groups)):
        raise SpectraDermError(
            "These predictions are of different photos, or in another order", "Score both on the same split"
        )
    count = len(np.unique(a.groups))
    by_file, by_group = (_differences(a, b, seed, once, count < MIN_GROUPS) for once in (False, True))
    return {
        "n_photos": len(a),
        "n_groups": count,
        "too_few": count < MIN_GROUPS,
        **by_file,
        "group_accuracy": by_group["accuracy"],
        "by_group": by_group,
        "right": only_right(a, b),
    }


def _differences(a: Scored, b: Scored, seed: int, by_group: bool, too_few: bool) -> dict[str, dict[str, Any]]:
    one, other = (resample(metrics.measure(each), weights(each.groups, seed, by_group)) for each in (a, b))
    return {name: _difference(name, one[name], other[name], too_few) for name in COMPARED}


def _difference(name: str, a: Reals, b: Reals, too_few: bool) -> dict[str, Any]:
    apart = interval(a - b)
    low, high = apart["low"], apart["high"]
    better = "neither"
    if low is not None and high is not None and not too_few and (low > _NOTHING or high < -_NOTHING):
        better = "a" if (low > 0) != (name in metrics.LOWER_IS_BETTER) else "b"
    return {
        "a": interval(a)["value"],
        "b": interval(b)["value"],
        "difference": apart["value"],
        "low": low,
        "high": high,
        "better": better,
    }


def only_right(a: Scored, b: Scored) -> dict[str, Any]:
    """How many photos only a, only b, both or neither gets right, and an exact two-sided test over photo groups.

    The test is the sign test: of the groups of which one model gets more photos right than the other, half should be
    a's if both were as good. With one photo to a group it is McNemar's exact test (1947).
    """
    lead = np.bincount(np.unique(a.groups, return_inverse=True)[1], a.right.astype(int) - b.right.astype(int))
    ahead, behind = int((lead > 0).sum()), int((lead < 0).sum())
    return {
        "only_a": int((a.right & ~b.right).sum()),
        "only_b": int((b.right & ~a.right).sum()),
        "both": int((a.right & b.right).sum()),
        "neither": int((~a.right & ~b.right).sum()),
        "groups_for_a": ahead,
        "groups_for_b": behind,
        "p_value": float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0,
    }


def detection(
    inside: Reals,
    outside: Reals,
    inside_groups: Integers | None = None,
    outside_groups: Integers | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """How well a score, higher the stranger, tells m photos from outside from n of the known kind.

    `auroc` is how likely the one from outside scores higher, ties half; `fpr_at_95` is the share from outside that
    passes for known at the threshold that lets 95 % of the known pass (Hendrycks & Gimpel 2017; Liang et al. 2018).
    Each is `{value, low, high}`, both sides resampled by photo group; without groups every photo is its own.
    """
    strange = np.arange(len(inside) + len(outside)) >= len(inside)
    ranked, passes = auroc(np.concatenate([inside, outside]), strange), _passing(inside, outside)

    def measure(drawn: Reals) -> dict[str, Reals]:
        return {"auroc": ranked(drawn), "fpr_at_95": passes(drawn)}

    known = np.arange(len(inside)) if inside_groups is None else inside_groups
    new = np.arange(len(outside)) if outside_groups is None else outside_groups
    rows = rows_at_once(len(strange))
    sides = (weights(groups, (seed, side), rows=rows) for side, groups in enumerate((known, new)))
    values = resample(measure, (np.hstack(pair) for pair in zip(*sides, strict=True)))
    return {"auroc": interval(values["auroc"]), "fpr_at_95": share(values["fpr_at_95"], len(np.unique(new)))}


def _passing(inside: Reals, outside: Reals) -> Callable[[Reals], Reals]:
    order = np.argsort(inside)

    def passing(drawn: Reals) -> Reals:
        known, new = np.hsplit(drawn, [len(inside)])
        kept = np.cumsum(np.take(known, order, axis=1), axis=1)
        last = (kept < 0.95 * (1 - 1e-12) * kept[:, -1:]).sum(1)
        result: Reals = (new * (outside <= inside[order][last][:, None])).sum(1) / new.sum(1)
        return result

    return passing
