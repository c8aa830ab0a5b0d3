"""Whether a model that was adapted to somebody's photos is better on them than before, and what it may promise there.

All of it from logits of photos that were held out of the fit; every photo group counts once.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
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
from spectraderm.evaluation.fitting import Settings, answers, draft, promising
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, NO_ANSWER, Control, control
from spectraderm.inference.calibration import Calibration

CHANCE = 0.05
"""A class is worse by more than chance where the sign test's p-value is below it."""
_NARROW = 1e-6


def score(held: Outputs, before: Reals, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy before and after, paired, in all and per class. A new class's photos can't have been right before.

    `before`, `after` and `difference` are `{value, low, high}`, of all photos but those of `other`; `known` the same of
    photos of the classes that the model had. `worse` names classes that lose more than chance explains.

    Args:
        held: one's own photos, with the logits of the adapted model.
        before: `float[n, old classes]`, those of the model before.
        labels: the classes of the adapted model.
    """
    right = {"before": before.argmax(1) == held.labels, "after": held.logits.argmax(1) == held.labels}
    named, classes = ~held.is_other, before.shape[1]
    known = named & (held.labels < classes)
    per_class = [_of_class(held, right, number, label, number >= classes) for number, label in enumerate(labels)]
    return {
        "n_photos": len(held),
        "n_groups": held.n_groups,
        "too_few": len(np.unique(held.groups[named])) < MIN_GROUPS,
        **_paired(held.groups[named], {name: hits[named] for name, hits in right.items()}),
        "known": _paired(held.groups[known], {name: hits[known] for name, hits in right.items()}),
        "per_class": [own for own in per_class if own["photos"]],
        "worse": [own["label"] for own in per_class if own["worse"]],
    }


def calibrate_own(held: Outputs, settings: Settings) -> tuple[Calibration, Control]:
    """The settings of the adapted model, as every model's are found, by the highest promise that can be proved.

    The promise is of photos of the classes; beside it stands how many others are answered at most, see
    `_above_others`. Also how the promise was proved.
    """
    fitted, photos = draft(replace(held, other=None), settings), held.one_each
    floor, most = _above_others(answers(photos.others, fitted).confidence)
    own = answers(photos.own, fitted)
    own = replace(own, confidence=np.where(own.confidence > floor, own.confidence, NO_ANSWER))
    proof = control(own, None, settings.promises)
    return replace(promising(fitted, proof), answered_others=most), proof


def judge_own(held: Outputs, folds: Integers, settings: Settings) -> dict[str, Any]:
    """What share of one's own photos is `predicted`, and how often that is right, by settings from the other folds.

    `folds` are `int64[n]`.
    """
    answered, guesses = np.empty(len(held), bool), held.logits.argmax(1)
    for number in range(int(folds.max()) + 1):
        rows = folds == number
        fitted, _ = calibrate_own(held.take(~rows), settings)
        answered[rows] = held.take(rows).judged(fitted).predicted
    once = group_weights(held.groups)
    named = ~held.is_other

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


def _of_class(held: Outputs, right: dict[str, Booleans], number: int, label: str, new: bool) -> dict[str, Any]:
    own = held.labels == number
    there = len(np.unique(held.groups[own]))
    lead = np.bincount(
        np.unique(held.groups, return_inverse=True)[1], own * (right["after"].astype(int) - right["before"])
    )
    gained, lost = int((lead > 0).sum()), int((lead < 0).sum())
    once = group_weights(held.groups)
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
