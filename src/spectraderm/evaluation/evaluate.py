"""A run's stored logits -> `evaluation.json`: what it scored, in which protocol, and on how many photos."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm import artifacts
from spectraderm.calibration import softmax
from spectraderm.errors import RunFolderError
from spectraderm.evaluation import metrics
from spectraderm.evaluation.metrics import Guesses

PROTOCOLS = {
    "as-given": "the folders as they came, validation cut at random",
    "by-photo": "by photo: no photo group on two sides",
}


@dataclass(frozen=True)
class Logits:
    """`logits.csv` of one fold: paths, splits and labels in order, and the class numbers of labels and guesses."""

    fold: str
    seed: int
    paths: list[str]
    splits: np.ndarray[Any, np.dtype[np.str_]]
    guessed: Guesses
    confidence: np.ndarray[Any, np.dtype[np.float64]]

    def of(self, split: str) -> Guesses:
        """The guesses for the photos of one split."""
        return self.guessed.take(self.splits == split)


def evaluate(run: Path) -> dict[str, Any]:
    """Score a trained run and write `evaluation.json`.

    With k folds by photo, `test` pools the folds: every photo is scored once, by a model that never saw it or its
    copies. With several random draws as given, `over_folds` has the mean and range over the draws.

    Raises:
        RunFolderError: the run is not trained to the end.
    """
    config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    labels: list[str] = config["labels"]
    folds = read_logits(run, config)
    measured = measuring(config["protocol"], folds)
    pooled = {name: _pool([fold.of(name) for fold in measured]) for name in ("train", "val", "calibration", "test")}
    test = pooled["test"]
    result: dict[str, Any] = {
        "protocol": config["protocol"],
        "folds": len(measured),
        "folds_asked": len(folds) if config["protocol"] == "as-given" else len(measured),
        "seed": folds[0].seed,
        "recipe": config["recipe"]["name"],
        "backbone": config["backbone"],
        "splits": {name: metrics.scores(guessed) for name, guessed in pooled.items() if len(guessed)},
        "per_class": metrics.per_class(test, labels),
        "labels": labels,
        "confusion_matrix": metrics.confusion(test, len(labels)),
        "baselines": {"majority_class": metrics.majority(test, pooled["train"].labels)},
    }
    if config["protocol"] == "as-given":
        seen = folds[0].guessed.groups[np.isin(folds[0].splits, ("train", "val"))]
        clean = test.take(~np.isin(test.groups, seen))
        if 0 < len(clean) < len(test):
            result["splits"]["test_without_copies"] = metrics.scores(clean)
    if len(folds) > 1:
        result["over_folds"] = _over_folds(folds if config["protocol"] == "as-given" else measured)
    artifacts.write_json(run / artifacts.EVALUATION, result)
    return result


def read_logits(run: Path, config: Mapping[str, Any]) -> list[Logits]:
    """The logits of every fold, the final one first.

    Raises:
        RunFolderError: a fold has none yet, or they are damaged.
    """
    names = [f"logit:{label}" for label in config["labels"]]
    number = {label: i for i, label in enumerate(config["labels"])}
    folds = []
    for entry in config["folds"]:
        path = artifacts.fold_folder(run, entry["fold"]) / artifacts.LOGITS
        records = artifacts.read_csv(path, [*artifacts.LOGIT_COLUMNS, *names], "Run `spectraderm train RUN --resume`")
        if not records:
            raise RunFolderError(f"{path} is empty", "Train again")
        try:
            logits = np.array([[float(record[name]) for name in names] for record in records])
            true = np.array([number[record["label"]] for record in records])
            groups = np.array([int(record["photo_group"]) for record in records])
        except (KeyError, ValueError) as error:
            raise RunFolderError(f"{path} is damaged ({error!r})", "Train again") from error
        if not np.isfinite(logits).all():
            raise RunFolderError(f"{path} has logits that are no numbers: training diverged", "Lower the learning rate")
        guessed = Guesses(true, logits.argmax(1), groups)
        folds.append(
            Logits(
                entry["fold"],
                entry["seed"],
                [record["path"] for record in records],
                np.array([record["split"] for record in records]),
                guessed,
                softmax(logits).max(1),
            )
        )
    return folds


def measuring(protocol: str, folds: list[Logits]) -> list[Logits]:
    """The folds whose test rows are the score: the k folds by photo, or else the final one alone."""
    return folds[1:] if protocol == "by-photo" and len(folds) > 1 else folds[:1]


def _pool(parts: list[Guesses]) -> Guesses:
    return Guesses(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.guesses for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )


def _accuracy(guessed: Guesses) -> float:
    return float((guessed.labels == guessed.guesses).mean())


def _over_folds(folds: list[Logits]) -> dict[str, Any]:
    """Mean, lowest and highest accuracy over folds or draws, with each one's."""
    result: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        values = [_accuracy(fold.of(split)) for fold in folds if len(fold.of(split))]
        if values:
            result[f"{split}_accuracy"] = {
                "mean": float(np.mean(values)),
                "low": min(values),
                "high": max(values),
                "n": len(values),
                "values": values,
                "seeds": [fold.seed for fold in folds],
            }
    return result
