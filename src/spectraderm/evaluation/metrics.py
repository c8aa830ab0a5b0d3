"""Labels, probabilities and prediction sets -> scores, each with a 95 % interval from resampling photo groups.

By file every photo counts; by group every photo group counts once, its photos 1 / its size each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.metrics import confusion_matrix

from spectraderm.core.resampling import interval, share
from spectraderm.evaluation import bootstrap, calibration_metrics
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, Scored, Statistic, mean, resample, weights

COVERAGES = (80, 90, 100)
POINTS = 100
"""At most so many points make up a risk-coverage curve."""
_SHARES = {"accuracy": 100} | {f"accuracy_at_{percent}": percent for percent in COVERAGES}
"""Metrics that are a share of photos, and of how many in a hundred."""
METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "auroc", "brier", "log_loss", "ece", "classwise_ece", "aurc"),
    *(f"accuracy_at_{percent}" for percent in COVERAGES),
)
LOWER_IS_BETTER = frozenset({"brier", "log_loss", "ece", "classwise_ece", "aurc"})


def scores(scored: Scored) -> dict[str, Any]:
    """Every metric as `{value, low, high}`, with the numbers of photos and of photo groups.

    `by_group` has the same metrics with every photo group counted once; `group_accuracy` is its accuracy. A metric
    that is not defined, such as the AUROC of one class, is None with its bounds. A class that a resample lacks is left
    out of that resample's means.
    """

    def intervals(by_group: bool) -> dict[str, Any]:
        values, result = resample(statistic(scored), weights(scored.groups, by_group=by_group)), {}
        for name in METRICS:
            if name in _SHARES:
                result[name] = share(values[name], scored.n_groups * _SHARES[name] // 100)
            elif f"{name}_gaps" in values:
                result[name] = calibration_metrics.error_interval(values[f"{name}_gaps"])
            else:
                result[name] = interval(values[name])
        return result

    by_file, by_group = intervals(False), intervals(True)
    counts = {"n_photos": len(scored), "n_groups": scored.n_groups}
    return {**counts, **by_file, "group_accuracy": by_group["accuracy"], "by_group": by_group}


def statistic(scored: Scored) -> Statistic:
    """All of `METRICS` under weights, `float[r]` each, and the gaps that calibration errors are made of."""
    parts = [guess_statistic(scored), calibration_metrics.statistic(scored), _ranking_statistic(scored)]
    return lambda drawn: {name: values for part in parts for name, values in part(drawn).items()}


def per_class(scored: Scored, labels: list[str]) -> list[dict[str, Any]]:
    """Each class against the rest, by file: sensitivity, specificity, predictive values, F1 and AUROC with intervals.

    `labels` are those of all columns; there is no row of `other`. `n_photos` and `n_groups` are those of the class; a
    metric is None with its bounds where it is not defined.
    """
    tables, aurocs = _confusion_tables(scored), _class_aurocs(scored)
    values = resample(lambda drawn: _rates(tables(drawn)) | {"auroc": aurocs(drawn)}, weights(scored.groups))
    result = []
    for i, label in [(number, labels[number]) for number in scored.known]:
        true, guessed = scored.labels == i, scored.guesses == i
        of = {"sensitivity": true, "specificity": ~true, "ppv": guessed, "npv": ~guessed}
        shares = {name: share(values[name][i], scored.take(rows).n_groups) for name, rows in of.items()}
        counts = {"n_photos": int(true.sum()), "n_groups": scored.take(true).n_groups}
        others = {name: interval(values[name][i]) for name in ("f1", "auroc")}
        result.append({"label": label, **counts, **shares, **others})
    return result


def confusion(scored: Scored) -> list[list[int]]:
    """Counts: a row per true class, a column per guess, that of `other` last."""
    columns = scored.known + ([] if scored.other is None else [scored.other])
    counts = confusion_matrix(scored.labels, scored.guesses, labels=columns)
    matrix: list[list[int]] = counts[: len(scored.known)].tolist()
    return matrix


def set_scores(labels: Integers, sets: Booleans, groups: Integers, other: int | None = None) -> dict[str, Any]:
    """`coverage`, `mean_size`, and the shares of `singletons` and `empty` prediction sets, each `{value, low, high}`.

    `sets` is `bool[n, c]`: the classes that a photo may be. `per_class` has the coverage among the photos of each
    class but `other`, and `by_group` all of this with every photo group counted once.
    """
    count, size = len(np.unique(groups)), sets.sum(1)
    covered = sets[np.arange(len(labels)), labels]
    member = (labels[:, None] == np.arange(sets.shape[1])).astype(np.float64)  # [n, c], one-hot
    properties = np.stack([covered, size == 1, size == 0, size], axis=1)  # [n, 4]

    def quantities(drawn: Reals) -> dict[str, Reals]:
        of_class = (drawn @ (member * covered[:, None]) / (drawn @ member)).T  # [c, r]
        names = ("coverage", "singletons", "empty", "mean_size")
        return {**dict(zip(names, mean(properties, drawn), strict=True)), "per_class": of_class}

    def intervals(by_group: bool) -> dict[str, Any]:
        values = resample(quantities, weights(groups, by_group=by_group))
        shares = {name: share(values[name], count) for name in ("coverage", "singletons", "empty")}
        scored = [(i, row) for i, row in enumerate(values["per_class"]) if i != other]
        classes = [share(row, len(np.unique(groups[labels == i]))) for i, row in scored]
        return {**shares, "mean_size": interval(values["mean_size"]), "per_class": classes}

    return {"n_photos": len(labels), "n_groups": count, **intervals(False), "by_group": intervals(True)}


# -- from guesses: weighted confusion matrices `float[true class, guess, r]` -------------------------------------------


def guess_statistic(scored: Scored) -> Statistic:
    """Accuracy; balanced accuracy, the mean sensitivity over the classes that are there (Brodersen et al. 2010); and
    macro F1, the mean over the classes that are there or were guessed, but for `other`.
    """
    tables = _confusion_tables(scored)

    def quantities(drawn: Reals) -> dict[str, Reals]:
        table = tables(drawn)
        accuracy, rates = np.trace(table) / table.sum((0, 1)), _rates(table)
        means = {
            "balanced_accuracy": _class_mean(rates["sensitivity"]),
            "macro_f1": _class_mean(rates["f1"][scored.known]),
        }
        return {"accuracy": accuracy, **means}

    return quantities


def _confusion_tables(scored: Scored) -> Callable[[Reals], Reals]:
    """Weights `float[r, n]` -> the confusion matrix of each resample, `float[c, c, r]`."""
    count, classes = len(scored), scored.classes
    cell = scored.labels * classes + scored.guesses
    cells = sparse.csr_array((np.ones(count), (np.arange(count), cell)), shape=(count, classes**2))
    return lambda drawn: (drawn @ cells).T.reshape(classes, classes, -1)


def _rates(table: Reals) -> dict[str, Reals]:
    """Each class against the rest, `float[c, r]` each: sensitivity, specificity, predictive values and F1."""
    right, true, guessed, total = np.diagonal(table).T, table.sum(1), table.sum(0), table.sum((0, 1))
    spared = total - true - guessed + right  # neither of the class nor guessed to be
    return {
        "sensitivity": right / true,
        "specificity": spared / (total - true),
        "ppv": right / guessed,
        "npv": spared / (total - guessed),
        "f1": 2 * right / (true + guessed),
    }


def _class_mean(by_class: Reals) -> Reals:
    """The mean over the classes where it is defined; `float[r]` of `float[c, r]`."""
    result: Reals = np.nansum(by_class, axis=0) / np.isfinite(by_class).sum(0)
    return result


# -- from the order of the probabilities: sorted once, then a cumulative sum for each resample -------------------------


def auroc(values: Reals, positive: Booleans, folds: Sequence[Integers] = ()) -> Callable[[Reals], Reals]:
    """How likely a positive has a higher value than a negative, ties half: weights `float[r, n]` -> `float[r]`.

    NaN where either kind is missing (Hanley & McNeil 1982). Of several `folds`, the row numbers of each, only pairs
    within one are compared, and every pair counts the same (Airola et al. 2011): values of different models and
    temperatures are on different scales, and ranked together they tell the folds apart (Forman & Scholz 2010).
    """
    parts = [_pairs(values, positive, rows) for rows in folds or [np.arange(len(values))]]

    def areas(drawn: Reals) -> Reals:
        won, pairs = (np.sum(sums, axis=0) for sums in zip(*(part(drawn) for part in parts), strict=True))
        result: Reals = won / pairs
        return result

    return areas


def _pairs(values: Reals, positive: Booleans, rows: Integers) -> Callable[[Reals], tuple[Reals, Reals]]:
    """Of the pairs of a positive and a negative among some rows, the weight of those won, ties half, and of all."""
    negatives = rows[~positive[rows]]
    negatives = negatives[np.argsort(values[negatives])]
    positives = rows[positive[rows]]
    # how many negatives lie below each positive, and how many lie below or tie: [positives]
    below, up_to = (np.searchsorted(values[negatives], values[positives], side) for side in ("left", "right"))

    def weighed(drawn: Reals) -> tuple[Reals, Reals]:
        passed, positive_weight = _accumulated(drawn, negatives), np.take(drawn, positives, axis=1)
        beaten = np.take(passed, below, axis=1) + np.take(passed, up_to, axis=1)  # twice their weight, ties once
        return np.einsum("rn,rn->r", positive_weight, beaten) / 2, positive_weight.sum(1) * passed[:, -1]

    return weighed


def risk_coverage(scored: Scored) -> list[dict[str, Any]]:
    """At most 100 points of the risk-coverage curve: `coverage`, `risk`, and the `threshold` of confidence.

    Photos at least as sure as the threshold make up that coverage, and that share of them is wrong; every photo group
    counts once.
    """
    kept, wrong = (values[0, 1:] for values in _by_confidence(scored)(bootstrap.group_weights(scored.groups)[None]))
    thresholds = np.unique(scored.confidence)[::-1]
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), POINTS)).round().astype(int))
    points = np.stack([kept / kept[-1:], wrong / kept, thresholds], axis=1)[chosen]
    return [dict(zip(("coverage", "risk", "threshold"), point, strict=True)) for point in points.tolist()]


def _ranking_statistic(scored: Scored) -> Statistic:
    """AUROC, the mean over the classes that are there; area under the risk-coverage curve; accuracy at coverages.

    `aurc` is that of Geifman & El-Yaniv (2017): the mean over photos of the share of errors among those at least as
    sure, so equally sure photos enter together. `accuracy_at_80` is over the surest 80 % exactly: of equally sure
    photos at its end a part counts, as in expectation over their order.
    """
    aurocs, by_confidence = _class_aurocs(scored), _by_confidence(scored)

    def quantities(drawn: Reals) -> dict[str, Reals]:
        kept, wrong = by_confidence(drawn)
        some = kept[:, 1:] > 0
        risk = np.divide(wrong[:, 1:], kept[:, 1:], out=np.zeros_like(kept[:, 1:]), where=some)  # [r, k]
        return {
            "auroc": _class_mean(aurocs(drawn)),
            "aurc": np.einsum("rk,rk->r", risk, np.diff(kept, axis=1)) / kept[:, -1],
            **{f"accuracy_at_{percent}": _accuracy_at(percent / 100, kept, wrong) for percent in COVERAGES},
        }

    return quantities


def _class_aurocs(scored: Scored) -> Callable[[Reals], Reals]:
    """Weights `float[r, n]` -> the AUROC of each class against the rest, by its probability, `float[c, r]`."""
    folds = scored.rows_of_folds
    each = [auroc(scored.probabilities[:, i], scored.labels == i, folds) for i in range(scored.classes)]
    return lambda drawn: np.stack([one(drawn) for one in each])


def _by_confidence(scored: Scored) -> Callable[[Reals], tuple[Reals, Reals]]:
    """Weight and wrong weight of the photos at least so sure, from 0 by every confidence down: `float[r, k + 1]`."""
    order = np.argsort(-scored.confidence)
    last = np.diff(scored.confidence[order], append=-1) != 0  # of equally sure photos
    ends = np.concatenate([[0], np.flatnonzero(last) + 1])
    wrong = ~scored.right

    def selected(drawn: Reals) -> tuple[Reals, Reals]:
        kept, missed = (_accumulated(each, order) for each in (drawn, drawn * wrong))
        return np.take(kept, ends, axis=1), np.take(missed, ends, axis=1)

    return selected


def _accumulated(drawn: Reals, order: Integers) -> Reals:
    """The weight before each photo in that order, and at last of all: `float[r, len(order) + 1]`."""
    result = np.zeros((len(drawn), len(order) + 1))
    np.cumsum(np.take(drawn, order, axis=1), axis=1, out=result[:, 1:])
    return result


def _accuracy_at(coverage: float, kept: Reals, wrong: Reals) -> Reals:
    """The share right among the surest photos that weigh `coverage` of all, `float[r]`, from `_by_confidence`."""
    rows, target = np.arange(len(kept)), coverage * kept[:, -1]
    # the confidence at which the target is reached, and which part of the photos of that confidence is needed
    end = np.minimum((kept < target[:, None] * (1 - 1e-12)).sum(1), kept.shape[1] - 1)
    before = np.maximum(end - 1, 0)
    part = (target - kept[rows, before]) / (kept[rows, end] - kept[rows, before])
    missed = wrong[rows, before] + part * (wrong[rows, end] - wrong[rows, before])
    result: Reals = (target - missed) / target
    return result
