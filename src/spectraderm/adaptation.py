"""A model and some photos of one's own -> the same model, better on photos like these.

Needs neither torch nor the photos that it was trained on. What `pipeline` is for training, this module is for `adapt`.
"""

import os
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from spectraderm.core import other_of
from spectraderm.core.arguments import checked
from spectraderm.core.errors import DatasetError, SpectraDermError, needs
from spectraderm.core.files import sha256
from spectraderm.core.names import look_alikes, same, tell_apart
from spectraderm.core.progress import Track, no_track
from spectraderm.core.tables import read_label_map
from spectraderm.data import own_photos
from spectraderm.data.class_folders import check_class, match
from spectraderm.data.manifest import display_names
from spectraderm.data.own_photos import Integers, OwnPhotos
from spectraderm.evaluation import before_after
from spectraderm.evaluation.adapted_card import card
from spectraderm.evaluation.calibrate import home
from spectraderm.evaluation.fitting import Settings
from spectraderm.evaluation.outputs import Outputs
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Hashes, nearest
from spectraderm.images.preprocessing import Pixels
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import ModelFolder, open_model

FEW = 3
"""Of a class with fewer photo groups than this, little can be said."""
_APART, _LISTS = ("parity", "calibration", "tables", "findings"), ("in_training", "left_out", "unreadable", "joined")
"""What stands elsewhere in `spectraderm.json` or names patients, and names of files, which are only counted there."""
_OF_THE_OLD_HEAD = ("sha256", "robustness", "loss")


class NotBetter(SpectraDermError):
    """The adapted model is not better on one's own photos, and was not written. `result` says what was measured."""

    result: dict[str, Any]


@checked
def adapt(
    model: str | os.PathLike[str] | None,
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    label_map: str | os.PathLike[str] | None = None,
    *,
    add_classes: bool = False,
    other: str | os.PathLike[str] | None = None,
    force: bool = False,
    seed: int = 0,
    track: Track = no_track,
) -> dict[str, Any]:
    """Fit a model's head again with photos of one's own added, and write another model folder.

    Args:
        model: as `load_model` takes it; one that `export` wrote with statistics of its head, or `adapt` itself.
        photos: one folder per class, named as the model's classes (or their names for people). A folder `other` holds
            photos of none of the classes. Tables beside them are read as `audit` reads them: photos of one patient or
            lesion are held out together, and count as one.
        out: the new model folder.
        label_map: CSV of `folder,label`, where folders are named otherwise; an empty label is `other`.
        add_classes: folders of other names are new classes; else they are an error.
        other: a folder of photos of none of the classes: healthy skin, other diseases.
        force: write it even where it is not better than before.
        seed: of the folds of cross-validation.
        track: how progress is shown.

    Returns:
        What was measured and done; the same stands in the new folder's `spectraderm.json`, as `adapted_from`.

    Raises:
        ModelFolderError: the model has no statistics to adapt from.
        DatasetError: the photos can't be used as they are.
        NotBetter: it is not better on these photos, or worse for a class by more than chance; nothing was written.
    """
    target = Path(out)
    if target.exists() and not model_folder.is_model_folder(target):
        raise SpectraDermError(f"{target} is there, and no model folder", "Give another --out")
    folder, training = open_model(model), _training()
    training.closed_form(folder)  # what can fail early, fails early
    taken = own_photos.read(Path(photos), folder.preprocessing, Path(other) if other else None, track)
    named = _labels(taken, folder, Path(photos), Path(label_map) if label_map else None, add_classes=add_classes)
    photos_of = _Labelled.of(taken, named, folder)
    engine = Engine(folder.network, folder.preprocessing, f"{folder.path.name}/{model_folder.ONNX}", threads=1)
    features, before = training.own_features(engine, photos_of.pixels, track)
    own = training.Own(features, photos_of.targets, photos_of.copies, photos_of.groups)
    number = other_of(photos_of.labels)
    form = replace(training.closed_form(folder), other=number)
    folds = training.folds_of(own.targets, own.groups, seed)
    logits, novelties = training.cross_validate(form, folder.references, own, folds, track)
    held = Outputs(own.targets, own.groups, logits, novelties, other=number)
    settings = Settings(folder.calibrations.home.coverage, folder.calibrations.home.set_method)
    measured = {
        "model_id": folder.model_id,
        "seed": seed,
        "in_training": photos_of.in_training,
        "left_out": taken.left_out,
        **taken.beside.facts(),
        "new_classes": [label for label in photos_of.labels if label not in folder.labels],
        **before_after.score(held, before, photos_of.labels),
        "verdicts": before_after.judge_own(held, folds, settings),
    }
    measured["few"] = [own["label"] for own in measured["per_class"] if own["groups"] < FEW]
    if not force:
        _check_better(measured)
    calibration = home(*before_after.calibrate_own(held, settings), settings, held.groups, "own_photos")
    fitted = form.refit(own)
    files = training.new_files(folder, fitted, own, photos_of.hashes, photos_of.labels)
    parity = training.measure_parity(
        Engine(files[model_folder.ONNX], folder.preprocessing, threads=1), photos_of.pixels, own, fitted.solve()
    )
    return _write(target, folder, photos_of.labels, files, {**measured, "parity": parity, "calibration": calibration})


