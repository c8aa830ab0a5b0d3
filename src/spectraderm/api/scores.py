"""Calibrating, scoring and comparing, of runs, and of models on photos from elsewhere; and public sets of such."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, overload

from spectraderm.api.given import AnyPath, AnyRun, Photos, all_photos, folder_of, path_of, several, stages
from spectraderm.api.options import check_calibrate, check_evaluate
from spectraderm.core import Choice, Conformal
from spectraderm.core.arguments import checked
from spectraderm.core.errors import needs
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import Run

__all__ = ["calibrate", "compare", "evaluate", "import_"]


@checked
def calibrate(
    target: AnyRun,
    photos: Photos | None = None,
    *,
    external: bool = False,
    other: Photos | None = None,
    label_map: AnyPath | None = None,
    out: AnyPath | None = None,
    coverage: float | None = None,
    conformal: Conformal | None = None,
    per_class: bool = False,
    promise: float | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Find temperature, prediction sets, and the thresholds of "I don't know".

    On photos held out of training, or, with `external`, for photos from elsewhere, on labelled photos of other sources.

    Args:
        target: a trained run folder; with `external` also a model, as `load_model` takes it.
        photos: with `external`: folders of labelled photos, each, or each `NAME=FOLDER`, a source.
        external: find the settings for photos from elsewhere.
        other: with `external`: folders of photos of none of the classes.
        label_map: with `external`: CSV of `folder,label`: which class each folder is; an empty label is none.
        out: with `external`: another model folder to write.
        coverage: of prediction sets; by default 0.9.
        conformal: how sets are made: `lac` (smallest; the default) or `raps`.
        per_class: hold the coverage in every class: larger sets.
        promise: the share of `predicted` that shall be right; by default the most that can be proved.
        track: how progress is shown.

    Returns:
        The content of `calibration.json`; with `external` its `elsewhere`, and the `model` folder that was written.

    Raises:
        RunFolderError: the run is not trained; with `external`, not exported.
        DatasetError: the photos can't be used as they are.
    """
    check_calibrate(bool(photos), external, any((other, out, label_map)), any((coverage, conformal, per_class)))
    if external:
        with needs("train", "what calibrates"):
            find = import_module("spectraderm.evaluation.calibrate_external").calibrate_external
        model = folder_of(target) if isinstance(target, Run) else target
        table, folder = path_of(label_map), path_of(out)
        found: dict[str, Any] = find(model, several(photos or ()), several(other or ()), folder, promise, table, track)
        return found
    pipeline = stages()
    settings = pipeline.Settings(coverage or 0.9, conformal or "lac", per_class, promise)
    settled: dict[str, Any] = pipeline.calibrate(folder_of(target), settings)
    return settled


@overload
def evaluate(target: Sequence[AnyRun], photos: None = None, *, track: Track = no_track) -> list[dict[str, Any]]: ...  # type: ignore[overload-overlap]
@overload
def evaluate(
    target: AnyRun,
    photos: Photos | None = None,
    *,
    label_map: AnyPath | None = None,
    out: AnyPath | None = None,
    other: AnyPath | None = None,
    chosen_on: bool = False,
    calibration: Choice = "auto",
    track: Track = no_track,
) -> dict[str, Any]: ...


@checked
def evaluate(
    target: AnyRun | Sequence[AnyRun],
    photos: Photos | None = None,
    *,
    label_map: AnyPath | None = None,
    out: AnyPath | None = None,
    other: AnyPath | None = None,
    chosen_on: bool = False,
    calibration: Choice = "auto",
    track: Track = no_track,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Score run folders and write their reports; or a model on photos that it was not made from.

    Args:
        target: a calibrated run folder, or a list of them; or a model, as `load_model` takes it.
        photos: with a model: a folder of `<class>/*`; of several each, or each `NAME=FOLDER`, is a source.
        label_map: with photos: CSV of `folder,label`: which class each folder is; an empty label is none.
        out: with photos: also write the result into this JSON file.
        other: with photos: a folder of photos of none of the classes.
        chosen_on: with photos: a recipe was chosen by its score on them; stored, and told wherever the score is.
        calibration: with photos: by what they are judged, as `load_model` takes it.
        track: how progress is shown.

    Returns:
        The content of `evaluation.json`, of a list of runs one each; of a model its scores on the photos, and where
        these are of several sources `by_source`.

    Raises:
        RunFolderError: a run is not calibrated.
        DatasetError: the photos can't be used as they are.
        SpectraDermError: a model without photos, or options that go with photos without any.
    """
    with needs("train", "what scores"):
        is_model = import_module("spectraderm.inference.model_folder").is_model_folder
    targets: list[AnyRun] = [target] if isinstance(target, str | os.PathLike | Run) else list(target)
    model = targets[0] if targets and not isinstance(targets[0], Run) and is_model(targets[0]) else None
    about = any((label_map, out, other, chosen_on, calibration != "auto"))
    check_evaluate(model is not None and len(targets) == 1, bool(photos), about)
    if model is not None:
        with needs("train", "what scores"):
            score = import_module("spectraderm.evaluation.external").evaluate_external
        given = all_photos(photos or (), other)
        found: dict[str, Any] = score(
            model, given, path_of(label_map), path_of(out), track, calibration, chosen_on=chosen_on
        )
        return found
    folders, pipeline = [folder_of(each) for each in targets], stages()
    others = [", ".join(sorted(str(other) for other in folders if other != each)) for each in folders]
    scores = [pipeline.evaluate(each, beside=beside, track=track) for each, beside in zip(folders, others, strict=True)]
    return scores if isinstance(target, Sequence) and not isinstance(target, str) else scores[0]


@checked
def compare(run_a: AnyRun, run_b: AnyRun) -> dict[str, Any]:
    """Which of two runs is better, photo by photo, and whether that is more than noise.

    Args:
        run_a: a run folder.
        run_b: another, tested on the same photos.

    Returns:
        By metric the `difference` of the two, with its interval; both ledgers note that the test photos were used.

    Raises:
        RunFolderError: they were not tested on the same photos.
    """
    found: dict[str, Any] = stages().compare(folder_of(run_a), folder_of(run_b))
    return found


@checked
def import_(
    name: str,
    folder: AnyPath,
    out: AnyPath,
    *,
    label_map: AnyPath | None = None,
    min_weight: float | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Lay out a public photo set by class, with its patients, cases, skin tones, licence and citation.

    Args:
        name: `scin`, `fitzpatrick17k`, `pad-ufes-20`, `ddi`, `ham10000`, `isic` or `reference` (Kaggle's copy).
        folder: what the set's owner publishes, unpacked; nothing in it is changed.
        out: the folder of photos to make: `<class>/*`, `metadata.csv`, `dataset.json`.
        label_map: CSV of `original,label`: lines that take the place of the set's own.
        min_weight: `scin` only: what the likeliest label must weigh; 0.5 by default.
        track: how progress is shown.

    Returns:
        The content of `dataset.json`.

    Raises:
        DatasetError: no such set, table, column or class; none of its photos is there; or `out` holds something.
    """
    from spectraderm.data.importers import import_set  # noqa: PLC0415

    return import_set(name, Path(folder), Path(out), path_of(label_map), min_weight, track)
