"""What a fold leaves behind of its errors."""

from pathlib import Path

import numpy as np
from tinynet import RECIPES

from spectraderm.core.run import HEATMAPS, Run
from spectraderm.evaluation.outputs import read_outputs
from spectraderm.inference.calibration import softmax
from spectraderm.training.checkpoint import HEATMAPS_KEPT, surest_errors, write_heatmaps


def test_the_surest_errors_come_first_and_only_of_tested_photos() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (200, 4)).astype(np.float32)
    targets, tested = random.integers(0, 4, 200), random.random(200) < 0.5
    got = surest_errors(logits, targets, tested)
    sure = softmax(logits).max(1)
    wrong = [i for i in range(200) if tested[i] and logits[i].argmax() != targets[i]]
    assert got.tolist() == sorted(wrong, key=lambda i: -sure[i])[:HEATMAPS_KEPT]
    assert len(surest_errors(logits, logits.argmax(1), tested)) == 0


def test_the_map_kept_is_that_of_the_guess(tmp_path: Path) -> None:
    logits = np.array([[0, 1, 0], [2, 0, 0], [0, 0, 3]], np.float32)
    maps = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    path = tmp_path / HEATMAPS
    write_heatmaps(path, np.array([2, 0]), logits, maps)
    with np.load(path, allow_pickle=False) as stored:
        assert stored["rows"].tolist() == [2, 0]
        np.testing.assert_array_equal(stored["maps"], maps[[0, 1], [2, 1]])


def test_trained_runs_leave_maps_of_their_wrong_test_photos(runs: dict[str, Path]) -> None:
    for run in [runs[recipe] for recipe in RECIPES]:
        (fold, *_), _ = read_outputs(Run(run))
        with np.load(Run(run).fold("final").heatmaps, allow_pickle=False) as stored:
            wrong = np.flatnonzero((fold.splits == "test") & (fold.logits.argmax(1) != fold.labels))
            assert sorted(stored["rows"]) == wrong.tolist()
            assert len(stored["maps"]) == len(wrong)
        assert len(Run(run).features("final")) == len(fold)
