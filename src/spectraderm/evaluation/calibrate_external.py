"""`calibrate RUN|MODEL --external PHOTOS`: labelled photos of other sources -> `elsewhere`, where a model keeps it."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spectraderm.core import files
from spectraderm.core.errors import ModelFolderError, RunFolderError
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import CALIBRATION, FINAL, MODEL, Run
from spectraderm.data.beside import Beside
from spectraderm.evaluation.calibrate import ELSEWHERE, of_these_logits, settings_of
from spectraderm.evaluation.calibrate_elsewhere import calibrate_elsewhere, outputs_of
from spectraderm.evaluation.formatting import template
from spectraderm.evaluation.source_photos import Given, named_sources, predict_sources
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import Calibrations
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import promise as promise_of

HEADING = "## Elsewhere, by source"


def calibrate_external(
    target: str | Path,
    photos: Given,
    others: Sequence[Path | str] = (),
    out: Path | None = None,
    promise: float | None = None,
    label_map: Path | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Find the settings for photos from elsewhere, and write them into a model folder, or a run folder and its model.

    Takes what `api.scores.calibrate` takes. A model folder is written whole and keeps its `model_id`; its card gets a
    section. A run's network is that of its model folder; the next `export` keeps the settings.

    Returns:
        `elsewhere`, as it is written; how many of the photos were `in_training`, and left out; what is told of the
        folders as `Beside.facts` has it; and the `model` folder that was written.

    Raises:
        DatasetError: the photos can't be used as they are.
        ModelFolderError: the model can't be opened, or its folder not be written to.
        RunFolderError: the run is not calibrated, or not exported since it was trained.
    """
    path = Path(target)
    if path.name == MODEL and (path.parent / CALIBRATION).is_file() and out is None:
        path = path.parent  # the run would forget it at its next export
    if model_folder.is_model_folder(target) and path == Path(target):
        folder, run = model_folder.open_model(target), None
        written = out or _own_folder(folder)
    else:
        run = Run(path)
        folder = _model_of(run)
        written = out or folder.path
    sources, apart = named_sources(photos), named_sources(others) if others else {}
    for name, folders in apart.items():
        sources[name] = [*sources.get(name, []), *folders]
    of_none = [one for folders in apart.values() for one in folders]
    home, classifier = folder.calibrations.home, Classifier(folder, calibration="home")
    predicted, read = predict_sources(classifier, sources, label_map, track, of_none)
    elsewhere = calibrate_elsewhere(outputs_of(predicted, home.temperature), home, promise)
    if run:
        _keep(run, elsewhere)
    write_elsewhere(folder, elsewhere, written)
    counts = {"in_training": int(predicted.in_training.sum()), **sum(read.values(), Beside()).facts()}
    return {ELSEWHERE: elsewhere, **counts, "model": str(written)}


def write_elsewhere(folder: ModelFolder, elsewhere: Mapping[str, Any], out: Path) -> None:
    """Write a model folder with these settings for photos from elsewhere, in its facts and its card."""
    facts = {name: value for name, value in folder.facts.items() if name != "sha256"}
    calibration = {**facts["calibration"], ELSEWHERE: dict(elsewhere)}
    card = with_section(folder.card, calibration).encode()
    kept = {name: data for name, data in folder.files.items() if name != model_folder.FACTS}
    model_folder.write_model_folder(out, kept | {model_folder.CARD: card}, facts | {"calibration": calibration})


def with_section(card: str, calibration: Mapping[str, Any]) -> str:
    """A model card with what its settings for photos from elsewhere promise, in place of what it said of that."""
    text = section(calibration)
    if not text:
        return card
    before = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if before.search(card):
        return before.sub(lambda _: f"{text}\n", card).rstrip() + "\n"
    return f"{card.rstrip()}\n\n{text}"


def section(calibration: Mapping[str, Any]) -> str:
    """The section of a model card; nothing where the model was never calibrated elsewhere."""
    elsewhere = calibration.get(ELSEWHERE)
    if elsewhere is None:
        return ""
    promised = promise_of(Calibrations.from_dict(calibration))
    expected = elsewhere["expected"]
    rows = [*expected["by_source"].items(), ("all, each weighing the same", expected["pooled"])] if expected else []
    facts = {"heading": HEADING, "promised": promised, "elsewhere": elsewhere, "rows": rows}
    return template("elsewhere.md.j2").render(facts).strip() + "\n"


def _model_of(run: Run) -> ModelFolder:
    """A run's model folder, if it is of what the run was last trained to."""
    settings_of(run)
    export = f"Run `spectraderm evaluate {run.folder}` and `spectraderm export {run.folder}` first"
    if not model_folder.is_model_folder(run.path(MODEL)):
        raise RunFolderError(f"{run.folder} has no model folder yet", export)
    folder = model_folder.open_model(run.path(MODEL))
    if not of_these_logits(run, folder.facts):
        raise RunFolderError(f"{run.path(MODEL)} was exported before the run was trained again", export)
    return folder


def _keep(run: Run, elsewhere: Mapping[str, Any]) -> None:
    with run.stage("calibrate", part=True):
        logits = {"logits_sha256": files.sha256(run.fold(FINAL).logits.read_bytes())}
        files.write_json(run.path(CALIBRATION), {**run.calibration, ELSEWHERE: {**elsewhere, **logits}})


def _own_folder(folder: ModelFolder) -> Path:
    """The folder of a model, if it is somebody's to write to."""
    packaged = model_folder.find_model(None).resolve() == folder.path.resolve()
    if folder.hub or packaged or not os.access(folder.path, os.W_OK) or not os.access(folder.path.parent, os.W_OK):
        raise ModelFolderError(f"{folder.model_id} can't be written to where it is", "Give --out MODEL2")
    return folder.path
