"""`evaluate MODEL PHOTOS`: a model folder on photos that it was not made from, of its classes or of none."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spectraderm.core import artifacts, stages
from spectraderm.core.errors import DatasetError, SpectraDermError
from spectraderm.core.progress import Track, no_track
from spectraderm.data import manifest
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.evaluation import evaluate
from spectraderm.evaluation.external_scores import Answers, score
from spectraderm.images.opening import open_photo
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Hashes, from_hex, nearest, turned_hashes
from spectraderm.inference.batch import find
from spectraderm.inference.calibration import VERDICTS
from spectraderm.inference.classifier import Classifier, Prediction, load_model
from spectraderm.inference.model_folder import find_model

OWN = 0.5
"""Where this share of the photos are the run's own, they are not kept as photos from elsewhere."""
MAP_COLUMNS = ("folder", "label")
NO_CLASS = ""


class _Answer(NamedTuple):
    label: int
    said: Prediction
    hashes: Hashes


def evaluate_outside(
    model: str | Path | None,
    photos: Path,
    label_map: Path | None = None,
    out: Path | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Predict every photo below a folder, and score what was said.

    Args:
        model: as `spectraderm.load_model` takes it. Of `RUN/model` the result goes into `RUN/outside/`, too, so
            that RUN's next report shows it, and novelty is measured against RUN's own photos; but not where most of
            the photos are RUN's own (`of_the_run`): these are not from elsewhere.
        photos: the photos; the name of the folder that each lies in is its class.
        label_map: CSV of `folder,label`, where folders are not named as the model's classes; an empty label is none
            of them. Without one, folders of which none bears a class's name hold strangers, photos of no known class.
        out: a JSON file to write the result into, too.
        track: how progress is shown.

    Raises:
        DatasetError: no photos, or folders of which only some bear a class's name, or an unusable map.
    """
    run = _run_of(find_model(model))
    with stages.stage(run, "evaluate") if run else nullcontext():
        return _evaluate(model, run, photos, label_map, out, track)


def _run_of(model: Path) -> Path | None:
    """The evaluated run folder that a model lies in, if it does."""
    inside = model.name == artifacts.MODEL and (model.parent / artifacts.EVALUATION).is_file()
    return model.parent if inside else None


def _evaluate(
    model: str | Path | None, run: Path | None, photos: Path, label_map: Path | None, out: Path | None, track: Track
) -> dict[str, Any]:
    classifier = load_model(model)
    paths = find(str(photos))
    of_folder = _labels(photos, paths, classifier, label_map)
    answers: list[_Answer] = []
    unreadable = []
    for path in track(paths, f"Predicting {photos.name}", len(paths)):
        try:
            image = open_photo(path)
            answers.append(_Answer(of_folder[Path(path).parent], classifier.predict(image), turned_hashes(image)))
        except SpectraDermError as error:
            unreadable.append(str(error))
    if not answers:
        raise DatasetError(f"{photos}: no photo can be read", f"First: {unreadable[0]}")
    said = _arrays(answers, classifier.labels)
    result = {
        "name": photos.resolve().name,
        "model_id": classifier.model_id,
        "labels": classifier.labels,
        "unreadable": unreadable,
        **score(said, classifier.labels),
    }
    if run:
        result["of_the_run"] = _of_the_run(run, answers)
        if result["of_the_run"] < OWN * len(answers):
            _keep(run, result, said)
    if out:
        artifacts.write_json(out, result)
    return result


def _of_the_run(run: Path, answers: Sequence[_Answer]) -> int:
    """How many photos are a run's own or copies of these, whether trained on or tested."""
    known = from_hex(row.phash for row in manifest.read(run / artifacts.MANIFEST))
    return sum(nearest(answer.hashes, known) <= MAX_DISTANCE for answer in answers)


def _keep(run: Path, result: dict[str, Any], said: Answers) -> None:
    """Put the result into a run's folder, with how well novelty tells these photos from the run's own."""
    seen = np.isfinite(said.novelty) & ~said.in_training
    if seen.any():
        result["novelty_detection"] = evaluate.novelty_detection(run, said.novelty[seen], said.groups[seen])
    artifacts.write_json(run / artifacts.OUTSIDE / f"{result['name']}.json", result)


def _arrays(answers: Sequence[_Answer], labels: Sequence[str]) -> Answers:
    said = [answer.said for answer in answers]
    nothing = float("nan")
    return Answers(
        labels=np.array([answer.label for answer in answers]),
        groups=photo_groups(len(said), near_pairs(np.stack([answer.hashes for answer in answers]))),
        probabilities=np.array([[one.probabilities.get(label, nothing) for label in labels] for one in said]),
        sets=np.array([[label in one.prediction_set for label in labels] for one in said]),
        verdicts=np.array([VERDICTS.index(one.verdict) for one in said]),
        novelty=np.array([nothing if one.novelty is None else one.novelty for one in said]),
        in_training=np.array([one.in_training for one in said]),
    )


def _labels(photos: Path, paths: Sequence[str], classifier: Classifier, label_map: Path | None) -> dict[Path, int]:
    """The class number, or -1, of every folder that holds photos."""
    folders = sorted({Path(path).parent for path in paths})
    if label_map:
        wanted = _read_map(label_map, classifier)
        missing = [folder.name for folder in folders if folder.name not in wanted]
        if missing:
            raise DatasetError(f"{label_map} has no line for folder {missing[0]!r}", "Add it; no label means no class")
        return {folder: wanted[folder.name] for folder in folders}
    names = {name: i for i, label in enumerate(classifier.labels) for name in (label, classifier.display_name(label))}
    known = {folder: names.get(folder.name, -1) for folder in folders}
    strange = [folder.name for folder, number in known.items() if number < 0]
    if strange and len(strange) < len(folders):
        raise DatasetError(
            f"{photos}: the model has no class {strange[0]!r}, but has others of these folders",
            f"Give a --label-map with the columns {','.join(MAP_COLUMNS)}; its classes: {', '.join(classifier.labels)}",
        )
    return known


def _read_map(path: Path, classifier: Classifier) -> dict[str, int]:
    lines = artifacts.read_csv(path, MAP_COLUMNS, "Give a CSV file with these two columns")
    number = {NO_CLASS: -1} | {label: i for i, label in enumerate(classifier.labels)}
    for line in lines:
        if line["label"] not in number:
            raise DatasetError(
                f"{path}: {line['label']!r} is no class of the model", f"Its classes: {', '.join(classifier.labels)}"
            )
    return {line["folder"]: number[line["label"]] for line in lines}
