"""`evaluate MODEL PHOTOS`: a model folder on photos that it was not made from, of its classes or of none."""

import errno
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core import OTHER, files, other_of
from spectraderm.core.errors import RunFolderError, WriteError
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Folders
from spectraderm.core.run import EVALUATION, EXTERNAL, MANIFEST, MODEL, Run
from spectraderm.data import manifest
from spectraderm.data.beside import Beside
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import NO_CLASS, Booleans, Integers, Scored
from spectraderm.evaluation.by_source import of_source, over_sources, stated
from spectraderm.evaluation.compare import detection
from spectraderm.evaluation.evaluate import Outside, refusals
from spectraderm.evaluation.outputs import pool, read_outputs
from spectraderm.evaluation.source_photos import Given, Predicted, named_sources, predict_sources
from spectraderm.images.perceptual_hash import MAX_DISTANCE, from_hex, nearest
from spectraderm.inference.calibration import Choice, Judgement
from spectraderm.inference.classifier import load_model
from spectraderm.inference.model_folder import find_model
from spectraderm.inference.prediction import VERDICTS

MOST_OF_THE_RUN = 0.5
"""Where this share of the photos are the run's own, they are not kept as photos from elsewhere."""
_UNUSABLE = VERDICTS.index("unusable_photo")


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
        result = _evaluate(model, run, photos, label_map, track, calibration, chosen_on=chosen_on)
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


def _evaluate(
    model: str | Path | None,
    run: Run | None,
    photos: Given,
    label_map: Path | None,
    track: Track,
    calibration: Choice,
    *,
    chosen_on: bool,
) -> dict[str, Any]:
    classifier, sources = load_model(model, calibration=calibration), named_sources(photos)
    others = [photos.of_source[source] for source in photos.others] if isinstance(photos, Folders) else []
    predicted, read = predict_sources(classifier, sources, label_map, track, others)
    labels = [label for label in classifier.labels if label != OTHER]
    guesses = {"guesses": [*labels, OTHER]} if OTHER in classifier.labels else {}
    about = {"model_id": classifier.model_id, "labels": labels, **guesses, "chosen_on": chosen_on}
    about["calibrated_on"] = classifier.calibrations.choose(calibration, in_training=False)[0]
    results = {}
    for source in sources:
        part = predicted.of(source)
        results[source] = {"name": source, "source": source, **about, **read[source].facts(), **scores_of(part)}
        if run:
            results[source] |= _beside_the_run(run, part)
            if results[source]["of_the_run"] < MOST_OF_THE_RUN * len(part.labels):
                files.write_json(run.path(EXTERNAL) / f"{source}.json", results[source])
    if len(sources) == 1:
        return next(iter(results.values()))
    parts = {source: _summary(predicted.of(source), result) for source, result in results.items()}
    name = photos.resolve().name if isinstance(photos, Path) else ", ".join(sources)
    every = {"name": name, **about, **sum(read.values(), Beside()).facts()}
    return {**every, **scores_of(predicted), "by_source": parts, **over_sources(parts)}


def _beside_the_run(run: Run, photos: Predicted) -> dict[str, Any]:
    """How many of the photos are a run's own, or copies of these, trained on or tested; and how others' novelty is."""
    known = from_hex(row.phash for row in manifest.read(run.path(MANIFEST)))
    own = sum(nearest(turns, known) <= MAX_DISTANCE for turns in photos.hashes)
    new = ~photos.in_training & (photos.judged.verdicts != _UNUSABLE)
    if own >= MOST_OF_THE_RUN * len(new) or not new.any():
        return {"of_the_run": own}
    test = pool(read_outputs(run)[1])
    novelty = np.array([one.novelty for one in photos.predictions], np.float64)[new]
    return {"of_the_run": own, "novelty_detection": detection(test.novelty, novelty, test.groups, photos.groups[new])}


def _summary(photos: Predicted, result: Mapping[str, Any]) -> dict[str, Any]:
    """A source among others: its scores as `of_source` gives them, verdicts of unusable photos among them."""
    summary: dict[str, Any] = {"in_training": result["in_training"]}
    summary |= {name: result[name] for name in ("n_photos", "n_groups", "out_of_distribution") if name in result}
    if "scores" in result:
        judged = photos.judged
        rows = ~photos.in_training & (photos.labels != NO_CLASS) & (judged.verdicts != _UNUSABLE)
        every = Scored(photos.labels, judged.probabilities, photos.groups, other_of(photos.classes))
        summary |= {**of_source(every, judged, rows), "predicted": result["refusals"]["predicted"]}
    return summary


def scores_of(photos: Predicted) -> dict[str, Any]:
    """What `score` gives of predicted photos."""
    return score(photos.labels, photos.groups, photos.judged, photos.in_training, photos.classes)


def score(
    labels: Integers, groups: Integers, judged: Judgement, in_training: Booleans, classes: Sequence[str]
) -> dict[str, Any]:
    """`scores`, `per_class`, `confusion_matrix`, `sets` and `refusals` of photos of known classes.

    Photos that the model was trained on, or on copies of, are counted (`in_training`) and left out of all else. Photos
    that the quality gate refused got no guess: they are in the refusals, not in the scores. Of photos of no known class
    there is `out_of_distribution`: `refused` is the share called out of scope or unusable, `flagged` that of all
    verdicts but `predicted`, and `predicted` that one's.

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
        other = other_of(classes)
        every = Scored(labels, judged.probabilities, groups, other)
        scored = every.take(guessed)
        result["scores"] = metrics.scores(scored) | {"stated": stated(scored)}
        result["per_class"] = metrics.per_class(scored, list(classes))
        result["confusion_matrix"] = metrics.confusion(scored)
        result["sets"] = metrics.set_scores(scored.labels, judged.sets[guessed], scored.groups, other)
        result["refusals"] = refusals(every.take(known), verdicts[known])
    unknown = new & ~of_class
    return result | Outside(verdicts[unknown], groups[unknown], np.full(int(unknown.sum()), "")).scores()
