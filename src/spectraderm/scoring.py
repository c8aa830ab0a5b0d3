"""Calibrating, scoring and comparing run folders: the stages that need no network, and so wait for no torch."""

from pathlib import Path
from typing import Any

from spectraderm import artifacts
from spectraderm.errors import RunFolderError
from spectraderm.evaluation import calibrate as calibration
from spectraderm.evaluation import ledger, outputs
from spectraderm.evaluation.calibrate import Settings, calibrate
from spectraderm.evaluation.compare import compare as compare_scored
from spectraderm.evaluation.evaluate import evaluate as score
from spectraderm.evaluation.evaluate import settings_of
from spectraderm.evaluation.report import write_report
from spectraderm.evaluation.scored import Scored

__all__ = ["Settings", "calibrate", "compare", "evaluate", "score", "settings_of"]


def evaluate(run_folder: Path, what: str = "evaluate", beside: str = "") -> dict[str, Any]:
    """Score a calibrated run folder, note that its test photos were used, and write its report and card."""
    evaluation = score(run_folder)
    ledger.enter(run_folder, what, beside)
    write_report(run_folder, evaluation)
    return evaluation


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Two runs on the same test photos, paired by photo; both ledgers note that their tests were used to choose.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    tests = [_held_out(run) for run in (run_a, run_b)]
    (paths_a, scored_a), (paths_b, scored_b) = tests
    if list(paths_a) != list(paths_b):
        raise RunFolderError(
            f"{run_a} and {run_b} were not tested on the same photos", "Use the same --split and --seed"
        )
    found = compare_scored(scored_a, scored_b)
    for run, other in ((run_a, run_b), (run_b, run_a)):
        ledger.enter(run, "compare", str(other))
    return found


def _held_out(run_folder: Path) -> tuple[list[str], Scored]:
    """The tested photos, sorted by path, and what was made of them."""
    config = artifacts.read_json(run_folder / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    crossed = calibration.crossing(config["protocol"], outputs.read(run_folder, config))
    test = outputs.pool([fold.of("test") for fold in crossed])
    judged = calibration.judge(crossed, settings_of(run_folder))
    order = test.paths.argsort()
    return test.paths[order].tolist(), Scored(test.labels, judged.probabilities, test.groups).take(order)
