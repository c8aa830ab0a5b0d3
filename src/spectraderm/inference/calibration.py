"""Logits and features -> probabilities, prediction sets, novelty, verdicts. Pure NumPy; opens no files.

What evaluation and serving must agree on. How the settings are found is evaluation's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spectraderm.core import Choice, Conformal

Reals = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Features = Floats | npt.NDArray[np.float16]
Booleans = npt.NDArray[np.bool_]
Place = Literal["home", "elsewhere"]

RAPS_PENALTY, RAPS_FREE_RANKS = 0.1, 1
"""Regularisation of RAPS: what each class beyond the first costs."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100
"""Of any model; with a temperature next to nothing every answer would be sure. Fits stay within 1/20 and 20."""
_BLOCK, _FEW = 1024, 32
_UNIT = 2.0**24
"""Features of length one are kept in whole units of 2^-24: sums of their products stay below 2^53, where floats of 64
bits are exact, so that neither the processor nor the number of threads decides a digit."""


def softmax(logits: Floats | Reals, temperature: float = 1.0) -> Reals:
    """Probabilities `float64[n, classes]` of logits of that shape, divided by a temperature (Guo et al. 2017)."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: Reals = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def nonconformity_scores(probabilities: Reals, method: Conformal) -> Reals:
    """How badly each class fits each photo, `float64[n, classes]`, for split conformal prediction sets.

    `lac` (Sadinle, Lei & Wasserman 2019): one minus its probability. `raps` (Angelopoulos et al. 2021): the probability
    of all classes down to it plus a penalty on its rank; without their randomisation, so that a photo's set is always
    the same, which makes it a little too large.
    """
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")  # int[n, classes]: most probable first
    down_to = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    ranks = np.arange(1, probabilities.shape[1] + 1)  # int[classes]
    ranked = down_to + RAPS_PENALTY * np.maximum(0, ranks - RAPS_FREE_RANKS)
    scores = np.empty_like(probabilities)
    np.put_along_axis(scores, order, ranked, axis=1)  # back to the order of the classes
    return scores


def prediction_sets(probabilities: Reals, thresholds: Reals, method: Conformal) -> Booleans:
    """The classes in each photo's set, `bool[n, classes]`: with a score up to the class's threshold, and the likeliest.

    `thresholds` is `float64[classes]`.
    """
    sets: Booleans = nonconformity_scores(probabilities, method) <= thresholds
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets


class References:
    """Features `float[m, channels]` of training photos, brought to length one once for all photos to come."""

    def __init__(self, features: Features) -> None:
        self._unit = _unit(features, np.float32)
        self._doubt = 2.1 * 2.0**-24 * (self.channels + 2) * _UNIT**2
        """More than twice what rounding to 32 bits changes a cosine by, in whatever order it is summed."""

    @property
    def channels(self) -> int:
        """How many numbers a photo's features have."""
        return int(self._unit.shape[1])

    def novelty(self, features: Features) -> Reals:
        """How unlike the training photos each photo is, `float64[n]`, 0 (like one of them) to 2.

        Cosine distance of the features `float[n, channels]` to those of the nearest training photo: k-NN with k = 1
        (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors").
        """
        nearest = np.empty(len(features))
        for start in range(0, len(features), _BLOCK):
            block = _unit(features[start : start + _BLOCK])
            nearest[start : start + _BLOCK] = [*map(self._nearest, block, self._roughly(block.astype(np.float32)))]
        return np.maximum(1 - nearest / _UNIT**2, 0)  # rounding

    def _roughly(self, unit: Floats) -> Floats:
        """Cosines `float32[n, m]`, in units of 2^-48. Those of a few photos without BLAS's threads, which would stand
        in the network's way.
        """
        few = len(unit) <= _FEW
        cosines: Floats = np.stack([_products(self._unit, photo) for photo in unit]) if few else unit @ self._unit.T
        return cosines

    def _nearest(self, unit: Reals, roughly: Floats) -> float:
        """The largest cosine of a photo, to the last digit: worked out of those that rounding may have hidden."""
        candidates = self._unit[~(roughly < roughly.max() - self._doubt)]
        return float(_products(candidates.astype(np.float64), unit).max())


def novelty(features: Features, references: Features) -> Reals:
    """`References.novelty` of photos, for references that are needed only once."""
    return References(references).novelty(features)


