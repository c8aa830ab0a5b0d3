"""A run's stored outputs -> `evaluation.json`: what it scored, in which protocol, and how far that can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spectraderm.core import OTHER, files
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import EVALUATION, MANIFEST, Run
from spectraderm.core.tables import JOINING
from spectraderm.data.manifest import COLUMNS
from spectraderm.evaluation import calibrate, calibration_metrics, metrics
from spectraderm.evaluation.bootstrap import MIN_GROUPS, Judged, group_weights, rate
from spectraderm.evaluation.by_source import by_source, outside, stated
from spectraderm.evaluation.calibrate import judge
from spectraderm.evaluation.curves import learning_curve
from spectraderm.evaluation.fitting import Settings, set_variants
from spectraderm.evaluation.outputs import FoldOutputs, pool, read_outputs
from spectraderm.evaluation.protocols import protocols, read_measurements
from spectraderm.inference.prediction import VERDICTS

SKIN_TONE = "skin_tone_estimate"
UNKNOWN = "not known"
MOST_VALUES = 20
"""Columns with more values than this, such as names, are no subgroups."""
_LIGHT_TO_DARK = ("very light", "light", "intermediate", "tan", "brown", "dark")
_NOT_SUBGROUPS = {*COLUMNS, *JOINING} - {SKIN_TONE}
_OF_SPLITS = ("n_photos", "n_groups", "accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")

ManifestRows = Sequence[Mapping[str, str]]


def evaluate(run: Run) -> dict[str, Any]:
    """Score a trained and calibrated run and write `evaluation.json`.

    With k folds by photo group or source, `test` pools the folds: every photo is scored once, by a model that was
    trained neither on it nor on its copies, and judged by settings that were found without it; `auroc` compares photos
    of the same fold only. Where the manifest has
    sources, there are the keys of `by_source`. With several random draws of the
    original folders, `over_folds` has the mean and range over the draws.

    All scores are of photos of the classes, and `labels` names these; to take one for `other` is wrong, and a refusal.
    Where there is that class, `guesses` names the columns of the confusion matrix, and `out_of_distribution` says what
    became of its photos, which is said of every source, too. A head in closed form has a `learning_curve`.

    Raises:
        RunFolderError: the run is not trained to the end, or not calibrated.
    """
    config, settings, (folds, crossed) = run.config, calibrate.settings_of(run), read_outputs(run)
    test = pool(crossed)
    manifest = {row["path"]: row for row in run.rows}
    if list(manifest) != folds[0].paths.tolist():
        path = run.path(MANIFEST)
        raise RunFolderError(f"{path} is not of the photos that were trained on", "Train again, into a new run folder")
    tested = [manifest[path] for path in test.paths.tolist()]
    every = judge(crossed, settings)
    refused = np.array([bool(row.get("unusable")) for row in tested])  # by the quality gate, before any model is asked
    every = replace(every, verdicts=np.where(refused, VERDICTS.index("unusable_photo"), every.verdicts))
    judged, sources = every.own, by_source([row.get("source", "") for row in tested], every)
    tested = [row for row, other in zip(tested, test.is_other.tolist(), strict=True) if not other]
    labels = [label for label in config["labels"] if label != OTHER]
    rows = protocols(run, config["protocol"], folds, crossed, read_measurements(run, len(manifest)), sources)
    draws = folds if config["protocol"] == "original" else crossed
    result = {
        "protocol": config["protocol"],
        "folds": len(crossed),
        "folds_asked": 1 if config["protocol"] == "by-source" else len(draws),
        "seed": folds[0].seed,
        "recipe": config["recipe"]["name"],
        "backbone": config["backbone"],
        "splits": _splits(crossed) | {"test": metrics.scores(judged) | {"stated": stated(judged)}},
        "protocols": rows,
        "per_class": metrics.per_class(judged, config["labels"]),
        "labels": labels,
        **({"guesses": [*labels, OTHER]} if OTHER in config["labels"] else {}),
        "confusion_matrix": metrics.confusion(judged),
        "baselines": next(row["baselines"] for row in rows if row["name"] == config["protocol"]),
        "calibration": _calibration(crossed, test, judged, settings),
        "refusals": refusals(judged),
        **outside(every.others),
        "subgroups": subgroups(tested, judged),
        **sources,
    }
    if len(draws) > 1:
        result["over_folds"] = over_folds(draws)
    if points := learning_curve(run):
        result["learning_curve"] = points
    files.write_json(run.path(EVALUATION), result)
    return result


def over_folds(folds: Sequence[FoldOutputs]) -> dict[str, Any]:
    """Mean, lowest and highest accuracy over folds or draws, with each one's, of photos of the classes."""
    result: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        parts = [part for part in (fold.of(split).own for fold in folds) if len(part)]
        values = [float((part.logits.argmax(1) == part.labels).mean()) for part in parts]
        if values:
            ends = {"mean": float(np.mean(values)), "low": min(values), "high": max(values), "n": len(values)}
            result[f"{split}_accuracy"] = {**ends, "values": values, "seeds": [part.seed for part in parts]}
    return result


