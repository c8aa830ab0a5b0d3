"""Whether a model that was adapted to somebody's photos is better on them than before, and what it may promise there.

All of it from logits of photos that were held out of the fit; every photo group counts once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spectraderm.core import binomial
from spectraderm.core.resampling import interval
from spectraderm.evaluation.bootstrap import (
    MIN_GROUPS,
    Booleans,
    Integers,
    Reals,
    group_weights,
    mean,
    resample,
    weights,
)
from spectraderm.evaluation.calibrate import Outputs, answers, fit
from spectraderm.evaluation.fitting import Settings
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, NO_ANSWER, Control, Photos, control
from spectraderm.inference.calibration import Calibration
from spectraderm.inference.prediction import VERDICTS

CHANCE = 0.05
"""A class is worse by more than chance where the sign test's p-value is below it."""
_NARROW = 1e-6
PREDICTED = VERDICTS.index("predicted")


@dataclass(frozen=True)
class HeldOut:
    """n photos of one's own. `labels`, `groups` and `folds` are `int64[n]`, `before` and `after` logits.

    `before` is `float64[n, old classes]`, `after` `float64[n, classes]`, novelties `float64[n]`; `other` is the number
    of the class `other`, or None.
    """

    labels: Integers
    groups: Integers
    folds: Integers
    before: Reals
    after: Reals
    novelties: Reals
    other: int | None = None

    @property
    def named(self) -> Booleans:
        """Which photos are of a class, `bool[n]`."""
        return np.not_equal(self.labels, -1 if self.other is None else self.other)

    def outputs(self, rows: Booleans) -> Outputs:
        """Some of them, as calibration takes them."""
        names = np.full(int(rows.sum()), "test")
        arrays = (self.labels[rows], self.groups[rows], self.after[rows], self.novelties[rows])
        return Outputs("own", 0, names, names, *arrays)


def score(held: HeldOut, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy before and after, paired, in all and per class. A new class's photos can't have been right before.

    `before`, `after` and `difference` are `{value, low, high}`, of all photos but those of `other`; `known` the same of
    photos of the classes that the model had. `worse` names classes that lose more than chance explains.
    """
    right = {"before": held.before.argmax(1) == held.labels, "after": held.after.argmax(1) == held.labels}
    named = held.named
    known = named & (held.labels < held.before.shape[1])
    per_class = [_of_class(held, right, number, label) for number, label in enumerate(labels)]
    return {
        "n_photos": len(held.labels),
        "n_groups": len(np.unique(held.groups)),
        "too_few": len(np.unique(held.groups[named])) < MIN_GROUPS,
        **_paired(held.groups[named], {name: hits[named] for name, hits in right.items()}),
        "known": _paired(held.groups[known], {name: hits[known] for name, hits in right.items()}),
        "per_class": [own for own in per_class if own["photos"]],
        "worse": [own["label"] for own in per_class if own["worse"]],
    }


def calibrate_own(held: HeldOut, settings: Settings, rows: Booleans | None = None) -> tuple[Calibration, Control]:
    """The settings of the adapted model, as every model's are found, by the highest promise that can be proved.

    The promise is of photos of the classes; beside it stands how many others are answered at most, see
    `_above_others`. Also how the promise was proved. By some `rows` only, `bool[n]`, or all.
    """
    outputs = held.outputs(np.ones(len(held.labels), bool) if rows is None else rows)
    fitted = replace(fit(outputs, settings), confidence_threshold=0.0, promised_accuracy=0.0)
    first = np.isin(np.arange(len(outputs)), np.unique(outputs.groups, return_index=True)[1])  # one of every group
    photos = replace(outputs, other=held.other).take(first)
    floor, most = _above_others(answers(photos.take(photos.is_other), fitted)[0])
    confidence, right = answers(photos.own, fitted)
    own = Photos.alike(np.where(confidence > floor, confidence, NO_ANSWER), right)
    proof = control(own, None, settings.promises)
    fitted = replace(fitted, confidence_threshold=proof.threshold, promised_accuracy=proof.promise)
    return replace(fitted, answered_others=most), proof


def judge_own(held: HeldOut, settings: Settings) -> dict[str, Any]:
    """What share of one's own photos is `predicted`, and how often that is right, by settings from the other folds."""
    verdicts, guesses = np.empty(len(held.labels), np.int64), held.after.argmax(1)
    for number in range(int(held.folds.max()) + 1):
        rows = held.folds == number
        fitted, _ = calibrate_own(held, settings, ~rows)
        verdicts[rows] = fitted.judge(held.after[rows], held.novelties[rows], held.other).verdicts
    answered = verdicts == PREDICTED
    once = group_weights(held.groups)
    named = held.named

    def share(hits: Booleans, rows: Booleans) -> float | None:
        return float(np.average(hits[rows], weights=once[rows])) if rows.any() else None

    return {
        "predicted": share(answered, named),
        "predicted_right": share(guesses == held.labels, answered),
        "others_predicted": share(answered, ~named),
    }


def _above_others(confidence: Reals) -> tuple[float, float | None]:
    """A confidence that at most `ANSWERED_OTHERS` of the photos of `other` exceed, and the bound that this proves.

    Few photos prove little: where k of n exceed an order statistic, at most the share p of all such photos does, with
    p so large that k or fewer of n have a probability of `FAILS_AT` (Wilks 1941, tolerance limits). None of no photos.
    """
    if not len(confidence):
        return NO_ANSWER, None
    passing = int(ANSWERED_OTHERS * len(confidence))
    low, high = 0.0, 1.0
    while high - low > _NARROW:
        middle = (low + high) / 2
        low, high = (middle, high) if binomial.cdf(passing, len(confidence), middle) > FAILS_AT else (low, middle)
    return float(np.sort(confidence)[::-1][passing]), math.ceil(1000 * high) / 1000


def _paired(groups: Integers, right: dict[str, Booleans]) -> dict[str, Any]:
    """Accuracies and their difference, every resample of photo groups drawn for both."""
    values = resample(
        lambda drawn: {name: mean(hits, drawn) for name, hits in right.items()}, weights(groups, by_group=True)
    )
    return {
        **{name: interval(share) for name, share in values.items()},
        "difference": interval(values["after"] - values["before"]),
    }


def _of_class(held: HeldOut, right: dict[str, Booleans], number: int, label: str) -> dict[str, Any]:
    own = held.labels == number
    there = len(np.unique(held.groups[own]))
    lead = np.bincount(
        np.unique(held.groups, return_inverse=True)[1], own * (right["after"].astype(int) - right["before"])
    )
    gained, lost = int((lead > 0).sum()), int((lead < 0).sum())
    new, once = number >= held.before.shape[1], group_weights(held.groups)
    shares = {name: float(np.average(hits[own], weights=once[own])) if there else None for name, hits in right.items()}
    return {
        "label": label,
        "photos": int(own.sum()),
        "groups": there,
        "before": None if new else shares["before"],
        "after": shares["after"],
        "gained": gained,
        "lost": lost,
        "worse": lost > gained and binomial.sign_test(gained, lost) < CHANCE,
    }
