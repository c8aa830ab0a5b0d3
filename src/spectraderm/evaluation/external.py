"""`evaluate MODEL PHOTOS`: a model folder on photos that it was not made from, of its classes or of none."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import files
from spectraderm.core.errors import DatasetError, SpectraDermError
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Folders, Given, root_of
from spectraderm.core.run import EVALUATION, EXTERNAL, MANIFEST, MODEL, Run
from spectraderm.data import manifest
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.data.layouts import source_folders
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import Booleans, Integers, Scored, rate
from spectraderm.evaluation.by_source import of_source, over_sources
from spectraderm.evaluation.calibrate import pool, read_outputs
from spectraderm.evaluation.compare import detection
from spectraderm.evaluation.evaluate import refusals
from spectraderm.images.decoding import open_photo
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Hashes, from_hex, nearest, turned_hashes
from spectraderm.inference.calibration import Judgement
from spectraderm.inference.classifier import Classifier, Prediction, load_model
from spectraderm.inference.model_folder import find_model
from spectraderm.inference.photo_paths import walk
from spectraderm.inference.prediction import VERDICTS

MOST_OF_THE_RUN = 0.5
"""Where this share of the photos are the run's own, they are not kept as photos from elsewhere."""
MAP_COLUMNS = ("folder", "label")
NO_CLASS = -1
_UNUSABLE = VERDICTS.index("unusable_photo")


