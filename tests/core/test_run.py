from pathlib import Path

import numpy as np
import pytest

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import write_array, write_csv, write_json
from spectraderm.core.run import CONFIG, FEATURES, LOGIT_COLUMNS, Run

COLUMNS = (*LOGIT_COLUMNS, "logit:acne", "logit:warts")
ROWS = [("a.jpg", 3, "train", "warts", "0.5", "1.25"), ("b.jpg", 7, "test", "acne", "-2", "1e-3")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    write_json(run.path(CONFIG), {"labels": ["acne", "warts"], "folds": [{"fold": "final"}, {"fold": "fold-1"}]})
    write(run, *ROWS)
    return run


def write(run: Run, *rows: tuple[object, ...], columns: tuple[str, ...] = COLUMNS) -> None:
    write_csv(run.fold("final").logits, columns, [dict(zip(columns, row, strict=True)) for row in rows])


def test_logits_come_as_arrays_in_the_order_of_the_model(run: Run) -> None:
    logits = run.logits("final")
    assert (len(logits), logits.classes) == (2, ["acne", "warts"])
    assert (logits.paths.tolist(), logits.splits.tolist()) == (["a.jpg", "b.jpg"], ["train", "test"])
    assert (logits.groups.tolist(), logits.targets.tolist()) == ([3, 7], [1, 0])
    assert logits.values.tolist() == [[0.5, 1.25], [-2, 0.001]]


@pytest.mark.parametrize(
    ("rows", "columns", "problem"),
    [
        ([], COLUMNS, "is empty"),
        ([row[:5] for row in ROWS], COLUMNS[:5], "no column logit:warts"),
        ([("a.jpg", 3, "train", "warts", "0.5", "much")], COLUMNS, "is damaged"),
        ([("a.jpg", "x", "train", "warts", "0.5", "1")], COLUMNS, "is damaged"),
        ([("a.jpg", 3, "train", "mumps", "0.5", "1")], COLUMNS, "'mumps' is no class"),
        ([("a.jpg", 3, "train", "warts", "0.5", "nan")], COLUMNS, "training diverged"),
    ],
)
def test_damaged_logits_are_refused(
    run: Run, rows: list[tuple[object, ...]], columns: tuple[str, ...], problem: str
) -> None:
    write(run, *rows, columns=columns)
    with pytest.raises(RunFolderError, match=problem) as caught:
        run.logits("final")
    assert str(run.fold("final").logits) in caught.value.problem


def test_what_lacks_is_told_with_the_command_that_makes_it(run: Run) -> None:
    for read, command in (
        (lambda: run.audit, "audit"),
        (lambda: run.rows, "audit"),
        (lambda: run.calibration, "calibrate"),
        (lambda: run.evaluation, "evaluate"),
        (lambda: run.logits("fold-1"), "train"),
        (lambda: run.features("final"), "Train again"),
    ):
        with pytest.raises(RunFolderError) as caught:
            read()
        assert command in caught.value.remedy


def test_features_are_the_fold_s_own_or_those_of_the_frozen_backbone(run: Run) -> None:
    write_array(run.path(FEATURES), np.ones((2, 3), np.float16))
    write_array(run.fold("fold-1").features, np.zeros((2, 3), np.float16))
    assert (run.features("final").max(), run.features("fold-1").max()) == (1, 0)
