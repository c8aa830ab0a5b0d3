"""Which of two models is better on the same photos, and how well a score tells unknown photos from known ones."""

from typing import Any

import numpy as np
from scipy.stats import binomtest

from spectraderm.core.errors import RunFolderError, SpectraDermError
from spectraderm.core.resampling import interval, rows_at_once, share
from spectraderm.core.run import Run
from spectraderm.evaluation import ledger, metrics
from spectraderm.evaluation.bootstrap import MIN_GROUPS, Integers, Reals, Scored, resample, weights
from spectraderm.evaluation.calibrate import tested
from spectraderm.evaluation.outputs import pool

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier", "ece", "auroc")
_ROUNDING = 1e-12  # no difference


def compare_photos(a: Scored, b: Scored) -> dict[str, Any]:
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
    too_few = a.n_groups < MIN_GROUPS

    def differences(by_group: bool) -> dict[str, dict[str, Any]]:
        of_a, of_b = (resample(metrics.statistic(each), weights(each.groups, by_group=by_group)) for each in (a, b))
        return {name: _difference(name, of_a[name], of_b[name], too_few) for name in COMPARED}

    by_file, by_group = differences(False), differences(True)
    return {
        "n_photos": len(a),
        "n_groups": a.n_groups,
        "too_few": too_few,
        **by_file,
        "group_accuracy": by_group["accuracy"],
        "by_group": by_group,
        "right": only_right(a, b),
    }


def _difference(name: str, a: Reals, b: Reals, too_few: bool) -> dict[str, Any]:
    apart, better = interval(a - b), "neither"
    low, high = apart["low"], apart["high"]
    if low is not None and high is not None and not too_few and (low > _ROUNDING or high < -_ROUNDING):
        better = "a" if (low > 0) != (name in metrics.LOWER_IS_BETTER) else "b"
    values = {"a": interval(a)["value"], "b": interval(b)["value"], "difference": apart["value"]}
    return {**values, "low": low, "high": high, "better": better}


def only_right(a: Scored, b: Scored) -> dict[str, Any]:
    """How many photos only a, only b, both or neither gets right, and an exact two-sided test over photo groups.

    The test is the sign test: of the groups of which one model gets more photos right than the other, half should be
    a's if both were as good. With one photo to a group it is McNemar's exact test (1947).
    """
    lead = np.bincount(np.unique(a.groups, return_inverse=True)[1], a.right.astype(int) - b.right.astype(int))
    ahead, behind = int((lead > 0).sum()), int((lead < 0).sum())
    hits = {"only_a": a.right & ~b.right, "only_b": b.right & ~a.right, "both": a.right & b.right}
    hits["neither"] = ~a.right & ~b.right
    return {
        **{name: int(photos.sum()) for name, photos in hits.items()},
        "groups_for_a": ahead,
        "groups_for_b": behind,
        "p_value": float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0,
    }


def detection(known: Reals, unknown: Reals, known_groups: Integers, unknown_groups: Integers) -> dict[str, Any]:
    """How well a score that is higher for unknown photos tells m of these from n known ones.

    `auroc` is how likely the unknown one scores higher, ties half; `fpr_at_95` is the share of the unknown that passes
    for known at the threshold that lets 95 % of the known pass (Hendrycks & Gimpel 2017; Liang et al. 2018). Each is
    `{value, low, high}`, both sides resampled by photo group.
    """
    is_unknown = np.arange(len(known) + len(unknown)) >= len(known)
    auroc, order = metrics.auroc(np.concatenate([known, unknown]), is_unknown), np.argsort(known)

    def detected(drawn: Reals) -> dict[str, Reals]:
        of_known, of_unknown = np.hsplit(drawn, [len(known)])
        # the threshold is the score at which 95 % of the weight of the known lies at or below: [r]
        kept = np.cumsum(np.take(of_known, order, axis=1), axis=1)
        last = (kept < 0.95 * (1 - _ROUNDING) * kept[:, -1:]).sum(1)
        passes = unknown <= known[order][last][:, None]  # [r, m]
        return {"auroc": auroc(drawn), "fpr_at_95": (of_unknown * passes).sum(1) / of_unknown.sum(1)}

    rows = rows_at_once(len(is_unknown))
    sides = (weights(side, (0, number), rows=rows) for number, side in enumerate((known_groups, unknown_groups)))
    values = resample(detected, (np.hstack(pair) for pair in zip(*sides, strict=True)))
    passing = share(values["fpr_at_95"], len(np.unique(unknown_groups)))
    return {"auroc": interval(values["auroc"]), "fpr_at_95": passing}


def compare_runs(run_a: Run, run_b: Run) -> dict[str, Any]:
    """Two runs' calibrated probabilities of the same test photos, see `compare_photos`; a line in both ledgers.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    sides = []
    for run in (run_a, run_b):
        crossed, judged = tested(run)
        paths = pool(crossed).own.paths
        sides.append((sorted(paths), judged.own.take(paths.argsort())))
    (paths_a, scored_a), (paths_b, scored_b) = sides
    if paths_a != paths_b:
        raise RunFolderError(
            f"{run_a.folder} and {run_b.folder} were not tested on the same photos", "Use the same --split and --seed"
        )
    result = compare_photos(scored_a, scored_b)
    for run, other in ((run_a, run_b), (run_b, run_a)):
        ledger.write(run, ledger.entry(run, "compare", str(other.folder)))
    return result