@dataclass(frozen=True)
class Judgement:
    """Of n photos: calibrated `probabilities` `float64[n, c]`, `sets` `bool[n, c]`, and `verdicts`, by number."""

    probabilities: Reals
    sets: Booleans
    verdicts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """The settings of a model that turn its logits into a verdict.

    Attributes:
        temperature: logits are divided by it.
        coverage: the share of photos whose prediction set shall hold the true class.
        set_method: which nonconformity score `thresholds` are of.
        thresholds: per class, the largest nonconformity score with which it still belongs to a prediction set.
        confidence_threshold: a probability below it is `unsure`; above 1 where no probability is high enough.
        promised_accuracy: the share of right guesses among `predicted` verdicts for which that threshold was set; None
            where no promise could be proved.
        novelty_threshold: a novelty above it is `out_of_scope`.
        answered_others: the most share of photos of none of the classes that is `predicted`; None: not measured.
        places: from how many sources, none of them learned from, the photos came that it was set on; 0: from the
            collection that the model learned from.
    """

    temperature: float
    coverage: float
    set_method: Conformal
    thresholds: tuple[float, ...]
    confidence_threshold: float
    promised_accuracy: float | None
    novelty_threshold: float
    answered_others: float | None = None
    places: int = 0

    def judge(self, logits: Floats | Reals, novelties: Reals, other: int | None = None) -> Judgement:
        """Judge photos by their logits `float[n, c]` and novelties `float64[n]`.

        A photo is `out_of_scope` where its likeliest class is that of photos of none of the others, whose number is
        `other`. The set of an `unsure` photo holds at least the two likeliest classes: more than its coverage asks for.
        """
        probabilities = softmax(logits, self.temperature)
        sets = prediction_sets(probabilities, np.array(self.thresholds), self.set_method)
        unsure = (probabilities.max(axis=1) < self.confidence_threshold) | (sets.sum(axis=1) > 1)
        outside = novelties > self.novelty_threshold
        if other is not None:
            outside |= probabilities.argmax(axis=1) == other
        verdicts = np.where(outside, 2, unsure.astype(np.int64))  # numbers in `VERDICTS`
        likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]  # int[n, 2]
        sets |= (verdicts == 1)[:, None] & (np.arange(sets.shape[1]) == likeliest[:, :, None]).any(axis=1)
        return Judgement(probabilities, sets, verdicts)

    def to_dict(self) -> dict[str, Any]:
        """All settings, ready for JSON."""
        return {**asdict(self), "thresholds": list(self.thresholds)}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Calibration":
        """Settings as `to_dict` gave them. Raises `KeyError`, `TypeError` or `ValueError` where they are not that."""
        method = settings["set_method"]
        if method not in ("lac", "raps"):
            raise ValueError(f"no method {method!r} for prediction sets")
        names = ("temperature", "coverage", "confidence_threshold", "novelty_threshold")
        values = {name: _number(settings[name]) for name in names}
        shares = {name: settings[name] for name in ("promised_accuracy", "answered_others")}
        known = {name: None if share is None else _number(share) for name, share in shares.items()}
        thresholds, places = tuple(map(_number, settings["thresholds"])), int(settings["places"])
        numbers = [*values.values(), *thresholds, *(share for share in known.values() if share is not None)]
        if not np.isfinite(numbers).all() or places < 0:
            raise ValueError("a setting is out of range")
        if not MIN_TEMPERATURE <= values["temperature"] <= MAX_TEMPERATURE or not 0 < values["coverage"] < 1:
            raise ValueError("a temperature or coverage is out of range")
        if known["promised_accuracy"] is None and values["confidence_threshold"] <= 1:
            raise ValueError("a threshold without a promise")
        return cls(
            set_method=method,
            thresholds=thresholds,
            promised_accuracy=known["promised_accuracy"],
            answered_others=known["answered_others"],
            places=places,
            **values,
        )


@dataclass(frozen=True)
class Calibrations:
    """The settings of a model: for photos of the collection that it learned from, and for photos from elsewhere.

    Attributes:
        home: set on photos of that collection, held out of training.
        elsewhere: set on photos of other sources; None where it never was.
    """

    home: Calibration
    elsewhere: Calibration | None = None

    def choose(self, choice: Choice, *, in_training: bool) -> tuple[Place, Calibration]:
        """The settings that judge a photo, and which these are.

        `auto`: a photo that is in training is judged by `home`, any other by `elsewhere` where there is one.

        Raises:
            ValueError: `elsewhere` is asked for, and there is none.
        """
        if choice == "elsewhere" and self.elsewhere is None:
            raise ValueError("no calibration elsewhere")
        if choice == "home" or self.elsewhere is None or (choice == "auto" and in_training):
            return "home", self.home
        return "elsewhere", self.elsewhere

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "Calibrations":
        """Of a `calibration.json`: `home`, and `elsewhere` where it is there. Raises as `Calibration.from_dict`."""
        home, elsewhere = Calibration.from_dict(settings["home"]), settings.get("elsewhere")
        result = cls(home, None if elsewhere is None else Calibration.from_dict(elsewhere))
        if result.elsewhere and len(result.elsewhere.thresholds) != len(home.thresholds):
            raise ValueError("home and elsewhere are of different classes")
        return result

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` takes."""
        parts = {"home": self.home, "elsewhere": self.elsewhere}
        return {name: part.to_dict() for name, part in parts.items() if part}


def _number(value: object) -> float:
    """A number of JSON; text and truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:40]!r} is no number")
    return float(value)


def _products(rows: npt.NDArray[Any], vector: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`rows @ vector`, by one short product after the other, for which no BLAS starts threads."""
    products: npt.NDArray[Any] = (rows[:, None, :] @ vector[:, None]).reshape(-1)
    return products


def _unit(features: Features, kind: type[np.floating[Any]] = np.float64) -> npt.NDArray[Any]:
    """Features brought to length one, in whole units of 2^-24, which 32 bits hold too.

    A few at a time, which stay in the processor's cache.
    """
    unit = np.empty(features.shape, kind)
    for start in range(0, len(unit), _FEW):
        few = np.array(features[start : start + _FEW], np.float64, order="C")
        lengths = np.maximum(np.linalg.norm(few, axis=1, keepdims=True), 1e-12)
        few *= _UNIT
        few /= lengths
        np.rint(few, out=unit[start : start + _FEW], casting="same_kind")
    return unit
