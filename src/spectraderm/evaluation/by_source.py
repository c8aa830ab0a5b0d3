"""Scores by source, that is by who took the photos; their mean, and the source that is served worst."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spectraderm.core.resampling import Interval, interval
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import MIN_GROUPS, Judged, Scored, group_weights, means, rate
from spectraderm.inference.prediction import VERDICTS

METRICS = ("accuracy", "group_accuracy", "balanced_accuracy", "stated", "ece", "coverage", "predicted")
"""What is averaged over sources."""


def by_source(sources: Sequence[str], judged: Judged) -> dict[str, Any]:
    """`by_source`, by name what `of_source` gives of photos of the classes and `outside` of others, and `over_sources`
    of it; empty where no source is known.

    `sources` are those of the n photos; photos without one are in none.
    """
    parts = {}
    for name in sorted({*sources} - {""}):
        part = judged.take(np.array(sources) == name)
        own, others = part.own, part.others
        counts = {"n_photos": len(others), "n_groups": others.n_groups}
        parts[name] = (of_source(own) if len(own) else counts) | outside(others)
    return {"by_source": parts, **over_sources(parts)} if parts else {}


def outside(others: Judged) -> dict[str, Any]:
    """`out_of_distribution` of photos of none of the classes, each photo group counted once; nothing of no photos.

    `refused` is the share called out of scope or unusable, `flagged` that of all verdicts but `predicted`.
    """
    if not len(others):
        return {}
    predicted = others.predicted
    refused = others.verdicts >= VERDICTS.index("out_of_scope")
    shares = {"refused": refused, "flagged": ~predicted, "predicted": predicted}
    return {"out_of_distribution": {name: rate(hits, others.groups, by_group=True) for name, hits in shares.items()}}


def of_source(part: Judged) -> dict[str, Any]:
    """The scores of a source's photos, each with its interval.

    `accuracy` and `balanced_accuracy` are by file; `group_accuracy`, `stated`, which is the mean probability of the
    guess, `ece`, `coverage` of the sets, and `predicted`, the share of that verdict and its `accuracy`, count every
    photo group once, as `mean_set_size` does.
    """
    scores = metrics.scores(part)
    predicted = part.predicted
    right = rate(part.right[predicted], part.groups[predicted], by_group=True) if predicted.any() else None
    return {
        "n_photos": len(part),
        "n_groups": part.n_groups,
        "too_few": part.n_groups < MIN_GROUPS,
        **{name: scores[name] for name in ("accuracy", "group_accuracy", "balanced_accuracy")},
        "stated": stated(part),
        "ece": scores["by_group"]["ece"],
        "coverage": rate(part.covered, part.groups, by_group=True),
        "mean_set_size": float(np.average(part.sets.sum(1), weights=group_weights(part.groups))),
        "predicted": {**rate(predicted, part.groups, by_group=True), "accuracy": right},
    }


def stated(scored: Scored) -> Interval:
    """The mean probability of the guess, each photo group counted once."""
    return interval(means(scored.confidence, scored.groups, by_group=True))


def over_sources(parts: Mapping[str, Mapping[str, Any]], names: Iterable[str] = METRICS) -> dict[str, Any]:
    """`mean_over_sources` of these metrics, and `worst_source`, the name of that with the lowest `group_accuracy`.

    Sources without a score are left out; where fewer than two have one, there is neither.
    """
    scored = {source: own for source, own in parts.items() if own.get("group_accuracy", {}).get("value") is not None}
    if len(scored) < 2:
        return {}
    means = {name: mean_of([own[name] for own in scored.values()]) for name in names}
    worst = min(scored, key=lambda source: (scored[source]["group_accuracy"]["value"], source))
    return {"mean_over_sources": {"n_sources": len(scored), **means}, "worst_source": worst}


def mean_of(intervals: Sequence[Mapping[str, Any]]) -> Interval:
    """The mean of independent quantities, each weighing the same, with its interval from theirs.

    Each has its own bounds, from a bootstrap over its photo groups; their distances from the values add up as squares
    (MOVER: Zou & Donner 2008, "Construction of confidence limits about effect measures"). Undefined ones are left out.
    """
    known = [(own["value"], own["low"], own["high"]) for own in intervals if own["value"] is not None]
    if not known:
        return {"value": None, "low": None, "high": None}
    values, lows, highs = np.array(known).T
    value, count = float(values.mean()), len(known)
    below, above = (float(np.sqrt(((values - ends) ** 2).sum())) / count for ends in (lows, highs))
    return {"value": value, "low": value - below, "high": value + above}
