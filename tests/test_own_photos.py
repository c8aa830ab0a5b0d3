import shutil
from pathlib import Path

from tinynet import Exported

from spectraderm.core.run import EXTERNAL, MODEL
from spectraderm.evaluation.external import evaluate_external


def test_a_runs_own_test_photos_are_not_photos_from_elsewhere(
    exports: dict[str, Exported], photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(exports["notebook"].run, run)
    result = evaluate_external(run / MODEL, photos / "test")
    assert result["in_training"] == 0
    assert result["of_the_run"] == result["n_photos"] == 9
    assert not (run / EXTERNAL).exists()