@dataclass(frozen=True)
class _Labelled:
    """Those of one's own photos that the model has not learned from yet; `targets` are numbers in `labels`.

    Photos of one patient or lesion, as the tables beside them say, are one of `groups`; `copies` are only of one photo.
    """

    labels: list[str]
    targets: Integers
    copies: Integers
    groups: Integers
    pixels: Pixels
    hashes: Hashes
    in_training: list[str]

    @classmethod
    def of(cls, taken: OwnPhotos, named: list[str], folder: ModelFolder) -> "_Labelled":
        new = np.array([nearest(turns, folder.training_hashes) > MAX_DISTANCE for turns in taken.hashes])
        if not new.any():
            raise DatasetError(f"{folder.model_id} has learned from all of these photos already", "Give new ones")
        rows, copies = np.flatnonzero(new), own_photos.copies(taken.hashes[new])
        own, groups = [named[row] for row in rows], own_photos.join(copies, [taken.keys[row] for row in rows])
        if pair := own_photos.conflict(own, copies):
            one, two = (f"{taken.paths[rows[place]]} ({own[place]})" for place in pair)
            raise DatasetError(f"{one} and {two} show the same photo", "Keep it in the right folder only")
        more = sorted(set(own) - set(folder.labels))
        for label in more:
            if len({group for group, other in zip(groups.tolist(), own, strict=True) if other == label}) < 2:
                problem = f"there is one photo of the new class {label!r}, or several of one patient"
                raise DatasetError(problem, "Give two at least, better ten")
        labels = [*folder.labels, *more]
        known = [path for path, fresh in zip(taken.paths, new, strict=True) if not fresh]
        targets = np.array([labels.index(label) for label in own])
        return cls(labels, targets, copies, groups, taken.pixels[new], taken.hashes[new][:, 0], known)


def _labels(
    taken: OwnPhotos, folder: ModelFolder, root: Path, label_map: Path | None, *, add_classes: bool
) -> list[str]:
    """The class of every photo, one of the model's, `other`, or a new one."""
    wanted = read_label_map(label_map) if label_map else {}
    folders = [root / name for name in dict.fromkeys(taken.folders)]
    found = match(folders, {label: folder.display_names[label] for label in folder.labels}, wanted)
    for path, name in found.lacking.items():
        if not add_classes:
            raise DatasetError(
                f"{folder.model_id} has no class {name!r}",
                "Add --add-classes to make it one, or --label-map with the columns folder,label; its classes: "
                f"{', '.join(folder.labels)}",
            )
        check_class(name, path)
    if alike := look_alikes(found.lacking.values()):
        raise DatasetError(f"{label_map}: the new classes {' and '.join(map(repr, alike[0]))} look alike", "Name one")
    classes = found.classes | {path: same(name) for path, name in found.lacking.items()}
    taken.beside.joined += found.joined
    return [classes[root / name] for name in taken.folders]


def _check_better(measured: dict[str, Any]) -> None:
    difference = measured["difference"]["value"]
    problem = ""
    if difference is not None and difference <= 0:
        problem = f"the adapted model is no better on your photos ({100 * difference:+.1f} points)"
    if measured["worse"]:
        problem = f"the adapted model is worse for {', '.join(measured['worse'])} by more than chance"
    if problem:
        error = NotBetter(
            f"{problem}; nothing was written", "Give more photos, or add --force to write it all the same"
        )
        error.result = measured
        raise error


def _write(
    target: Path, folder: ModelFolder, labels: list[str], files: dict[str, bytes], measured: dict[str, Any]
) -> dict[str, Any]:
    """Write the new folder; what was measured, and where it is."""
    names = tell_apart(display_names(labels) | folder.display_names)
    new = files | {model_folder.CARD: card(folder.card, measured, measured["calibration"], names).encode()}
    kept = {name: data for name, data in folder.files.items() if name != model_folder.FACTS}
    facts = {
        **{name: value for name, value in folder.facts.items() if name not in _OF_THE_OLD_HEAD},
        "spectraderm": metadata.version("spectraderm"),
        "model_id": f"spectraderm-adapted-{sha256(files[model_folder.ONNX])[:8]}",
        "labels": labels,
        "display_names": names,
        "parity": measured["parity"],
        "calibration": {"home": measured["calibration"]},  # elsewhere was measured with the old head
        "adapted_from": {
            name: len(value) if name in _LISTS else value for name, value in measured.items() if name not in _APART
        },
    }
    model_folder.write_model_folder(target, kept | new, facts)
    return {**measured, "display_names": names, "adapted_model_id": facts["model_id"]}


def _training() -> ModuleType:
    with needs("adapt", "what writes another head"):
        return import_module("spectraderm.training.adapt")
