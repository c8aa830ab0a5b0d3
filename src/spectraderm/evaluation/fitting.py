"""Held-out logits and novelties -> the settings of `Calibration`. Every photo group counts once."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import binom

from spectraderm.core.errors import SpectraDermError
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, group_weights
from spectraderm.evaluation.outputs import Outputs
from spectraderm.inference.calibration import Calibration, SetMethod, prediction_sets, softmax, strangeness

NOVELTY_KEPT = 0.95
"""Share of the held-out photos, each photo group counted once, that the novelty threshold lets pass."""
PROMISE_FAILS_AT = 0.1
"""How likely the promised accuracy among `predicted` verdicts may be broken by bad luck of the calibration photos."""
NEVER_SURE = 1.01
"""A probability that no guess has."""
_STEPS = np.arange(0.25, 1.0001, 0.025)
_HOTTEST = 20.0
_NO_LIMIT = 1e9  # JSON has no infinity
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Settings:
    """What is asked of a calibration; see `Calibration`. `per_class` makes sets hold their coverage in every class."""

    coverage: float = 0.9
    set_method: SetMethod = "lac"
    per_class: bool = False
    promised_accuracy: float = 0.95

    def __post_init__(self) -> None:
        """Raise `SpectraDermError` for what is no share of photos."""
        if not (0 < self.coverage < 1 and 0 < self.promised_accuracy < 1):
            raise SpectraDermError("coverage and accuracy are shares of photos", "Give numbers between 0 and 1")

    @property
    def set_name(self) -> str:
        """What its prediction sets are called: `lac`, `raps`, `lac_per_class` or `raps_per_class`."""
        return f"{self.set_method}{'_per_class' if self.per_class else ''}"


def fit(held: Outputs, settings: Settings) -> Calibration:
    """Find all settings on held-out photos."""
    weights = group_weights(held.groups)
    temperature = fit_temperature(held.logits, held.labels, weights)
    probabilities = softmax(held.logits, temperature)
    thresholds = fit_sets(probabilities, held.labels, held.groups, settings)
    known = weighted_quantile(held.novelty, weights, NOVELTY_KEPT)
    sets = prediction_sets(probabilities, thresholds, settings.set_method)
    asked = _one_of_each(held.groups) & (held.novelty <= known) & (sets.sum(1) == 1)
    return Calibration(
        temperature=temperature,
        coverage=settings.coverage,
        set_method=settings.set_method,
        thresholds=tuple(thresholds.tolist()),
        sure_at=fit_sure(probabilities[asked], held.labels[asked], settings.promised_accuracy),
        promised_accuracy=settings.promised_accuracy,
        novelty_threshold=known,
    )


def fit_temperature(logits: Reals, labels: Integers, weights: Reals) -> float:
    """The temperature with the smallest weighted log loss (Guo et al. 2017), between 1/20 and 20."""

    def loss(log_temperature: float) -> float:
        logs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.average(logs[np.arange(len(labels)), labels], weights=weights))

    edge = float(np.log(_HOTTEST))
    found = minimize_scalar(loss, bounds=(-edge, edge), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def fit_sets(probabilities: Reals, labels: Integers, groups: Integers, settings: Settings) -> Reals:
    """Thresholds of split conformal sets, `float64[classes]`: equal, or `per_class` each from its own photos.

    Of n photo groups the ceil((n + 1) * coverage)-th strangest (Vovk et al. 2005; per class: Mondrian), copies sharing
    their group's weight (Lee, Barber & Willett 2023, "Distribution-free inference with hierarchical data"). Where there
    are too few groups for that, nothing is too strange.
    """
    strange = strangeness(probabilities, settings.set_method)
    own = strange[np.arange(len(labels)), labels]
    classes = probabilities.shape[1]
    if not settings.per_class:
        return np.full(classes, _conformal(own, groups, settings.coverage))
    return np.array([_conformal(own[labels == i], groups[labels == i], settings.coverage) for i in range(classes)])


def fit_sure(probabilities: Reals, labels: Integers, promised: float) -> float:
    """The probability from which guesses keep a promised accuracy, 1.01 where none does; one photo of every group.

    Learn then test (Angelopoulos et al. 2021), as a fixed sequence: from the surest quarter, or as many as the test
    needs at least, downwards, as long as an exact binomial test rejects that the guesses from a threshold on are right
    less often than promised. So the promise is broken with a probability of at most `PROMISE_FAILS_AT`.
    """
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    falling = np.sort(sure)[::-1]
    found = NEVER_SURE
    for count in (round(share * len(sure)) for share in _STEPS):
        if promised**count > PROMISE_FAILS_AT:  # not even all of them right would be proof
            continue
        asked = sure >= falling[count - 1]
        if binom.cdf((~right[asked]).sum(), asked.sum(), 1 - promised) > PROMISE_FAILS_AT:
            break
        found = float(falling[count - 1])
    return found


def weighted_quantile(values: Reals, weights: Reals, share: float) -> float:
    """The smallest value with at least `share`, 0 to 1, of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = weights[order].cumsum()
    return float(values[order[np.argmax(reached >= share * reached[-1] * (1 - _ROUNDING))]])


def set_variants(settings: Settings) -> dict[str, Settings]:
    """Every way to make prediction sets at the same coverage, by name, to be shown side by side."""
    methods: tuple[SetMethod, ...] = ("lac", "raps")
    return {
        variant.set_name: variant
        for method in methods
        for variant in (replace(settings, set_method=method, per_class=once) for once in (False, True))
    }


def _conformal(strange: Reals, groups: Integers, coverage: float) -> float:
    count = len(np.unique(groups))
    share = coverage * (count + 1) / max(count, 1)
    if not count or share > 1 + _ROUNDING:
        return _NO_LIMIT
    return weighted_quantile(strange, group_weights(groups), min(share, 1.0))


def _one_of_each(groups: Integers) -> Booleans:
    """The first photo of every photo group: photos as independent as a test wants them."""
    first = np.zeros(len(groups), bool)
    first[np.unique(groups, return_index=True)[1]] = True
    return first
