"""Calibrating, scoring and comparing run folders: the stages that need no network, and so wait for no torch."""

from pathlib import Path
from typing import Any

from spectraderm.core import artifacts, stages
from spectraderm.core.errors import RunFolderError
from spectraderm.evaluation import calibrate as calibration
from spectraderm.evaluation import evaluate as evaluation
from spectraderm.evaluation import ledger, outputs
from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.calibrate import Settings
from spectraderm.evaluation.compare import compare as compare_scored
from spectraderm.evaluation.evaluate import settings_of
from spectraderm.evaluation.report import write_report

__all__ = ["Settings", "calibrate", "compare", "evaluate", "score", "settings_of"]


_BEGUN = ".scoring"
"""In a run folder while it is scored: how many lines the ledger had. Killed and run again, it gets one, not two."""


def calibrate(run_folder: Path, settings: Settings | None = None) -> dict[str, Any]:
    """Find a trained run folder's settings; see `evaluation.calibrate`."""
    with stages.stage(run_folder, "calibrate"):
        return calibration.calibrate(run_folder, settings)


def score(run_folder: Path) -> dict[str, Any]:
    """Score a calibrated run folder and write `evaluation.json`, without a line in the ledger."""
    with stages.stage(run_folder, "evaluate"):
        return evaluation.evaluate(run_folder)


def evaluate(run_folder: Path, what: str = "evaluate", beside: str = "") -> dict[str, Any]:
    """Score a calibrated run folder, note that its test photos were used, and write its report and card."""
    with stages.stage(run_folder, "evaluate"):
        found = score(run_folder)
        _enter_once(run_folder, what, beside)
        write_report(run_folder, found)
    (run_folder / _BEGUN).unlink(missing_ok=True)  # last of all: then the scores are told
    return found


def compare(run_a: Path, run_b: Path) -> dict[str, Any]:
    """Two runs on the same test photos, paired by photo; both ledgers note that their tests were used to choose.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    with stages.stage(run_a, "evaluate"), stages.stage(run_b, "evaluate"):
        return _compare(run_a, run_b)


def _compare(run_a: Path, run_b: Path) -> dict[str, Any]:
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


def _enter_once(run: Path, what: str, beside: str) -> None:
    """Enter a scoring into the ledger, in place of what killed ones of the same outputs have entered."""
    path, begun = run / artifacts.LEDGER, run / _BEGUN
    if not begun.is_file():
        artifacts.write_bytes(begun, f"{len(_lines(path))}\n".encode())
    start = begun.read_text(encoding="utf-8", errors="replace").strip()
    ledger.enter(run, what, beside)
    *lines, last = _lines(path)
    count = int(start) if start.isdecimal() else len(lines)
    others = [line for line in lines[count:] if line | {"when": ""} != last | {"when": ""}]
    if len(others) < len(lines[count:]):
        artifacts.write_csv(path, ledger.COLUMNS, [*lines[:count], *others, last])


def _lines(path: Path) -> list[dict[str, str]]:
    return artifacts.read_csv(path, ledger.COLUMNS, "") if path.is_file() else []
