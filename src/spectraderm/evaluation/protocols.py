"""The same model measured in every way there is, side by side, with what needs no model: which number to believe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.evaluation import metrics
from spectraderm.evaluation.baselines import baselines
from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.outputs import Outputs
from spectraderm.inference.calibration import softmax

TITLES = {
    "original": "the folders as they came",
    "without-copies": "of these, test photos that are no copies",
    "grouped": "by photo: no copy crosses",
    "deduplicated": "the folders less the copies: no copy crosses",
}
SHOWN = ("n_photos", "n_groups", "accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")


@dataclass(frozen=True)
class _Way:
    """One protocol: the folds whose test photos are scored, and which of these count, as positions when pooled."""

    name: str
    folds: list[Outputs]
    counted: npt.NDArray[np.bool_]
    leaked: int


def side_by_side(
    run: Path, protocol: str, folds: Sequence[Outputs], crossed: list[Outputs], measured: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row per protocol, the one to believe least first; `believe` marks the one to believe most, if there is any.

    Args:
        run: the run folder; `outside/*.json` in it are what `evaluate MODEL PHOTOS` found on other folders.
        protocol: the run's own.
        folds: all of them.
        crossed: those whose test photos are the run's score.
        measured: what the audit measured of every photo.
    """
    given = crossed if protocol == "original" else [fold for fold in folds if fold.fold == artifacts.ORIGINAL]
    ways = _given_ways(given) if given else []
    if protocol != "original":
        ways.append(_Way(protocol, crossed, np.ones(sum(len(f.of("test")) for f in crossed), bool), 0))
    rows = [_row(way, measured, folds[0].seed) for way in ways] + _outside(run)
    clean = [row for row in rows if not row["leaked"]]
    many = [row for row in clean if row["name"] != "without-copies"] or clean
    outside = [row for row in many if row["name"].startswith("outside:")]
    for row in [max(outside, key=lambda row: row["n_groups"])] if outside else many[-1:]:
        row["believe"] = True
    return rows


def _given_ways(given: list[Outputs]) -> list[_Way]:
    fold = given[0]
    test = fold.of("test")
    seen = fold.groups[np.isin(fold.splits, ("train", "val"))]
    clean = ~np.isin(test.groups, seen)
    ways = [_Way("original", given, np.ones(len(test), bool), int((~clean).sum()))]
    return [*ways, _Way("without-copies", given, clean, 0)] if 0 < clean.sum() < len(test) else ways


def _row(way: _Way, measured: Mapping[str, Any], seed: int) -> dict[str, Any]:
    tests = [fold.of("test") for fold in way.folds]
    logits = np.concatenate([test.logits for test in tests])
    labels, groups = (np.concatenate([getattr(test, name) for test in tests]) for name in ("labels", "groups"))
    scored = Scored(labels, softmax(logits), groups).take(way.counted)
    scores = metrics.scores(scored)
    row: dict[str, Any] = {
        "name": way.name,
        "title": TITLES[way.name],
        "believe": False,
        "leaked": way.leaked,
        **{name: scores[name] for name in SHOWN},
    }
    row["words"] = _words(way.name, way.leaked, len(scored))
    if way.name != "without-copies":
        row["baselines"] = baselines(way.folds, measured, logits.shape[1], seed)
    return row


def _words(name: str, leaked: int, photos: int) -> str:
    if name == "original":
        if leaked:
            return f"Do not believe it: {leaked} of {photos} test photos are copies of photos it learned from."
        return "No copies were found: believe it for photos of the same collection."
    if name == "without-copies":
        return "Honest, but few photos, and perhaps not of every class."
    return "Believe it for new photos of the same collection; those of other people and cameras are harder."


def _outside(run: Path) -> list[dict[str, Any]]:
    """The rows of other folders with photos of classes that the model knows."""
    rows = []
    for path in sorted((run / artifacts.OUTSIDE).glob("*.json")):
        found = artifacts.read_json(path, "Delete it, and evaluate on those photos again")
        if found.get("scores"):
            scores = {name: found["scores"][name] for name in SHOWN}
            title = f"other photos: {found['name']}"
            row = {"name": f"outside:{found['name']}", "title": title, "believe": False, "leaked": 0}
            words = "Believe it for photos from elsewhere."
            if found["in_training"]:
                words += f" {found['in_training']} more are left out: it learned from them, or from copies of them."
            rows.append({**row, **scores, "words": words})
    return rows
