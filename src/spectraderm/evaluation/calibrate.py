"""Held-out logits and novelties -> the settings of a model, and proof out of fold that the settings hold.

Nothing is ever set on the photos it is then scored on. With k folds of `grouped`, or one a source of `by-source`, each
fold's test photos are judged by settings found on the test photos of the other folds, and the exported model gets those
found on all of them. With one fold they come from its calibration photos, or, where the folders as they came have none,
from its validation photos. Every photo group counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import binomial, files
from spectraderm.core.errors import RunFolderError, SpectraDermError
from spectraderm.core.run import CALIBRATION, NOVELTY, ORIGINAL, Run
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, Scored, group_weights
from spectraderm.inference import calibration
from spectraderm.inference.calibration import Calibration, Calibrations, Judgement, SetMethod, softmax

NOVELTY_KEPT = 0.95
"""Share of the held-out photos, each photo group counted once, that the novelty threshold lets pass."""
PROMISE_FAILS_AT = 0.1
"""How likely the promised accuracy among `predicted` verdicts may be broken by bad luck of the calibration photos."""
NEVER_SURE = 1.01
"""A probability that no guess has."""
_STEPS = np.arange(0.25, 1.0001, 0.025)
_HOTTEST, _NARROW = 20.0, 1e-10
_NO_LIMIT = 1e9  # JSON has no infinity
_ROUNDING = 1e-12
_ARRAYS = ("paths", "splits", "labels", "groups", "logits", "novelty")


@dataclass(frozen=True)
class Outputs:
    """What one fold's model makes of n photos, in the manifest's order.

    Attributes:
        fold: its name; `seed` is its seed.
        paths: relative to the folder of photos.
        splits: `train`, `val`, `calibration`, `test` or `excluded`, for this fold.
        labels, groups: class numbers and photo groups, `int64[n]`.
        logits: `float64[n, classes]`.
        novelty: `float64[n]`, against the training photos of this fold; NaN for those themselves.
    """

    fold: str
    seed: int
    paths: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    labels: Integers
    groups: Integers
    logits: Reals
    novelty: Reals

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, split: str) -> "Outputs":
        """The photos of one split."""
        return pool([self], split)

    def scored(self) -> Scored:
        """Labels, probabilities before calibration, and groups."""
        return Scored(self.labels, softmax(self.logits), self.groups)


def pool(folds: Sequence[Outputs], split: str = "test") -> Outputs:
    """The photos of a split of several folds as one, under the first one's name."""
    arrays = (np.concatenate([getattr(fold, name)[fold.splits == split] for fold in folds]) for name in _ARRAYS)
    return Outputs(folds[0].fold, folds[0].seed, *arrays)


def read_outputs(run: Run) -> tuple[list[Outputs], list[Outputs]]:
    """The outputs of every fold, the final one first; and those whose test photos are the score, see `crossing`.

    Raises:
        RunFolderError: a fold has none yet, or they are damaged or of other photos than the first one's.
    """
    config = run.config
    folds: list[Outputs] = []
    for entry in config["folds"]:
        name, logits = entry["fold"], run.logits(entry["fold"])
        if folds and not np.array_equal(logits.paths, folds[0].paths):
            raise RunFolderError(f"{run.fold(name).logits} is of other photos than fold {folds[0].fold}", "Train again")
        features, new = run.features(name), logits.splits != "train"
        if len(features) != len(logits):
            counts = f"{len(features)} photos and logits of {len(logits)}"
            raise RunFolderError(f"{run.folder} has features of {counts}", "Train again")
        novelties = np.full(len(logits), np.nan)
        novelties[new] = calibration.novelty(features[new], features[references(logits.splits, logits.groups)])
        arrays = (logits.paths, logits.splits, logits.targets, logits.groups, logits.values, novelties)
        folds.append(Outputs(name, entry["seed"], *arrays))
    return folds, crossing(config["protocol"], folds)


