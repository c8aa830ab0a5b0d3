"""Held-out logits and novelties -> the settings of a model, and proof out of fold that the settings hold.

Nothing is ever set on the photos it is then scored on. With k folds of `grouped`, or one a source of `by-source`, each
fold's test photos are judged by settings found on the test photos of the other folds, and the exported model gets those
found on all of them. With one fold they come from its calibration photos, or, where the folders as they came have none,
from its validation photos. Every photo group counts once. Photos of `other` set nothing but the second risk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import files, other_of
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import CALIBRATION, FINAL, NOVELTY, Run, measuring
from spectraderm.evaluation.bootstrap import NO_CLASS, Booleans, Integers, Reals, Scored, group_weights
from spectraderm.evaluation.fitting import NOVELTY_KEPT, Settings, fit_sets, fit_temperature, weighted_quantile
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, NO_ANSWER, Control, Photos, control, needed
from spectraderm.inference import calibration
from spectraderm.inference.calibration import Calibration, Calibrations, Judgement, softmax

if TYPE_CHECKING:
    from spectraderm.evaluation.calibrate_elsewhere import Source

ELSEWHERE = "elsewhere"
_SUREST = 0.25
"""Where the sequence of thresholds begins at home: nearly all of these photos are surely right."""
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
        other: the number of the class of photos of none of the others, if there is one.
    """

    fold: str
    seed: int
    paths: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    labels: Integers
    groups: Integers
    logits: Reals
    novelty: Reals
    other: int | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_other(self) -> Booleans:
        """Which photos are of none of the classes, `bool[n]`."""
        return np.full(len(self), False) if self.other is None else self.labels == self.other

    @property
    def own(self) -> "Outputs":
        """The photos of the classes."""
        return self.take(~self.is_other)

    def take(self, rows: Booleans) -> "Outputs":
        """The same for some rows only, `bool[n]`."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    def of(self, split: str) -> "Outputs":
        """The photos of one split."""
        return pool([self], split)

    def scored(self) -> Scored:
        """Labels, probabilities before calibration, and groups of the photos of the classes."""
        own = self.own
        return Scored(own.labels, softmax(own.logits), own.groups, self.other)


def pool(folds: Sequence[Outputs], split: str = "test") -> Outputs:
    """The photos of a split of several folds as one, under the first one's name."""
    arrays = [np.concatenate([getattr(fold, name)[fold.splits == split] for fold in folds]) for name in _ARRAYS]
    values: dict[str, Any] = dict(zip(_ARRAYS, arrays, strict=True))
    return replace(folds[0], **values)


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
        folds.append(Outputs(name, entry["seed"], *arrays, other_of(logits.classes)))
    return folds, crossing(config["protocol"], folds)


def references(splits: npt.NDArray[np.str_], groups: Integers) -> Integers:
    """The training photos that novelty is measured against, `int64[m]`: the first of every photo group."""
    trained = np.flatnonzero(splits == "train")
    _, first = np.unique(groups[trained], return_index=True)
    return trained[np.sort(first)].astype(np.int64)


def calibrate(run: Run, settings: Settings | None = None) -> dict[str, Any]:
    """Find the final model's settings at home and write `calibration.json` and `novelty.npy`.

    Settings elsewhere stay where they are of the same logits, and go where the run was trained again. Of `by-source`
    they are found on its sources, each by the logits of the fold that was trained without it.

    Raises:
        RunFolderError: the run is not trained to the end.
    """
    settings, (final, *_), crossed = settings or Settings(), *read_outputs(run)
    source, held = held_out(crossed)
    fitted, proof = fit_and_prove(held, settings)
    known = run.features(final.fold)[references(final.splits, final.groups)]
    result = {"home": home(fitted, proof, settings, held.groups, source)}
    before = run.calibration.get(ELSEWHERE) if run.path(CALIBRATION).is_file() else None
    if before and before["fitted_on"] == "sources" and of_these_logits(run, before):
        result[ELSEWHERE] = before
    elif run.config["protocol"] == "by-source" and len(crossed) > 1:
        from spectraderm.evaluation.calibrate_elsewhere import calibrate_elsewhere  # noqa: PLC0415 - as below

        found = calibrate_elsewhere(left_out(run, crossed), fitted, settings.promised_accuracy)
        result[ELSEWHERE] = {**found, "fitted_on": "left_out_sources"}
    files.write_array(run.path(NOVELTY), known)
    files.write_json(run.path(CALIBRATION), result)
    return result


def home(fitted: Calibration, proof: Control, settings: Settings, groups: Integers, source: str) -> dict[str, Any]:
    """`home` of `calibration.json`, found on photos of these groups `int64[n]`, which are `source`."""
    return {
        **fitted.to_dict(),
        "per_class": settings.per_class,
        "promise_asked": settings.promised_accuracy,
        "fitted_on": source,
        "n_photos": len(groups),
        "n_groups": len(np.unique(groups)),
        "novelty_method": "knn",
        "novelty_kept": NOVELTY_KEPT,
        "promise_fails_at": FAILS_AT,
        "why": proof.why,
    }


