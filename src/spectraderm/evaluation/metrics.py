"""Labels and probabilities -> scores, each with a 95 % interval from resampling photo groups. Knows nothing of files.

By file every photo counts; by group every photo group counts once, its photos 1 / its size each.
"""

from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from spectraderm.core.resampling import Interval, interval, share
from spectraderm.evaluation import calibration_metrics as probability
from spectraderm.evaluation import counting, ranking
from spectraderm.evaluation.bootstrap import Measure, resample, weights
from spectraderm.evaluation.scored import Integers, Reals, Scored

METRICS = (
    *("accuracy", "balanced_accuracy", "macro_f1", "auroc", "brier", "log_loss", "ece", "classwise_ece", "aurc"),
    *(f"accuracy_at_{percent}" for percent in ranking.COVERAGES),
)
LOWER_IS_BETTER = frozenset({"brier", "log_loss", "ece", "classwise_ece", "aurc"})
_COVERED = {"accuracy": 100} | {f"accuracy_at_{percent}": percent for percent in ranking.COVERAGES}


def scores(scored: Scored, seed: int = 0) -> dict[str, Any]:
    """Every metric as `{value, low, high}`, with the numbers of photos and of photo groups.

    `by_group` has the same metrics with every photo group counted once; `group_accuracy` is its accuracy. A metric
    that is not defined, such as the AUROC of one class, is None with its bounds. A class that a resample lacks is left
    out of that resample's means.
    """
    groups = _count(scored.groups)
    by_file, by_group = (_intervals(scored, groups, seed, once) for once in (False, True))
    return {
        "n_photos": len(scored),
        "n_groups": groups,
        **by_file,
        "group_accuracy": by_group["accuracy"],
        "by_group": by_group,
    }


def measure(scored: Scored) -> Measure:
    """All of `METRICS` under weights, `float[r]` each, and the gaps that calibration errors are made of."""
    parts = [counting.measure(scored), probability.measure(scored), ranking.measure(scored)]
    return lambda drawn: {name: values for part in parts for name, values in part(drawn).items()}


def _intervals(scored: Scored, groups: int, seed: int, by_group: bool) -> dict[str, Interval]:
    values = resample(measure(scored), weights(scored.groups, seed, by_group))
    return {name: _summary(name, values, groups) for name in METRICS}


def _summary(name: str, values: dict[str, Reals], groups: int) -> Interval:
    if name in _COVERED:
        return share(values[name], groups * _COVERED[name] // 100)
    if f"{name}_gaps" in values:
        return probability.error_interval(values[f"{name}_gaps"])
    return interval(values[name])


def per_class(scored: Scored, labels: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """Each class against the rest, by file: sensitivity, specificity, predictive values, F1 and AUROC with intervals.

    `n_photos` and `n_groups` are those of the class; a measure is None with its bounds where it is not defined.
    """
    counted, ranked = counting.tables(scored), ranking.by_class(scored)

    def measured(drawn: Reals) -> dict[str, Reals]:
        return counting.rates(counted(drawn)["tables"]) | ranked(drawn)

    values = resample(measured, weights(scored.groups, seed))
    return [_one_class(scored, label, i, values) for i, label in enumerate(labels)]


def _one_class(scored: Scored, label: str, number: int, values: dict[str, Reals]) -> dict[str, Any]:
    true, guessed = scored.labels == number, scored.guesses == number
    asked = {"sensitivity": true, "specificity": ~true, "ppv": guessed, "npv": ~guessed}
    shares = {name: share(values[name][number], _count(scored.groups[rows])) for name, rows in asked.items()}
    others = {name: interval(values[name][number]) for name in ("f1", "auroc")}
    return {"label": label, "n_photos": int(true.sum()), "n_groups": _count(scored.groups[true]), **shares, **others}


def confusion(scored: Scored) -> list[list[int]]:
    """Counts: a row per true class, a column per guess."""
    numbers = range(scored.classes)
    matrix: list[list[int]] = confusion_matrix(scored.labels, scored.guesses, labels=list(numbers)).tolist()
    return matrix


def majority(scored: Scored, trained_on: Integers) -> dict[str, float]:
    """What guessing the most frequent training class for every photo would score."""
    most = int(np.bincount(trained_on).argmax())
    return {
        "accuracy": float((scored.labels == most).mean()),
        "balanced_accuracy": float(1 / len(np.unique(scored.labels))) if most in scored.labels else 0.0,
    }


def _count(groups: Integers) -> int:
    return len(np.unique(groups))
