"""`reproduce RUN`: the same photos, split and recipe once more, and where the numbers differ from those published."""

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from spectraderm import pipeline
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import write_json
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import AUDIT, EXTERNAL, MANIFEST, MEASUREMENTS, SPLIT, Run
from spectraderm.data import manifest
from spectraderm.evaluation.calibrate import settings_of
from spectraderm.training import train as training
from spectraderm.training.backbones import load_backbone
from spectraderm.training.recipe import Recipe

_KEPT = (MANIFEST, AUDIT, SPLIT, MEASUREMENTS)
_TOLERANCE = 1e-9


def reproduce(run: Path, photos: Path | None = None, track: Track = no_track) -> list[str]:
    """Train and score a run again, in a temporary folder, from its manifest, split and configuration.

    Args:
        run: the run folder; nothing in it is changed.
        photos: where the photos are now; by default where they were.
        track: how progress is shown.

    Returns:
        A line per number of `evaluation.json` that differs; none where all are the same.

    Raises:
        DatasetError: a photo vanished or changed.
        RunFolderError: the run is not whole.
    """
    published = Run(run).evaluation
    Run(run).check("evaluate")
    settings = settings_of(Run(run))
    config = Run(run).config
    backbone = load_backbone(config["backbone_name"])
    if backbone.source != config["backbone"]:
        raise RunFolderError(f"the backbone is now {backbone.source}, was {config['backbone']}", "Install that version")
    with tempfile.TemporaryDirectory(prefix="spectraderm-") as folder:
        again = Path(folder) / run.resolve().name
        again.mkdir()
        _copy(run, again)
        if photos:
            _move(again, photos)
        recipe = Recipe.model_validate(config["recipe"])
        training.train(Run(again), recipe, backbone, device="cpu", track=track, shared=False)
        pipeline.calibrate(again, settings)
        found = pipeline.score(again)
    return differences(published, found)


def differences(before: Any, after: Any, where: str = "") -> list[str]:  # noqa: ANN401
    """Where two JSON values differ, a line each; numbers by more than rounding."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in [*before, *(key for key in after if key not in before)]:
            lines += differences(before.get(key), after.get(key), f"{where}.{key}" if where else str(key))
        return lines
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for i, pair in enumerate(zip(before, after, strict=True))
            for line in differences(*pair, f"{where}[{i}]")
        ]
    numbers = [value for value in (before, after) if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) == 2 and math.isclose(*numbers, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        return []
    return [] if before == after else [f"{where}: {before} then, {after} now"]


def _copy(run: Path, again: Path) -> None:
    """What training starts from, and what was found on other folders' photos, which stands in `evaluation.json`."""
    beside = sorted((run / EXTERNAL).glob("*.json"))
    for path in [*(run / name for name in _KEPT), *beside]:
        target = again / path.relative_to(run)
        target.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise RunFolderError(f"{path} can't be read ({error.strerror})", "Run it again") from error


def _move(run: Path, photos: Path) -> None:
    facts = Run(run).audit
    first = manifest.read(run / MANIFEST)[0].path
    if not (photos / first).is_file():
        raise DatasetError(f"{photos} has no {first}", "Give the folder that was audited")
    write_json(run / AUDIT, {**facts, "root": str(photos.resolve())})