def refusals(judged: Judged) -> dict[str, Any]:
    """The share of each verdict and its guesses' `accuracy`, every photo group counted once.

    The accuracy is None where there is no such verdict, and of unusable photos, which got no guess.
    """
    result: dict[str, Any] = {}
    for number, name in enumerate(VERDICTS):
        rows = judged.verdicts == number
        part = judged.take(rows)
        guessed = rows.any() and name != "unusable_photo"
        accuracy = rate(part.right, part.groups, by_group=True) if guessed else None
        result[name] = {**rate(rows, judged.groups, by_group=True), "accuracy": accuracy}
    return result


def subgroups(rows: ManifestRows, judged: Judged) -> list[dict[str, Any]]:
    """A table per manifest column that describes the test photos: is the model as good for everybody?

    Of every value how good, how calibrated and how sure, each photo group counted once. `rows` are the manifest's lines
    of the n photos. `claim` is false where there are too few photo groups for one. An empty cell is the value
    `not known`. The column `skin_tone_estimate` is a proxy read off the photos, not a fact about people.
    """
    tables = []
    for column in (name for name in rows[0] if name not in _NOT_SUBGROUPS):
        values = np.array([row[column] or UNKNOWN for row in rows])
        known = sorted(set(values.tolist()) - {UNKNOWN})
        if 0 < len(known) <= MOST_VALUES:
            if column == SKIN_TONE:
                known = [value for value in _LIGHT_TO_DARK if value in known]
            shown = [*known, *([UNKNOWN] if (values == UNKNOWN).any() else [])]
            parts = [{"value": value, **_subgroup(judged.take(values == value))} for value in shown]
            tables.append({"column": column, "proxy": column == SKIN_TONE, "values": parts})
    return tables


def _splits(crossed: Sequence[FoldOutputs]) -> dict[str, Any]:
    """Of photos that are no test only what the curves show, too; their probabilities are not calibrated."""
    parts = {name: pool(crossed, name) for name in ("train", "val", "calibration")}
    scores = {name: metrics.scores(photos.scored()) for name, photos in parts.items() if len(photos)}
    return {name: {key: own[key] for key in _OF_SPLITS} for name, own in scores.items()}


def _calibration(
    crossed: Sequence[FoldOutputs], test: FoldOutputs, judged: Judged, settings: Settings
) -> dict[str, Any]:
    before, own = metrics.scores(test.scored()), ~test.is_other
    return {
        "fitted_on": calibrate.held_out(crossed)[0],
        "ece_before": before["ece"],
        "ece_before_by_group": before["by_group"]["ece"],
        "reliability": calibration_metrics.reliability(judged),
        "risk_coverage": metrics.risk_coverage(judged),
        "coverage": settings.coverage,
        "shipped": settings.set_name,
        "sets": {
            name: metrics.set_scores(judged.labels, judge(crossed, variant).sets[own], judged.groups, test.other)
            for name, variant in set_variants(settings).items()
        },
        "sets_of_verdicts": float(judged.sets.sum(1).mean()),
    }


def _subgroup(part: Judged) -> dict[str, Any]:
    scores = metrics.scores(part)
    return {
        "n_photos": len(part),
        "n_groups": part.n_groups,
        "claim": part.n_groups >= MIN_GROUPS,
        "group_accuracy": scores["group_accuracy"],
        "balanced_accuracy": scores["by_group"]["balanced_accuracy"],
        "ece": scores["by_group"]["ece"],
        "coverage": rate(part.covered, part.groups, by_group=True),
        "mean_set_size": float(np.average(part.sets.sum(1), weights=group_weights(part.groups))),
        "not_predicted": rate(part.verdicts > 0, part.groups, by_group=True),
    }
