from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from spectraderm.core.files import write_csv
from spectraderm.core.run import Run
from spectraderm.evaluation.bootstrap import Integers, Scored
from spectraderm.evaluation.curves import learning_curve, macro, roc
from spectraderm.training.learning_curve import COLUMNS


def scored(labels: Integers, classes: int = 3, other: int | None = None) -> Scored:
    """Probabilities in steps of a tenth, so that many tie."""
    random = np.random.default_rng(0)
    values = (random.integers(0, 8, (len(labels), classes)) + 3 * np.eye(classes)[labels]).round(0) + 1
    return Scored(labels, np.arange(len(labels)), values / values.sum(1, keepdims=True), other=other)


def test_areas_are_those_of_scikit_learn_and_the_macro_curve_is_their_mean() -> None:
    photos = scored(np.arange(60) % 3)
    curves = roc(photos)
    areas = {number: np.trapezoid(tpr, fpr) for number, (fpr, tpr) in curves.items()}
    for number, area in areas.items():
        assert area == pytest.approx(roc_auc_score(photos.labels == number, photos.probabilities[:, number]))
    fpr, tpr = macro(list(curves.values()))
    expected = roc_auc_score(photos.labels, photos.probabilities, multi_class="ovr", average="macro")
    assert np.trapezoid(tpr, fpr) == pytest.approx(expected) == np.mean(list(areas.values()))
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(tpr) >= -1e-12).all()
    assert (fpr[0], fpr[-1], tpr[-1]) == (0, 1, 1)


def test_a_class_that_lacks_and_photos_of_none_have_no_curve() -> None:
    assert list(roc(scored(np.arange(20) % 2, classes=4, other=3))) == [0, 1]
    assert roc(scored(np.zeros(5, np.int64))) == {}


def test_draws_of_one_photo_group_are_averaged_and_folds_pooled(tmp_path: Path) -> None:
    assert learning_curve(Run(tmp_path)) == []
    lines = [(0.5, 0, 4, 1, 1.0), (0.5, 1, 4, 1, 0.0), (0.5, 0, 4, 2, 1.0), (0.5, 1, 4, 2, 1.0), (1.0, 0, 8, 1, 1.0)]
    more = [(0.5, 0, 6, 3, 0.0), (1.0, 0, 12, 3, 0.0)]
    for fold, rows in (("fold-1", lines), ("fold-2", more)):
        records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        write_csv(Run(tmp_path).fold(fold).learning_curve, COLUMNS, records)
    half, whole = learning_curve(Run(tmp_path))
    assert (half["share"], half["train_groups"], half["n_groups"]) == (0.5, 4, 3)
    assert half["group_accuracy"]["value"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert half["group_accuracy"]["low"] < half["group_accuracy"]["value"] < half["group_accuracy"]["high"]
    assert (whole["share"], whole["train_groups"], whole["group_accuracy"]["value"]) == (1.0, 10, 0.5)
