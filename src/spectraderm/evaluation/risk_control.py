"""From which confidence on a model may answer, so that two promises are kept. Pure functions of arrays.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei 2021) for two risks at once, neither of which depends on how
common the conditions are: of the photos of its own classes that a model answers, a share P is right; of photos that
show none of them, at most a share gets an answer. Thresholds are tested from the surest on, as a fixed sequence: the
next is only tested where every exact binomial test before it rejected that a promise is broken. So each promise, by
itself, is broken in at most `FAILS_AT` of calibrations. A sequence also ends where the shares as they were measured,
each source weighing the same, break a bound: a stricter rule, which only ends it sooner.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spectraderm.core import binomial
from spectraderm.core.rows import Rows
from spectraderm.evaluation.bootstrap import Booleans, Reals

PROMISES = (0.95, 0.9, 0.85, 0.8)
"""Shares of right answers, the highest that can be proved is promised."""
ANSWERED_OTHERS = 0.05
"""The most share of photos of none of the classes that may get an answer."""
FAILS_AT = 0.1
"""How likely a promise may be broken by bad luck of the calibration photos."""
NEVER_SURE = 1.01
"""A probability that no guess has."""
NO_ANSWER = -1.0
"""In place of the confidence of a photo that gets no answer anyway."""
STEP = 0.025
"""The next threshold lets this share of the photos pass, too."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Photos(Rows):
    """Photos that are independent of each other, one of every photo group.

    Attributes:
        confidence: probability of the guess, `float64[n]`; `NO_ANSWER` where a photo gets no answer anyway.
        right: whether the guess is right, `bool[n]`; of photos that show none of the classes none is.
        weights: `float64[n]`, such that each source weighs the same.
    """

    confidence: Reals
    right: Booleans
    weights: Reals


@dataclass(frozen=True)
class Control:
    """What can be promised, and how it was proved.

    Attributes:
        promise: the share of right answers; None where none could be proved.
        threshold: the confidence from which on the model answers; `NEVER_SURE` where nothing is promised.
        p_right, p_others: p-values at that threshold: of that answers are right less often than promised, and of that
            photos of none of the classes are answered more often than they may; None where that was not tested.
        answered: the share of photos of its own classes that get an answer.
        why: in plain words, why nothing is promised; empty where something is.
    """

    promise: float | None
    threshold: float
    p_right: float | None
    p_others: float | None
    answered: float
    why: str


def control(
    own: Photos,
    others: Photos | None = None,
    promises: Sequence[float] = PROMISES,
    *,
    start: float = 0.05,
) -> Control:
    """The highest of some promises, tried in their order, that can be proved, and the lowest threshold that keeps it.

    `others` None leaves the second risk out. `start` is the share of `own` that the first threshold lets pass, or as
    many as the test needs at least.
    """
    tried = [_sequence(own, others, promise, start) for promise in promises]
    return next((one for one in tried if one.promise is not None), tried[-1])


def needed(promise: float) -> int:
    """How many answers, all of them right, are proof at least of a promise below 1."""
    return math.ceil(math.log(FAILS_AT) / math.log(promise) - 1e-9)


def _sequence(own: Photos, others: Photos | None, promise: float, start: float) -> Control:
    """The lowest threshold that keeps one promise, or why there is none."""
    falling = np.sort(own.confidence[own.confidence > NO_ANSWER])[::-1]
    first, step = max(round(start * len(own)), needed(promise)), STEP * len(own)
    if len(falling) < first:
        few = f"{len(falling)} of its {len(own)} photos could get an answer at all"
        return _none(f"{few}: {_of_100(promise)} right can't be proved from fewer than {first}")
    proved = None
    for count in (round(first + number * step) for number in range(math.ceil(1 / STEP))):
        if count > len(falling):
            break
        tested = _test(own, others, promise, float(falling[count - 1]))
        if tested.promise is None:
            return proved or tested
        proved = tested
    return proved or _none("")


def _test(own: Photos, others: Photos | None, promise: float, threshold: float) -> Control:
    """Both tests at one threshold."""
    passes = own.confidence >= threshold
    right, weight = passes & own.right, own.weights[passes].sum()
    p_right, p_others = binomial.cdf(int(passes.sum() - right.sum()), int(passes.sum()), 1 - promise), None
    if p_right > FAILS_AT or own.weights[right].sum() < promise * weight * (1 - _ROUNDING):
        shares = f"{right.sum()} are right{_alike(own, own.weights[right].sum() / weight)}"
        return _none(f"of the surest {passes.sum()} photos {shares}: {_of_100(promise)} can't be proved from that")
    if others is not None:
        answered = others.confidence >= threshold
        p_others = binomial.cdf(int(answered.sum()), len(others), ANSWERED_OTHERS)
        share = float(others.weights[answered].sum() / others.weights.sum())
        if p_others > FAILS_AT or share > ANSWERED_OTHERS * (1 + _ROUNDING):
            shares = (
                f"{answered.sum()} of {len(others)} photos of other conditions would get one{_alike(others, share)}"
            )
            why = f"{shares}: at most {_of_100(ANSWERED_OTHERS)} can't be proved from that"
            return _none(f"if the surest {passes.sum()} photos got an answer, {why}")
    return Control(promise, threshold, p_right, p_others, float(weight / own.weights.sum()), "")


def _none(why: str) -> Control:
    return Control(None, NEVER_SURE, None, None, 0.0, why)


def _alike(photos: Photos, share: float) -> str:
    """A share by weight, where the sources' photos weigh differently."""
    return f", {_of_100(share)} with each source weighing the same" if np.ptp(photos.weights) else ""


def _of_100(share: float) -> str:
    return f"{100 * share:.3g} of 100"