def evaluate_external(
    model: str | Path | None,
    photos: Given,
    label_map: Path | None = None,
    out: Path | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Predict every photo of a folder or of several sources, on all cores, and score the predictions.

    Args:
        model: as `spectraderm.load_model` takes it. Of `RUN/model` the result goes into `RUN/external/`, too, so
            that RUN's next report shows it, and novelty is measured against RUN's own photos; but not where most of
            the photos are RUN's own (`of_the_run`): these are not from elsewhere.
        photos: the photos; the name of the folder that each lies in is its class. Several folders, or one whose folders
            `layouts.source_folders` takes for sources, are a source each.
        label_map: CSV of `folder,label`, where folders are not named as the model's classes; an empty label is none
            of them. Without one, the folders of a source of which none bears a class's name hold photos of no known
            class.
        out: a JSON file to write the result into, too.
        track: how progress is shown.

    Returns:
        What `score` gives, with `source`. Of several sources that of all photos, `by_source`, by name what
        `by_source.of_source` gives, and where they hold such photos `out_of_distribution` of `score`; and what
        `over_sources` gives. Each source's own result stands in `RUN/external/`.

    Raises:
        DatasetError: no photos, or folders of which only some bear a class's name, or an unusable map.
    """
    folder = find_model(model)
    run = Run(folder.parent) if folder.name == MODEL and (folder.parent / EVALUATION).is_file() else None
    with run.stage("evaluate") if run else nullcontext():
        result = _evaluate(model, run, photos, label_map, track)
        if out:
            files.write_json(out, result)
    return result


@dataclass(frozen=True)
class _Predicted:
    """n photos that could be read: their sources, true classes, predictions, hashes and photo groups."""

    sources: npt.NDArray[np.str_]
    labels: Integers
    predictions: list[Prediction]
    hashes: list[Hashes]
    groups: Integers
    classes: list[str]

    @property
    def judged(self) -> Judgement:
        """The predictions as arrays; those of unusable photos have probabilities of 0."""
        return Judgement(
            np.array([[one.probabilities.get(label, 0.0) for label in self.classes] for one in self.predictions]),
            np.array([[label in one.prediction_set for label in self.classes] for one in self.predictions]),
            np.array([VERDICTS.index(one.verdict) for one in self.predictions]),
        )

    @property
    def in_training(self) -> Booleans:
        """Whether the model was trained on each, or on a copy."""
        return np.array([one.in_training for one in self.predictions])

    def of(self, source: str) -> "_Predicted":
        """The photos of one source."""
        rows = np.flatnonzero(self.sources == source)
        predictions, hashes = [self.predictions[row] for row in rows], [self.hashes[row] for row in rows]
        return _Predicted(self.sources[rows], self.labels[rows], predictions, hashes, self.groups[rows], self.classes)

    def scores(self) -> dict[str, Any]:
        """What `score` gives of them."""
        return score(self.labels, self.groups, self.judged, self.in_training, self.classes)


def _evaluate(
    model: str | Path | None, run: Run | None, photos: Given, label_map: Path | None, track: Track
) -> dict[str, Any]:
    classifier, folders = load_model(model), _folders(photos)
    predicted, unreadable = _predict_all(classifier, folders, label_map, track)
    about = {"model_id": classifier.model_id, "labels": classifier.labels}
    results = {}
    for source in folders:
        part = predicted.of(source)
        results[source] = {"name": source, "source": source, **about, "unreadable": unreadable[source], **part.scores()}
        if run:
            results[source] |= _beside_the_run(run, part)
            if results[source]["of_the_run"] < MOST_OF_THE_RUN * len(part.labels):
                files.write_json(run.path(EXTERNAL) / f"{source}.json", results[source])
    if len(folders) == 1:
        return next(iter(results.values()))
    parts = {source: _summary(predicted.of(source), result) for source, result in results.items()}
    name = photos.resolve().name if isinstance(photos, Path) else ", ".join(folders)
    every = {"name": name, **about, "unreadable": [reason for own in unreadable.values() for reason in own]}
    return {**every, **predicted.scores(), "by_source": parts, **over_sources(parts)}


def _folders(photos: Given) -> dict[str, Path]:
    """The folder of every source, by name."""
    root = root_of(photos)
    if isinstance(root, Folders):
        return dict(root.of_source)
    sources = source_folders(root) if root.is_dir() else []
    return {source: root / source for source in sources} or {root.resolve().name: root}


def _predict_all(
    classifier: Classifier, folders: Mapping[str, Path], label_map: Path | None, track: Track
) -> tuple[_Predicted, dict[str, list[str]]]:
    """Every photo of the folders, and by source why which could not be read."""
    paths = [(source, path) for source, folder in folders.items() for path in walk(str(folder))]
    of_folder: dict[Path, int] = {}
    for source, folder in folders.items():
        of_folder |= _labels(folder, [path for own, path in paths if own == source], classifier, label_map)
    many, threads = classifier.for_many()
    results = in_order(lambda photo: _predict(many, photo[1]), paths, threads)
    unreadable: dict[str, list[str]] = {source: [] for source in folders}
    read = []
    for (source, path), photo in track(results, f"Predicting {', '.join(folders)}", len(paths)):
        if isinstance(photo, SpectraDermError):
            unreadable[source].append(str(photo))
        else:
            read.append((source, of_folder[Path(path).parent], *photo))
    for source in sorted({*folders} - {source for source, *_ in read}):
        raise DatasetError(f"{folders[source]}: no photo can be read", f"First: {unreadable[source][0]}")
    sources, labels, predictions, hashes = zip(*read, strict=True)
    groups = photo_groups(len(read), near_pairs(np.stack(hashes)))
    arrays = np.array(sources), np.array(labels), list(predictions), list(hashes), groups
    return _Predicted(*arrays, classifier.labels), unreadable


def _beside_the_run(run: Run, photos: _Predicted) -> dict[str, Any]:
    """How many of the photos are a run's own, or copies of these, trained on or tested; and how others' novelty is."""
    known = from_hex(row.phash for row in manifest.read(run.path(MANIFEST)))
    own = sum(nearest(turns, known) <= MAX_DISTANCE for turns in photos.hashes)
    new = ~photos.in_training & (photos.judged.verdicts != _UNUSABLE)
    if own >= MOST_OF_THE_RUN * len(new) or not new.any():
        return {"of_the_run": own}
    test = pool(read_outputs(run)[1])
    novelty = np.array([one.novelty for one in photos.predictions], np.float64)[new]
    return {"of_the_run": own, "novelty_detection": detection(test.novelty, novelty, test.groups, photos.groups[new])}


def _summary(photos: _Predicted, result: Mapping[str, Any]) -> dict[str, Any]:
    """A source among others: its scores as `of_source` gives them, verdicts of unusable photos among them."""
    summary: dict[str, Any] = {"in_training": result["in_training"]}
    summary |= {name: result[name] for name in ("n_photos", "n_groups", "out_of_distribution") if name in result}
    if "scores" in result:
        judged = photos.judged
        rows = ~photos.in_training & (photos.labels != NO_CLASS) & (judged.verdicts != _UNUSABLE)
        every = Scored(photos.labels, judged.probabilities, photos.groups)
        summary |= {**of_source(every, judged, rows), "predicted": result["refusals"]["predicted"]}
    return summary


def score(
    labels: Integers, groups: Integers, judged: Judgement, in_training: Booleans, classes: Sequence[str]
) -> dict[str, Any]:
    """`scores`, `per_class`, `confusion_matrix`, `sets` and `refusals` of photos of known classes.

    Photos that the model was trained on, or on copies of, are counted (`in_training`) and left out of all else. Photos
    that the quality gate refused got no guess: they are in the refusals, not in the scores. Of photos of no known class
    there is `out_of_distribution`: `refused` is the share called out of scope or unusable, `flagged` that of all
    verdicts but `predicted`.

    `labels` are the true class numbers `int64[n]`, -1 where the photo shows none of the model's `classes`; `groups`
    `int64[n]` its photo group; `in_training` `bool[n]` whether the model was trained on it or a copy.
    """
    verdicts, of_class, new = judged.verdicts, labels != NO_CLASS, ~in_training
    known, guessed = new & of_class, new & of_class & (verdicts != _UNUSABLE)
    result: dict[str, Any] = {
        "n_photos": len(groups),
        "n_groups": len(np.unique(groups)),
        "in_training": int(in_training.sum()),
        "verdicts": {name: int((verdicts == number).sum()) for number, name in enumerate(VERDICTS)},
    }
    if guessed.any():
        every = Scored(labels, judged.probabilities, groups)
        scored = every.take(guessed)
        result["scores"] = metrics.scores(scored)
        result["per_class"] = metrics.per_class(scored, list(classes))
        result["confusion_matrix"] = metrics.confusion(scored)
        result["sets"] = metrics.set_scores(scored.labels, judged.sets[guessed], scored.groups)
        result["refusals"] = refusals(every.take(known), verdicts[known])
    unknown = new & ~of_class
    if unknown.any():
        result["out_of_distribution"] = {
            "refused": rate(verdicts[unknown] >= VERDICTS.index("out_of_scope"), groups[unknown], by_group=True),
            "flagged": rate(verdicts[unknown] != VERDICTS.index("predicted"), groups[unknown], by_group=True),
        }
    return result


def _predict(classifier: Classifier, path: str) -> tuple[Prediction, Hashes] | SpectraDermError:
    """One photo through all stages, decoded and hashed once."""
    try:
        image = open_photo(path)
        hashes = turned_hashes(image)
        return classifier.predict_opened(image, hashes), hashes
    except SpectraDermError as error:
        return error


def _labels(photos: Path, paths: Sequence[str], classifier: Classifier, label_map: Path | None) -> Mapping[Path, int]:
    """The class number, or -1, of every folder that holds photos."""
    folders, classes = sorted({Path(path).parent for path in paths}), ", ".join(classifier.labels)
    numbers = {label: i for i, label in enumerate(classifier.labels)}
    if label_map:
        lines = files.read_csv(label_map, MAP_COLUMNS, "Give a CSV file with these two columns")
        wanted = {line["folder"]: line["label"] for line in lines}
        if unknown := [label for label in wanted.values() if label and label not in numbers]:
            raise DatasetError(f"{label_map}: {unknown[0]!r} is no class of the model", f"Its classes: {classes}")
        if lacking := [folder.name for folder in folders if folder.name not in wanted]:
            raise DatasetError(f"{label_map} has no line for folder {lacking[0]!r}", "Add it; no label means no class")
        return {folder: numbers.get(wanted[folder.name], NO_CLASS) for folder in folders}
    numbers = {classifier.display_name(label): i for label, i in numbers.items()} | numbers
    of_folder = {folder: numbers.get(folder.name, NO_CLASS) for folder in folders}
    unknown = [folder.name for folder, number in of_folder.items() if number == NO_CLASS]
    if unknown and len(unknown) < len(folders):
        raise DatasetError(
            f"{photos}: the model has no class {unknown[0]!r}, but has others of these folders",
            f"Give a --label-map with the columns {','.join(MAP_COLUMNS)}; its classes: {classes}",
        )
    return of_folder
