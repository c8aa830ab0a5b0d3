"""Labels and guesses -> scores, each with a 95 % interval from resampling photo groups. Knows nothing of files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

RESAMPLES = 1000
Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Guesses:
    """First guesses for n photos: `int64[n]` each; `groups` says which photos are copies of one."""

    labels: Integers
    guesses: Integers
    groups: Integers

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Integers | npt.NDArray[np.bool_]) -> "Guesses":
        """The same for some rows only."""
        return Guesses(self.labels[rows], self.guesses[rows], self.groups[rows])


def accuracy(matrix: Reals) -> Reals:
    """Share of files guessed right, from confusion matrices `float[..., true class, guess]`."""
    result: Reals = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))
    return result


def balanced_accuracy(matrix: Reals) -> Reals:
    """Mean recall over the classes that are there."""
    present = matrix.sum(-1)
    recall = np.diagonal(matrix, axis1=-2, axis2=-1) / np.maximum(present, 1)
    result: Reals = recall.sum(-1) / (present > 0).sum(-1)
    return result


def macro_f1(matrix: Reals) -> Reals:
    """Mean F1 over the classes that are there or were guessed."""
    either = matrix.sum(-1) + matrix.sum(-2)
    f1 = 2 * np.diagonal(matrix, axis1=-2, axis2=-1) / np.maximum(either, 1)
    result: Reals = f1.sum(-1) / (either > 0).sum(-1)
    return result


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}


def scores(guessed: Guesses, seed: int = 0) -> dict[str, Any]:
    """Every metric as `{value, low, high}`, with the numbers of photos and of photo groups.

    `group_accuracy` counts every photo group once: the mean over groups of the share of their files guessed right.
    The interval is the percentile bootstrap (Efron & Tibshirani 1993) at 95 %, over photo groups, not files: copies
    of one photo are drawn together.
    """
    classes = int(max(guessed.labels.max(), guessed.guesses.max())) + 1
    _, group = np.unique(guessed.groups, return_inverse=True)
    count = int(group.max()) + 1
    cells = np.zeros((count, classes, classes))
    np.add.at(cells, (group, guessed.labels, guessed.guesses), 1)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    drawn = (times @ cells.reshape(count, -1)).reshape(-1, classes, classes)
    share = accuracy(cells)
    values = {name: (float(metric(cells.sum(0))), metric(drawn)) for name, metric in METRICS.items()}
    values["group_accuracy"] = (float(share.mean()), times @ share / count)
    result: dict[str, Any] = {"n_photos": len(guessed), "n_groups": count}
    for name, (value, resampled) in values.items():
        low, high = np.percentile(resampled, [2.5, 97.5])
        result[name] = {"value": value, "low": float(low), "high": float(high)}
    return result


def per_class(guessed: Guesses, labels: list[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class; null where they are not defined."""
    numbers = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(
        guessed.labels, guessed.guesses, labels=numbers, zero_division=np.nan
    )
    return [
        {
            "label": label,
            "n_photos": int(support[i]),
            "n_groups": len(np.unique(guessed.groups[guessed.labels == i])),
            "precision": _number(precision[i]),
            "recall": _number(recall[i]),
            "f1": _number(f1[i]),
        }
        for i, label in enumerate(labels)
    ]


def confusion(guessed: Guesses, classes: int) -> list[list[int]]:
    """Counts: a row per true class, a column per guess."""
    matrix: list[list[int]] = confusion_matrix(guessed.labels, guessed.guesses, labels=list(range(classes))).tolist()
    return matrix


def majority(guessed: Guesses, trained_on: Integers) -> dict[str, float]:
    """What guessing the most frequent training class for every photo would score."""
    most = int(np.bincount(trained_on).argmax())
    constant = np.full(len(guessed), most)
    return {
        "accuracy": float((guessed.labels == constant).mean()),
        "balanced_accuracy": float(1 / len(np.unique(guessed.labels))) if most in guessed.labels else 0.0,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
