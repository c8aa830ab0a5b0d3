"""A run's stored outputs -> `evaluation.json`: what it scored, in which protocol, and how far that can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core import artifacts
from spectraderm.evaluation import calibrate, calibration_metrics, metrics, outputs, subgroups
from spectraderm.evaluation.baselines import read_measurements
from spectraderm.evaluation.bootstrap import Integers, Reals, Scored, group_weights, rate
from spectraderm.evaluation.calibrate import Settings, settings_of
from spectraderm.evaluation.compare import detection
from spectraderm.evaluation.fitting import set_variants
from spectraderm.evaluation.metrics import set_scores
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.protocols import side_by_side
from spectraderm.inference.calibration import VERDICTS, Judgement, softmax

__all__ = ["PROTOCOLS", "evaluate", "novelty_detection", "refusals", "settings_of"]

PROTOCOLS = {
    "original": "the folders as they came, validation cut at random",
    "grouped": "by photo: no photo group on two sides",
    "deduplicated": "the folders as they came, less the copies: no photo group on two sides",
}
_OF_SPLITS = ("accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")


def evaluate(run: Path) -> dict[str, Any]:
    """Score a trained and calibrated run and write `evaluation.json`.

    With k folds by photo, `test` pools the folds: every photo is scored once, by a model that never saw it or its
    copies, and judged by settings that were found without it. With several random draws as given, `over_folds` has the
    mean and range over the draws.

    Raises:
        RunFolderError: the run is not trained to the end, or not calibrated.
    """
    config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    settings = settings_of(run)
    folds = outputs.read(run, config)
    crossed = calibrate.crossing(config["protocol"], folds)
    test = outputs.pool([fold.of("test") for fold in crossed])
    manifest = outputs.described(run, folds[0].paths)
    tested = [manifest[path] for path in test.paths.tolist()]
    judged = _gated(calibrate.judge(crossed, settings), tested)
    scored = Scored(test.labels, judged.probabilities, test.groups)
    rows = side_by_side(run, config["protocol"], folds, crossed, read_measurements(run, len(manifest)))
    result = {
        **_about(config, folds, crossed),
        "splits": _splits(crossed) | {"test": metrics.scores(scored)},
        "protocols": rows,
        "per_class": metrics.per_class(scored, config["labels"]),
        "labels": config["labels"],
        "confusion_matrix": metrics.confusion(scored),
        "baselines": next(row["baselines"] for row in rows if row["name"] == config["protocol"]),
        "calibration": _calibration(crossed, test, scored, judged, settings),
        "refusals": refusals(scored, judged.verdicts),
        "subgroups": subgroups.subgroups(tested, scored, judged),
    }
    draws = folds if config["protocol"] == "original" else crossed
    if len(draws) > 1:
        result["over_folds"] = _over_folds(draws)
    artifacts.write_json(run / artifacts.EVALUATION, result)
    return result


def refusals(scored: Scored, verdicts: Integers) -> dict[str, Any]:
    """The share of each verdict and its guesses' `accuracy`, every photo group counted once.

    The accuracy is None where there is no such verdict, and of unusable photos, which got no guess.
    """
    result: dict[str, Any] = {}
    for number, name in enumerate(VERDICTS):
        own = verdicts == number
        part = scored.take(own)
        guessed = own.any() and name != "unusable_photo"
        accuracy = rate(part.right, part.groups, by_group=True) if guessed else None
        result[name] = {**rate(own, scored.groups, by_group=True), "accuracy": accuracy}
    return result


def novelty_detection(run: Path, outside: Reals, groups: Integers) -> dict[str, Any]:
    """How well novelty tells photos from elsewhere, of these photo groups, from a run's own; see `detection`."""
    config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    crossed = calibrate.crossing(config["protocol"], outputs.read(run, config))
    own = outputs.pool([fold.of("test") for fold in crossed])
    return detection(own.novelty, outside, own.groups, groups)


def _gated(judged: Judgement, tested: Sequence[Mapping[str, str]]) -> Judgement:
    """With the verdict `unusable_photo` for those that the quality gate refuses before any model is asked."""
    refused = np.array([bool(row.get("unusable")) for row in tested])
    return replace(judged, verdicts=np.where(refused, VERDICTS.index("unusable_photo"), judged.verdicts))


def _about(config: Mapping[str, Any], folds: Sequence[Outputs], crossed: Sequence[Outputs]) -> dict[str, Any]:
    return {
        "protocol": config["protocol"],
        "folds": len(crossed),
        "folds_asked": len(folds) if config["protocol"] == "original" else len(crossed),
        "seed": folds[0].seed,
        "recipe": config["recipe"]["name"],
        "backbone": config["backbone"],
    }


def _splits(crossed: Sequence[Outputs]) -> dict[str, Any]:
    """Of photos that are no test only what the curves show, too; their probabilities are not calibrated."""
    result = {}
    for name in ("train", "val", "calibration"):
        own = outputs.pool([fold.of(name) for fold in crossed])
        if len(own):
            scores = metrics.scores(Scored(own.labels, softmax(own.logits), own.groups))
            result[name] = {kept: scores[kept] for kept in ("n_photos", "n_groups", *_OF_SPLITS)}
    return result


def _calibration(
    crossed: Sequence[Outputs], test: Outputs, scored: Scored, judged: Judgement, settings: Settings
) -> dict[str, Any]:
    raw = metrics.scores(Scored(test.labels, softmax(test.logits), test.groups))
    weights = group_weights(test.groups)
    return {
        "fitted_on": calibrate.held_out(crossed).source,
        "ece_before": raw["ece"],
        "ece_before_by_group": raw["by_group"]["ece"],
        "reliability": calibration_metrics.reliability(scored, weights),
        "risk_coverage": metrics.risk_coverage(scored, weights),
        "coverage": settings.coverage,
        "shipped": settings.set_name,
        "sets": {
            name: set_scores(test.labels, calibrate.judge(crossed, variant).sets, test.groups)
            for name, variant in set_variants(settings).items()
        },
        "sets_of_verdicts": float(judged.sets.sum(1).mean()),
    }


def _over_folds(folds: Sequence[Outputs]) -> dict[str, Any]:
    """Mean, lowest and highest accuracy over folds or draws, with each one's."""
    result: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        own = [fold.of(split) for fold in folds if (fold.splits == split).any()]
        values = [float((part.logits.argmax(1) == part.labels).mean()) for part in own]
        if values:
            result[f"{split}_accuracy"] = {
                "mean": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
                "n": len(values),
                "values": values,
                "seeds": [part.seed for part in own],
            }
    return result