def references(splits: npt.NDArray[np.str_], groups: Integers) -> Integers:
    """The training photos that novelty is measured against, `int64[m]`: the first of every photo group."""
    trained = np.flatnonzero(splits == "train")
    _, first = np.unique(groups[trained], return_index=True)
    return trained[np.sort(first)].astype(np.int64)


@dataclass(frozen=True)
class Settings:
    """What is wanted of a calibration; see `Calibration`. `per_class` makes sets hold their coverage in every class."""

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
        """The name of its prediction sets: `lac`, `raps`, `lac_per_class` or `raps_per_class`."""
        return f"{self.set_method}{'_per_class' if self.per_class else ''}"


def calibrate(run: Run, settings: Settings | None = None) -> dict[str, Any]:
    """Find the final model's settings and write `calibration.json` and `novelty.npy`.

    Raises:
        RunFolderError: the run is not trained to the end.
    """
    settings, (final, *_), crossed = settings or Settings(), *read_outputs(run)
    source, held = held_out(crossed)
    home = {
        **fit(held, settings).to_dict(),
        "per_class": settings.per_class,
        "promise_asked": settings.promised_accuracy,
        "fitted_on": source,
        "n_photos": len(held),
        "n_groups": len(np.unique(held.groups)),
        "novelty_method": "knn",
        "novelty_kept": NOVELTY_KEPT,
        "promise_fails_at": PROMISE_FAILS_AT,
    }
    known = run.features(final.fold)[references(final.splits, final.groups)]
    result = {"home": home}
    files.write_array(run.path(NOVELTY), known)
    files.write_json(run.path(CALIBRATION), result)
    return result


def tested(run: Run) -> tuple[list[Outputs], Judgement, Scored]:
    """The folds whose test photos are the score; these photos, pooled in order, judged, and scored."""
    _, crossed = read_outputs(run)
    judged, test = judge(crossed, settings_of(run)), pool(crossed)
    return crossed, judged, Scored(test.labels, judged.probabilities, test.groups)


def settings_of(run: Run) -> Settings:
    """The settings that a run was calibrated with. Raises `RunFolderError` where it was not."""
    stored = run.calibration
    try:
        Calibrations.from_dict(stored)
        home = stored["home"]
        promised = home["promised_accuracy"] or home["promise_asked"]
        kept = {name: home[name] for name in ("coverage", "set_method", "per_class")}
        return Settings(**kept, promised_accuracy=promised)
    except (KeyError, TypeError, ValueError) as error:
        remedy = "Run `spectraderm calibrate RUN` first"
        raise RunFolderError(f"{run.path(CALIBRATION)} is damaged ({error!r})", remedy) from error


def held_out(crossed: Sequence[Outputs]) -> tuple[str, Outputs]:
    """The photos that the final model's settings are found on, and which these are: `out_of_fold` or a split.

    Of folds that `crossing` gives: all tests of several, or of a single one what it held out beside its test. Raises
    `RunFolderError` where there are no such photos.
    """
    if len(crossed) > 1:
        return "out_of_fold", pool(crossed)
    for split in ("calibration", "val"):
        if split in crossed[0].splits:
            return split, crossed[0].of(split)
    raise RunFolderError(f"fold {crossed[0].fold} has no calibration or validation photos", "Split again")


def crossing(protocol: str, folds: Sequence[Outputs]) -> list[Outputs]:
    """The folds whose test photos are the score: the k folds by photo group or source, or else the final one alone."""
    measuring = [fold for fold in folds[1:] if fold.fold != ORIGINAL]
    return measuring if protocol in ("grouped", "by-source") and measuring else list(folds[:1])


def judge(crossed: Sequence[Outputs], settings: Settings) -> Judgement:
    """Judge the pooled test photos of folds, each by settings that were found without them."""
    tests = [fold.of("test") for fold in crossed]
    if len(crossed) == 1:
        calibrations = [fit(held_out(crossed)[1], settings)]
    else:
        calibrations = [fit(pool([other for other in crossed if other is not fold]), settings) for fold in crossed]
    parts = [fitted.judge(test.logits, test.novelty) for fitted, test in zip(calibrations, tests, strict=True)]
    return Judgement(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Judgement)))


