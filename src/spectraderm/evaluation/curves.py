"""Points of two curves: ROC of each class against the rest, and accuracy over the number of training photos."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from spectraderm.core import files
from spectraderm.core.resampling import share
from spectraderm.core.run import LEARNING_CURVE, Run
from spectraderm.evaluation.bootstrap import Reals, Scored, means

Curve = tuple[Reals, Reals]
"""False positive rates and true positive rates, `float64[k]` each, both from 0 to 1."""

_COLUMNS = ("share", "train_groups", "photo_group", "right")


def roc(scored: Scored) -> dict[int, Curve]:
    """The ROC curve of each class against the rest, by file, by the number of the class.

    Of several folds it is the mean of theirs, weighted by how many pairs they compare: its area is the AUROC. A class
    that all photos are of, or none, has none.
    """
    folds, result = [scored.take(rows) for rows in scored.rows_of_folds], {}
    for number in scored.known:
        curves, pairs = [], []
        for fold in folds:
            positive = fold.labels == number
            if 0 < positive.sum() < len(fold):
                fpr, tpr, _ = roc_curve(positive, fold.probabilities[:, number])
                curves.append((fpr, tpr))
                pairs.append(int(positive.sum() * (~positive).sum()))
        if curves:
            result[number] = macro(curves, pairs) if len(curves) > 1 else curves[0]
    return result


def macro(curves: Sequence[Curve], weights: Sequence[int] | None = None) -> Curve:
    """The mean of ROC curves, all weighing the same or so much each; its area is the mean of theirs."""
    grid = np.unique(np.concatenate([fpr for fpr, _ in curves]))
    sides = [np.average([_at(curve, grid, side) for curve in curves], axis=0, weights=weights) for side in (0, -1)]
    return np.repeat(grid, 2), np.stack(sides, axis=1).ravel()


def learning_curve(run: Run) -> list[dict[str, Any]]:
    """Accuracy by photo after training on parts of the photo groups, as `learning_curve.csv` of the folds have it.

    Each point has `share`, `train_groups`, the mean over folds, `n_groups`, how many it was tested on, and
    `group_accuracy`, of each photo group the mean over draws. Empty where no fold has the file.
    """
    rows: list[dict[str, str]] = []
    for path in sorted(run.folder.glob(f"folds/*/{LEARNING_CURVE}")):
        rows += files.read_csv(path, _COLUMNS, "Run `spectraderm train RUN --resume`")
    by_share: defaultdict[float, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        by_share[float(row["share"])].append(row)
    return [{"share": part, **_point(by_share[part])} for part in sorted(by_share)]


def _point(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    groups, number = np.unique([int(row["photo_group"]) for row in rows], return_inverse=True)
    right = np.bincount(number, [float(row["right"]) for row in rows]) / np.bincount(number)
    trained, accuracy = round(float(np.mean([int(row["train_groups"]) for row in rows]))), means(right, groups)
    return {"train_groups": trained, "n_groups": len(groups), "group_accuracy": share(accuracy, len(groups))}


def _at(curve: Curve, grid: Reals, side: int) -> Reals:
    """A curve's heights above a grid; where it rises straight up, the lower end (0) or the upper one (-1)."""
    fpr, tpr = curve
    place = np.searchsorted(fpr, grid, "left" if side == 0 else "right") + side
    result: Reals = np.where(fpr[place] == grid, tpr[place], np.interp(grid, fpr, tpr))
    return result
