"""`reproduce RUN`: the same photos, split and recipe once more, and where the numbers differ from those published.

`reproduce notebook PHOTOS`: the notebook's recipe over many seeds, beside the three numbers of its one draw.
"""

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from spectraderm import pipeline
from spectraderm.core import DEFAULT_BACKBONE
from spectraderm.core.errors import DatasetError, RunFolderError
from spectraderm.core.files import write_json
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import to_facts
from spectraderm.core.run import AUDIT, CONFIG, EXTERNAL, MANIFEST, MEASUREMENTS, SPLIT, Run
from spectraderm.data import manifest
from spectraderm.evaluation.calibrate import settings_of
from spectraderm.evaluation.evaluate import over_folds
from spectraderm.evaluation.outputs import read_outputs
from spectraderm.training import train as training
from spectraderm.training.backbones import load_backbone
from spectraderm.training.options import Options
from spectraderm.training.recipe import Recipe

NOTEBOOK = "notebook"
"""Name of the recipe, and of what `reproduce` is asked for in place of a run folder."""
PUBLISHED = {"train": 1.0, "val": 0.9626, "test": 221 / 234}
"""The accuracies in the outputs of the notebook "Skin Disease Classification using ResNet50": one draw, of no seed."""
SEEDS = 20

_KEPT = (MANIFEST, AUDIT, SPLIT, MEASUREMENTS)
_TOLERANCE = 1e-9


def reproduce(run: Path, photos: Path | None = None, track: Track = no_track) -> list[str]:
    """Train and score a run again, in a temporary folder, from its manifest, split and configuration.

    Nothing in the run folder is changed. `photos` is where the photos are now, or the folder of all their sources; by
    default where they were. Returns a line per number of `evaluation.json` that differs; none where all are the same.

    Raises:
        DatasetError: a photo vanished or changed.
        RunFolderError: the run is not whole.
    """
    before = Run(run)
    published = before.evaluation
    before.check("export")
    settings, config = settings_of(before), before.config
    backbone = load_backbone(config["backbone_name"])
    if backbone.source != config["backbone"]:
        raise RunFolderError(f"the backbone is now {backbone.source}, was {config['backbone']}", "Install that version")
    with tempfile.TemporaryDirectory(prefix="spectraderm-") as folder:
        again = Path(folder) / run.resolve().name
        _copy(run, again, photos)
        recipe = Recipe.model_validate(config["recipe"])
        training.train(Run(again), recipe, backbone, device="cpu", track=track, shared=False)
        pipeline.calibrate(again, settings)
        found = pipeline.score(again)
    return differences(published, found)


def reproduce_notebook(
    photos: Path,
    seeds: int = SEEDS,
    backbone: str = DEFAULT_BACKBONE,
    out: Path | None = None,
    seed: int = 0,
    track: Track = no_track,
) -> dict[str, Any]:
    """Draw the notebook's validation set and train its head anew for each of many seeds, on the folders as they came.

    `photos` are the reference photos, `train_set/<class>` and `test_set/<class>`; seeds count up from `seed`. `out`
    keeps the trainings, which `calibrate` and `evaluate` go on from.

    Returns:
        `backbone`, the leakage that `audit` found, and `train`, `val` and `test`: `published`, the notebook's accuracy;
        `mean`, `low`, `high`, `values` and `seeds` of the draws; and `as_high`, how many reach the notebook's.

    Raises:
        RunFolderError: `out` was trained in before.
        SplitError: there is no test folder.
    """
    if out and (out / CONFIG).exists():
        raise RunFolderError(f"{out} was trained in before", "Give another --out")
    with tempfile.TemporaryDirectory(prefix="spectraderm-") as folder:
        run = out or Path(folder) / NOTEBOOK
        options = Options(NOTEBOOK, backbone, "original", seeds, seed, device="cpu")
        facts = pipeline.audit(photos, run, track, look_for_crops=False).facts
        pipeline.split(run, options.protocol, seeds, seed)
        pipeline.train(run, options, track)
        over = over_folds(read_outputs(Run(run))[0])
        result: dict[str, Any] = {"backbone": Run(run).config["backbone"], "leakage": facts["leakage"]}
    for name, published in PUBLISHED.items():
        drawn = over[f"{name}_accuracy"]
        reached = sum(round(value, 4) >= round(published, 4) for value in drawn["values"])
        result[name] = {"published": published, **drawn, "as_high": reached}
    return result


def differences(before: Any, after: Any, where: str = "") -> list[str]:  # noqa: ANN401
    """Where two JSON values differ, a line each; numbers by more than rounding."""
    if isinstance(before, dict) and isinstance(after, dict):
        dot = f"{where}." if where else ""
        pairs = [(before.get(key), after.get(key), f"{dot}{key}") for key in dict.fromkeys([*before, *after])]
        return [line for pair in pairs for line in differences(*pair)]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        numbered = enumerate(zip(before, after, strict=True))
        return [line for i, pair in numbered for line in differences(*pair, f"{where}[{i}]")]
    numbers = isinstance(before, int | float) and isinstance(after, int | float)
    same = math.isclose(before, after, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE) if numbers else before == after
    return [] if same else [f"{where}: {before} then, {after} now"]


def _copy(run: Path, again: Path, photos: Path | None) -> None:
    """What training starts from, and what was found on other folders' photos, which stands in `evaluation.json`."""
    for path in [*(run / name for name in _KEPT), *sorted((run / EXTERNAL).glob("*.json"))]:
        target = again / path.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            raise RunFolderError(f"{path} can't be read ({error.strerror})", "Run it again") from error
    if photos:
        first = manifest.read(again / MANIFEST)[0].path
        if not (photos / first).is_file():
            raise DatasetError(f"{photos} has no {first}", "Give the folder that was audited")
        facts = {name: value for name, value in Run(again).audit.items() if name != "roots"}
        write_json(again / AUDIT, {**facts, **to_facts(photos)})