def fit(held: Outputs, settings: Settings) -> Calibration:
    """Find all settings on held-out photos."""
    weights = group_weights(held.groups)
    temperature = fit_temperature(held.logits, held.labels, weights)
    probabilities = softmax(held.logits, temperature)
    thresholds = fit_sets(probabilities, held.labels, held.groups, settings)
    novelty_threshold = weighted_quantile(held.novelty, weights, NOVELTY_KEPT)
    alone = calibration.prediction_sets(probabilities, thresholds, settings.set_method).sum(1) == 1
    # one photo of every group, as independent as a test wants them: int64[groups]
    first = np.sort(np.unique(held.groups, return_index=True)[1])
    candidates = first[alone[first] & (held.novelty[first] <= novelty_threshold)]
    confidence_threshold = fit_confidence(
        probabilities[candidates], held.labels[candidates], settings.promised_accuracy
    )
    return Calibration(
        temperature=temperature,
        coverage=settings.coverage,
        set_method=settings.set_method,
        thresholds=tuple(thresholds.tolist()),
        confidence_threshold=confidence_threshold,
        promised_accuracy=None if confidence_threshold > 1 else settings.promised_accuracy,
        novelty_threshold=novelty_threshold,
    )


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


def fit_sets(probabilities: Reals, labels: Integers, groups: Integers, settings: Settings) -> Reals:
    """Thresholds of split conformal sets, `float64[classes]`: equal, or `per_class` each from its own photos.

    Of n photo groups the ceil((n + 1) * coverage)-th largest nonconformity score (Vovk et al. 2005; per class:
    Mondrian), copies sharing their group's weight (Lee, Barber & Willett 2023, "Distribution-free inference with
    hierarchical data"). Where there are too few groups for that, no score is too large.
    """
    count, classes = len(labels), probabilities.shape[1]
    scores = calibration.nonconformity_scores(probabilities, settings.set_method)[np.arange(count), labels]

    def threshold(rows: Booleans) -> float:
        groups_there = len(np.unique(groups[rows]))
        share = settings.coverage * (groups_there + 1) / max(groups_there, 1)
        if not groups_there or share > 1 + _ROUNDING:
            return _NO_LIMIT
        return weighted_quantile(scores[rows], group_weights(groups[rows]), min(share, 1.0))

    if not settings.per_class:
        return np.full(classes, threshold(np.ones(count, bool)))
    return np.array([threshold(labels == i) for i in range(classes)])


def fit_confidence(probabilities: Reals, labels: Integers, promised: float) -> float:
    """The probability from which guesses keep a promised accuracy, 1.01 where none does; one photo of every group.

    Learn then test (Angelopoulos et al. 2021), as a fixed sequence: from the surest quarter, or as many as the test
    needs at least, downwards, as long as an exact binomial test rejects that the guesses from a threshold on are right
    less often than promised. So the promise is broken with a probability of at most `PROMISE_FAILS_AT`.
    """
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    falling, threshold = np.sort(confidence)[::-1], NEVER_SURE
    for count in (round(share * len(confidence)) for share in _STEPS):
        if promised**count > PROMISE_FAILS_AT:  # not even all of them right would be proof
            continue
        tested = confidence >= falling[count - 1]
        if binomial.cdf(int(wrong[tested].sum()), int(tested.sum()), 1 - promised) > PROMISE_FAILS_AT:
            break
        threshold = float(falling[count - 1])
    return threshold


def weighted_quantile(values: Reals, weights: Reals, share: float) -> float:
    """The smallest value with at least `share`, 0 to 1, of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    reached = weights[order].cumsum()
    return float(values[order[np.argmax(reached >= share * reached[-1] * (1 - _ROUNDING))]])


def set_variants(settings: Settings) -> dict[str, Settings]:
    """Every way to make prediction sets at the same coverage, by name, to be shown side by side."""
    methods: tuple[SetMethod, ...] = ("lac", "raps")
    variants = [replace(settings, set_method=method, per_class=once) for method in methods for once in (False, True)]
    return {variant.set_name: variant for variant in variants}
