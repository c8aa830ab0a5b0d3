"""Scores that depend on the order of the probabilities alone, under weights, with ties.

Sorted once; each resample then takes a cumulative sum over the sorted photos.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from spectraderm.evaluation.bootstrap import Measure
from spectraderm.evaluation.counting import average
from spectraderm.evaluation.scored import Booleans, Integers, Reals, Scored

COVERAGES = (80, 90, 100)
POINTS = 100


def auroc(values: Reals, positive: Booleans) -> Callable[[Reals], Reals]:
    """How likely a positive has a higher value than a negative, ties half: `float[r, n]` weights -> `float[r]`.

    NaN where either kind is missing (Hanley & McNeil 1982).
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(values[negatives])]
    positives = np.flatnonzero(positive)
    below, up_to = (np.searchsorted(values[negatives], values[positives], side) for side in ("left", "right"))

    def measured(drawn: Reals) -> Reals:
        passed, own = _accumulated(drawn, negatives), np.take(drawn, positives, axis=1)
        beaten = np.take(passed, below, axis=1) + np.take(passed, up_to, axis=1)
        result: Reals = np.einsum("rn,rn->r", own, beaten) / (2 * own.sum(1) * passed[:, -1])
        return result

    return measured


def by_class(scored: Scored) -> Measure:
    """The AUROC of each class against the rest, by its probability: `auroc`, `float[c, r]`."""
    each = [auroc(scored.probabilities[:, i], scored.labels == i) for i in range(scored.classes)]
    return lambda drawn: {"auroc": np.stack([one(drawn) for one in each])}


def measure(scored: Scored) -> Measure:
    """AUROC, the mean over the classes that are there; area under the risk-coverage curve; accuracy at coverages.

    `aurc` is that of Geifman & El-Yaniv (2017): the mean over photos of the share of errors among those at least as
    sure, so equally sure photos enter together. `accuracy_at_80` is over the surest 80 % exactly: of equally sure
    photos at its end a part counts, as in expectation over their order.
    """
    classes, selected = by_class(scored), _selected(scored)

    def measured(drawn: Reals) -> dict[str, Reals]:
        kept, wrong = selected(drawn)
        return {
            "auroc": average(classes(drawn)["auroc"]),
            "aurc": _area(kept, wrong),
            **{f"accuracy_at_{percent}": _accuracy_at(percent / 100, kept, wrong) for percent in COVERAGES},
        }

    return measured


def risk_coverage(scored: Scored, weights: Reals | None = None) -> list[dict[str, Any]]:
    """At most 100 points of the risk-coverage curve: `coverage`, `risk`, and the `threshold` of confidence.

    Photos at least as sure as the threshold make up that coverage, and that share of them is wrong.
    """
    own = np.ones(len(scored)) if weights is None else weights
    kept, wrong = (values[0, 1:] for values in _selected(scored)(own[None]))
    thresholds = np.unique(scored.confidence)[::-1]
    chosen = np.unique(np.linspace(0, len(kept) - 1, min(len(kept), POINTS)).round().astype(int))
    return [
        {"coverage": float(kept[i] / kept[-1]), "risk": float(wrong[i] / kept[i]), "threshold": float(thresholds[i])}
        for i in chosen
        if kept[i] > 0
    ]


def _accumulated(drawn: Reals, order: Integers) -> Reals:
    """The weight before each photo in that order, and at last of all: `float[r, len(order) + 1]`."""
    result = np.zeros((len(drawn), len(order) + 1))
    np.cumsum(np.take(drawn, order, axis=1), axis=1, out=result[:, 1:])
    return result


def _selected(scored: Scored) -> Callable[[Reals], tuple[Reals, Reals]]:
    """Weight and wrong weight of the photos at least so sure, from 0 by every confidence down: `float[r, k + 1]`."""
    order = np.argsort(-scored.confidence)
    last = np.diff(scored.confidence[order], append=-1) != 0
    ends = np.concatenate([[0], np.flatnonzero(last) + 1])
    wrong = ~scored.right

    def selected(drawn: Reals) -> tuple[Reals, Reals]:
        kept, missed = (_accumulated(each, order) for each in (drawn, drawn * wrong))
        return np.take(kept, ends, axis=1), np.take(missed, ends, axis=1)

    return selected


def _area(kept: Reals, wrong: Reals) -> Reals:
    risk = np.divide(wrong[:, 1:], kept[:, 1:], out=np.zeros_like(kept[:, 1:]), where=kept[:, 1:] > 0)
    result: Reals = np.einsum("rk,rk->r", risk, np.diff(kept, axis=1)) / kept[:, -1]
    return result


def _accuracy_at(coverage: float, kept: Reals, wrong: Reals) -> Reals:
    rows, target = np.arange(len(kept)), coverage * kept[:, -1]
    end = np.minimum((kept < target[:, None] * (1 - 1e-12)).sum(1), kept.shape[1] - 1)
    before = np.maximum(end - 1, 0)
    part = (target - kept[rows, before]) / (kept[rows, end] - kept[rows, before])
    missed = wrong[rows, before] + part * (wrong[rows, end] - wrong[rows, before])
    result: Reals = (target - missed) / target
    return result
