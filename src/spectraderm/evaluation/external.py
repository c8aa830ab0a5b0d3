"""`evaluate MODEL PHOTOS`: a model folder on photos that it was not made from, of its classes or of none."""

import errno
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from spectraderm.core import OTHER, Choice, files
from spectraderm.core.errors import RunFolderError, WriteError
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Folders
from spectraderm.core.run import EVALUATION, EXTERNAL, MANIFEST, MODEL, Run
from spectraderm.data import manifest
from spectraderm.data.beside import Beside
from spectraderm.evaluation import metrics
from spectraderm.evaluation.by_source import of_source, outside, over_sources, stated
from spectraderm.evaluation.compare import detection
from spectraderm.evaluation.evaluate import refusals
from spectraderm.evaluation.outputs import pool, read_outputs
from spectraderm.evaluation.source_photos import Given, Predicted, named_sources, predict_sources
from spectraderm.images.perceptual_hash import MAX_DISTANCE, from_hex, nearest
from spectraderm.inference.classifier import Classifier, load_model
from spectraderm.inference.model_folder import find_model
from spectraderm.inference.prediction import VERDICTS

MOST_OF_THE_RUN = 0.5
"""Where this share of the photos are the run's own, they are not kept as photos from elsewhere."""


def evaluate_external(
    model: str | Path | None,
    photos: Given,
    label_map: Path | None = None,
    out: Path | None = None,
    track: Track = no_track,
    calibration: Choice = "auto",
    *,
    chosen_on: bool = False,
) -> dict[str, Any]:
    """Predict every photo of a folder or of several sources, on all cores, and score the predictions.

    Takes what `api.scores.evaluate` takes. Of `RUN/model` the result goes into `RUN/external/`, too, so that RUN's next
    report shows it, and novelty is measured against RUN's own photos; but not where most of the photos are RUN's own
    (`of_the_run`): these are not from elsewhere.

    Returns:
        What `score` gives, with `source`, what is told of the folders as `Beside.facts` has it, `chosen_on`, and by
        which calibration photos were judged that are not in training (`calibrated_on`). Of several sources that of all
        photos, `by_source`, by name what `by_source.of_source` gives, and where they hold such photos
        `out_of_distribution` of `score`; and what `over_sources` gives. Each source's own result stands in
        `RUN/external/`.

    Raises:
        DatasetError: no photos, or folders of which only some bear a class's name, or an unusable map.
    """
    if out:
        _check_ours(out)
    folder = find_model(model)
    run = Run(folder.parent) if folder.name == MODEL and (folder.parent / EVALUATION).is_file() else None
    with run.stage("evaluate", part=True) if run else nullcontext():
        classifier, sources = load_model(model, calibration=calibration), named_sources(photos)
        others = [photos.of_source[source] for source in photos.others] if isinstance(photos, Folders) else []
        predicted, read = predict_sources(classifier, sources, label_map, track, others)
        about = _about(classifier) | {"chosen_on": chosen_on}
        about["calibrated_on"] = classifier.calibrations.choose(calibration, in_training=False)[0]
        parts = {source: predicted.take(predicted.sources == source) for source in sources}
        results = {}
        for source, part in parts.items():
            results[source] = {"name": source, "source": source, **about, **read[source].facts(), **score(part)}
            if run:
                results[source] |= _beside_the_run(run, part)
                if results[source]["of_the_run"] < MOST_OF_THE_RUN * len(part):
                    files.write_json(run.path(EXTERNAL) / f"{source}.json", results[source])
        result = next(iter(results.values()))
        if len(sources) > 1:
            name = photos.resolve().name if isinstance(photos, Path) else ", ".join(sources)
            by_source = {source: _summary(parts[source], own) for source, own in results.items()}
            facts = sum(read.values(), Beside()).facts()
            result = {"name": name, **about, **facts, **score(predicted), "by_source": by_source}
            result |= over_sources(by_source)
        if out:
            files.write_json(out, result)
    return result


def _check_ours(out: Path) -> None:
    """Raise `WriteError` where a result would take the place of a file that is none."""
    ours = not out.exists()
    with suppress(RunFolderError):
        ours = ours or "calibrated_on" in files.read_json(out, "")
    if not ours:
        raise WriteError(out, OSError(errno.EEXIST, ""))


def _about(classifier: Classifier) -> dict[str, Any]:
    labels = [label for label in classifier.labels if label != OTHER]
    guesses = {"guesses": [*labels, OTHER]} if OTHER in classifier.labels else {}
    return {"model_id": classifier.model_id, "labels": labels, **guesses}


def _beside_the_run(run: Run, photos: Predicted) -> dict[str, Any]:
    """How many of the photos are a run's own, or copies of these, trained on or tested; and how others' novelty is."""
    known = from_hex(row.phash for row in manifest.read(run.path(MANIFEST)))
    own = sum(nearest(turns, known) <= MAX_DISTANCE for turns in photos.hashes)
    new = photos.take(~photos.in_training & photos.usable)
    if own >= MOST_OF_THE_RUN * len(photos) or not len(new):
        return {"of_the_run": own}
    test = pool(read_outputs(run)[1])
    return {"of_the_run": own, "novelty_detection": detection(test.novelty, new.novelty, test.groups, new.groups)}


def _summary(photos: Predicted, result: Mapping[str, Any]) -> dict[str, Any]:
    """A source among others: its scores as `of_source` gives them, verdicts of unusable photos among them."""
    summary: dict[str, Any] = {"in_training": result["in_training"]}
    summary |= {name: result[name] for name in ("n_photos", "n_groups", "out_of_distribution") if name in result}
    if "scores" in result:
        scores = of_source(photos.take(~photos.in_training & photos.usable).own)
        summary |= scores | {"predicted": result["refusals"]["predicted"]}
    return summary


def score(photos: Predicted) -> dict[str, Any]:
    """`scores`, `per_class`, `confusion_matrix`, `sets` and `refusals` of photos of known classes.

    Photos that the model was trained on, or on copies of, are counted (`in_training`) and left out of all else. Photos
    that the quality gate refused got no guess: they are in the refusals, not in the scores. Of photos of no known class
    there is `out_of_distribution`: `refused` is the share called out of scope or unusable, `flagged` that of all
    verdicts but `predicted`, and `predicted` that one's.
    """
    new = photos.take(~photos.in_training)
    own, guessed = new.own, new.own.take(new.own.usable)
    result: dict[str, Any] = {
        "n_photos": len(photos),
        "n_groups": photos.n_groups,
        "in_training": int(photos.in_training.sum()),
        "verdicts": {name: int((photos.verdicts == number).sum()) for number, name in enumerate(VERDICTS)},
    }
    if len(guessed):
        result["scores"] = metrics.scores(guessed) | {"stated": stated(guessed)}
        result["per_class"] = metrics.per_class(guessed, photos.names)
        result["confusion_matrix"] = metrics.confusion(guessed)
        result["sets"] = metrics.set_scores(guessed.labels, guessed.sets, guessed.groups, guessed.other)
        result["refusals"] = refusals(own)
    return result | outside(new.others)
