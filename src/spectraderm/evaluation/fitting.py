"""Held-out photos -> temperature, prediction sets, quantiles: what calibrating is made of, at home and elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from spectraderm.core import Conformal
from spectraderm.core.errors import SpectraDermError
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, group_weights
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.risk_control import NO_ANSWER, PROMISES, Control, Photos
from spectraderm.inference import calibration
from spectraderm.inference.calibration import Calibration, softmax

NOVELTY_KEPT = 0.95
"""Share of the held-out photos, each photo group counted once, that the novelty threshold lets pass."""
_HOTTEST, _NARROW = 20.0, 1e-10
_NO_LIMIT = 1e9  # JSON has no infinity
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Settings:
    """What is wanted of a calibration; see `Calibration`.

    `per_class` makes sets hold their coverage in every class. `promised_accuracy` None: the highest of
    `risk_control.PROMISES` that can be proved.
    """

    coverage: float = 0.9
    set_method: Conformal = "lac"
    per_class: bool = False
    promised_accuracy: float | None = None

    def __post_init__(self) -> None:
        """Raise `SpectraDermError` for what is no share of photos."""
        if not (0 < self.coverage < 1 and all(0 < promise < 1 for promise in self.promises)):
            raise SpectraDermError("coverage and accuracy are shares of photos", "Give numbers between 0 and 1")

    @property
    def promises(self) -> Sequence[float]:
        """What is tried, in this order."""
        return PROMISES if self.promised_accuracy is None else (self.promised_accuracy,)

    @property
    def set_name(self) -> str:
        """The name of its prediction sets: `lac`, `raps`, `lac_per_class` or `raps_per_class`."""
        return f"{self.set_method}{'_per_class' if self.per_class else ''}"


def draft(own: Outputs, settings: Settings, novelty_threshold: float | None = None) -> Calibration:
    """All settings but the promise, found on photos of the classes, as much as each counts: the temperature with the
    smallest log loss, prediction sets, and the novelty that `NOVELTY_KEPT` of the photos have at most, or another.
    """
    weights = own.weights
    if novelty_threshold is None:
        novelty_threshold = weighted_quantile(own.novelty, weights, NOVELTY_KEPT)
    temperature = fit_temperature(own.logits, own.labels, weights)
    of_sources = None if own.sources is None else weights
    thresholds = fit_sets(softmax(own.logits, temperature), own.labels, own.groups, settings, of_sources)
    return Calibration(
        temperature=temperature,
        coverage=settings.coverage,
        set_method=settings.set_method,
        thresholds=tuple(thresholds.tolist()),
        confidence_threshold=0.0,
        promised_accuracy=0.0,
        novelty_threshold=novelty_threshold,
    )


def answers(photos: Outputs, fitted: Calibration) -> Photos:
    """Of one photo of every group the confidence of its guess, and whether it is right; each source weighs the same.

    Where it gets no answer, however sure, its confidence is `NO_ANSWER`.
    """
    one = photos.one_each
    judged = one.judged(fitted)
    answered = one.usable & (judged.verdicts == 0)
    return Photos(np.where(answered, judged.confidence, NO_ANSWER), judged.right, one.weights)


def promising(fitted: Calibration, proof: Control) -> Calibration:
    """The same settings with the promise that was proved by them."""
    return replace(fitted, confidence_threshold=proof.threshold, promised_accuracy=proof.promise)


def fit_temperature(logits: Reals, labels: Integers, weights: Reals) -> float:
    """The temperature with the smallest weighted log loss (Guo et al. 2017), between 1/20 and 20.

    The loss is convex in one over the temperature: where its slope is zero, it is smallest.
    """
    centred = logits - logits.max(1, keepdims=True)
    true = centred[np.arange(len(labels)), labels]

    def slope(cold: float) -> float:
        expected = (softmax(centred, 1 / cold) * centred).sum(1)
        return float(np.average(expected - true, weights=weights))

    low, high = -float(np.log(_HOTTEST)), float(np.log(_HOTTEST))
    while high - low > _NARROW:
        middle = (low + high) / 2
        low, high = (low, middle) if slope(np.exp(middle)) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_sets(
    probabilities: Reals, labels: Integers, groups: Integers, settings: Settings, weights: Reals | None = None
) -> Reals:
    """Thresholds of split conformal sets, `float64[classes]`: equal, or `per_class` each from its own photos.

    Of n photo groups the ceil((n + 1) * coverage)-th largest nonconformity score (Vovk et al. 2005; per class:
    Mondrian), copies sharing their group's weight (Lee, Barber & Willett 2023, "Distribution-free inference with
    hierarchical data"). Where there are too few groups for that, no score is too large. `weights` `float64[n]` other
    than those make it a weighted quantile, such as of sources that weigh the same.
    """
    count, classes = len(labels), probabilities.shape[1]
    scores = calibration.nonconformity_scores(probabilities, settings.set_method)[np.arange(count), labels]

    def threshold(rows: Booleans) -> float:
        groups_there = len(np.unique(groups[rows]))
        share = settings.coverage * (groups_there + 1) / max(groups_there, 1)
        if not groups_there or share > 1 + _ROUNDING:
            return _NO_LIMIT
        return weighted_quantile(
            scores[rows], group_weights(groups[rows]) if weights is None else weights[rows], min(share, 1.0)
        )

    if not settings.per_class:
        return np.full(classes, threshold(np.ones(count, bool)))
    return np.array([threshold(labels == i) for i in range(classes)])


def weighted_quantile(values: Reals, weights: Reals, share: float) -> float:
    """The smallest value with at least `share`, 0 to 1, of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = weights[order].cumsum()
    return float(values[order[np.argmax(reached >= share * reached[-1] * (1 - _ROUNDING))]])


def set_variants(settings: Settings) -> dict[str, Settings]:
    """Every way to make prediction sets at the same coverage, by name, to be shown side by side."""
    methods: tuple[Conformal, ...] = ("lac", "raps")
    variants = [replace(settings, set_method=method, per_class=once) for method in methods for once in (False, True)]
    return {variant.set_name: variant for variant in variants}
