"""Calibrating, scoring and comparing run folders: the stages that need no network, and so wait for no torch."""

from pathlib import Path
from typing import Any

from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import Run
from spectraderm.evaluation import calibrate as calibration
from spectraderm.evaluation import evaluate as evaluation
from spectraderm.evaluation import ledger
from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.calibrate import Settings
from spectraderm.evaluation.compare import compare as compare_scored
from spectraderm.evaluation.report import write_report

__all__ = ["Settings", "calibrate", "compare", "evaluate", "score", "settings_of"]


def calibrate(run_folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Find a trained run folder's settings; see `evaluation.calibrate`."""
    run = Run(run_folder)
    with run.stage("calibrate"):
        return calibration.calibrate(run, settings)


def settings_of(run_folder: Path) -> Settings:
    """The settings that a run folder was calibrated with."""
    return calibration.settings_of(Run(run_folder))


def score(run_folder: Path) -> dict[str, Any]:
    """Score a calibrated run folder and write `evaluation.json`, without a line in the ledger."""
    run = Run(run_folder)
    with run.stage("evaluate"):
        return evaluation.evaluate(run)


def evaluate(run_folder: Path, command: str = "evaluate", beside: str = "") -> dict[str, Any]:
    """Score a calibrated run folder, write its report and card, and note that its test photos were used.

    The ledger is written last: a scoring that is killed and done again is one line.
    """
    run = Run(run_folder)
    with run.stage("evaluate"):
        result = evaluation.evaluate(run)
        entry = ledger.entry(run, command, beside)
        write_report(run, result, [entry])
        ledger.write(run, entry)
    return result


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Two runs on the same test photos, paired by photo; both ledgers note that their tests were used to choose.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    runs = a, b = Run(run_a), Run(run_b)
    with a.stage("evaluate"), b.stage("evaluate"):
        (paths_a, scored_a), (paths_b, scored_b) = _tested(a), _tested(b)
        if paths_a != paths_b:
            raise RunFolderError(
                f"{run_a} and {run_b} were not tested on the same photos", "Use the same --split and --seed"
            )
        result = compare_scored(scored_a, scored_b)
        for run, other in zip(runs, reversed(runs), strict=True):
            ledger.write(run, ledger.entry(run, "compare", str(other.folder)))
        return result


def _tested(run: Run) -> tuple[list[str], Scored]:
    """The tested photos, sorted by path, with their calibrated probabilities."""
    _, crossed = calibration.read_outputs(run)
    test = calibration.pool(crossed)
    judged = calibration.judge(crossed, calibration.settings_of(run))
    order = test.paths.argsort()
    return test.paths[order].tolist(), Scored(test.labels, judged.probabilities, test.groups).take(order)
