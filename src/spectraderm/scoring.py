"""Calibrating, scoring and comparing run folders: the stages that need no network, and so wait for no torch."""

from pathlib import Path
from typing import Any

from spectraderm.core import stages
from spectraderm.core.errors import RunFolderError
from spectraderm.evaluation import calibrate as calibration
from spectraderm.evaluation import evaluate as evaluation
from spectraderm.evaluation import ledger
from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.calibrate import Settings, settings_of
from spectraderm.evaluation.compare import compare as compare_scored
from spectraderm.evaluation.report import write_report

__all__ = ["Settings", "calibrate", "compare", "evaluate", "score", "settings_of"]


def calibrate(run_folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Find a trained run folder's settings; see `evaluation.calibrate`."""
    with stages.stage(run_folder, "calibrate"):
        return calibration.calibrate(run_folder, settings)


def score(run_folder: Path) -> dict[str, Any]:
    """Score a calibrated run folder and write `evaluation.json`, without a line in the ledger."""
    with stages.stage(run_folder, "evaluate"):
        return evaluation.evaluate(run_folder)


def evaluate(run_folder: Path, command: str = "evaluate", beside: str = "") -> dict[str, Any]:
    """Score a calibrated run folder, write its report and card, and note that its test photos were used.

    The ledger is written last: a scoring that is killed and done again is one line.
    """
    with stages.stage(run_folder, "evaluate"):
        result = score(run_folder)
        entry = ledger.entry(run_folder, command, beside)
        write_report(run_folder, result, [entry])
        ledger.write(run_folder, entry)
    return result


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Two runs on the same test photos, paired by photo; both ledgers note that their tests were used to choose.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    with stages.stage(run_a, "evaluate"), stages.stage(run_b, "evaluate"):
        (paths_a, scored_a), (paths_b, scored_b) = _tested(run_a), _tested(run_b)
        if paths_a != paths_b:
            raise RunFolderError(
                f"{run_a} and {run_b} were not tested on the same photos", "Use the same --split and --seed"
            )
        result = compare_scored(scored_a, scored_b)
        for run, other in ((run_a, run_b), (run_b, run_a)):
            ledger.write(run, ledger.entry(run, "compare", str(other)))
        return result


def _tested(run_folder: Path) -> tuple[list[str], Scored]:
    """The tested photos, sorted by path, with their calibrated probabilities."""
    _, crossed = calibration.read_outputs(run_folder)
    test = calibration.pool([fold.of("test") for fold in crossed])
    judged = calibration.judge(crossed, settings_of(run_folder))
    order = test.paths.argsort()
    return test.paths[order].tolist(), Scored(test.labels, judged.probabilities, test.groups).take(order)