def left_out(run: Run, crossed: Sequence[Outputs]) -> list["Source"]:
    """The test photos of folds of `by-source`, by source."""
    rows = {row["path"]: row for row in run.rows}
    test = pool(crossed)
    names = np.array([rows[path]["source"] for path in test.paths.tolist()])
    usable = np.array([not rows[path].get("unusable") for path in test.paths.tolist()])
    labels = np.where(test.is_other, NO_CLASS, test.labels)
    from spectraderm.evaluation.calibrate_elsewhere import Source  # noqa: PLC0415 - scikit-learn, which `adapt` lacks

    every = Source("", labels, test.groups, test.logits, test.novelty, usable, test.other)
    return [replace(every.take(names == name), name=name) for name in sorted({*names.tolist()} - {""})]


def of_these_logits(run: Run, facts: Mapping[str, Any]) -> bool:
    """Whether something was made from the logits of the run's final model: their SHA-256 is its `logits_sha256`."""
    return facts.get("logits_sha256") == files.sha256(run.fold(FINAL).logits.read_bytes())


def tested(run: Run) -> tuple[list[Outputs], Judgement, Scored]:
    """The folds whose test photos are the score; these, pooled in order and judged; those of the classes, scored."""
    _, crossed = read_outputs(run)
    judged = judge(crossed, settings_of(run))
    return crossed, judged, scored_by(crossed, judged).take(~pool(crossed).is_other)


def scored_by(crossed: Sequence[Outputs], judged: Judgement) -> Scored:
    """The pooled test photos of folds as `judge` judged them, and of which fold each is."""
    test = pool(crossed)
    folds = np.repeat(np.arange(len(crossed)), [(fold.splits == "test").sum() for fold in crossed])
    return Scored(test.labels, judged.probabilities, test.groups, test.other, folds)


def settings_of(run: Run) -> Settings:
    """The settings that a run was calibrated with. Raises `RunFolderError` where it was not."""
    stored = run.calibration
    try:
        Calibrations.from_dict(stored)
        kept = {name: stored["home"][name] for name in ("coverage", "set_method", "per_class")}
        return Settings(**kept, promised_accuracy=stored["home"]["promise_asked"])
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
    measured = measuring(protocol, [fold.fold for fold in folds])
    return [fold for fold in folds if fold.fold in measured] or list(folds[:1])


def judge(crossed: Sequence[Outputs], settings: Settings) -> Judgement:
    """Judge the pooled test photos of folds, each by settings that were found without them."""
    tests = [fold.of("test") for fold in crossed]
    if len(crossed) == 1:
        calibrations = [fit(held_out(crossed)[1], settings)]
    else:
        calibrations = [fit(pool([other for other in crossed if other is not fold]), settings) for fold in crossed]
    pairs = zip(calibrations, tests, strict=True)
    parts = [fitted.judge(test.logits, test.novelty, test.other) for fitted, test in pairs]
    return Judgement(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Judgement)))


def fit(held: Outputs, settings: Settings) -> Calibration:
    """Find all settings on held-out photos."""
    return fit_and_prove(held, settings)[0]


def fit_and_prove(held: Outputs, settings: Settings) -> tuple[Calibration, Control]:
    """The same, and how its promise was proved.

    At home own photos are those whose set holds one class, not `other`, and that are in scope, from the surest quarter
    on. The second risk is that of the photos of `other`, where these are enough to prove it at all.
    """
    own, weights = held.own, group_weights(held.own.groups)
    temperature = fit_temperature(own.logits, own.labels, weights)
    thresholds = fit_sets(softmax(own.logits, temperature), own.labels, own.groups, settings)
    fitted = Calibration(
        temperature=temperature,
        coverage=settings.coverage,
        set_method=settings.set_method,
        thresholds=tuple(thresholds.tolist()),
        confidence_threshold=0.0,
        promised_accuracy=None,
        novelty_threshold=weighted_quantile(own.novelty, weights, NOVELTY_KEPT),
    )
    confidence, right = answers(own, fitted)
    could, others = confidence > NO_ANSWER, None
    confidence_of_others, _ = answers(held.take(held.is_other), fitted)
    if len(confidence_of_others) >= needed(1 - ANSWERED_OTHERS):
        others = Photos.alike(confidence_of_others)
    proof = control(Photos.alike(confidence[could], right[could]), others, settings.promises, start=_SUREST)
    fitted = replace(fitted, confidence_threshold=proof.threshold, promised_accuracy=proof.promise)
    return replace(fitted, answered_others=ANSWERED_OTHERS if others and proof.promise else None), proof


def answers(photos: Outputs, fitted: Calibration) -> tuple[Reals, Booleans]:
    """Of one photo of every group, as independent as a test wants them, the confidence of its guess and whether it is
    right; `NO_ANSWER` where it gets no answer, however sure: `float64[groups]`, `bool[groups]`.
    """
    first = np.sort(np.unique(photos.groups, return_index=True)[1])
    judged = fitted.judge(photos.logits[first], photos.novelty[first], photos.other)
    confidence = np.where(judged.verdicts == 0, judged.probabilities.max(1, initial=0), NO_ANSWER)
    return confidence, judged.probabilities.argmax(1) == photos.labels[first]
