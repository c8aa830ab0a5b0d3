"""A model folder's files, its network aside -> what serving needs to know, checked."""

import io
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.artifacts import ModelFolder
from spectraderm.core.errors import ModelFolderError, RecipeError
from spectraderm.images.perceptual_hash import Hashes
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.calibration import Calibration, Features

_AGAIN = "Export it again"
_MAX_NAME = 300


@dataclass(frozen=True)
class Learned:
    """What a model knows beside its weights.

    Attributes:
        labels: the classes, in the order of the logits.
        display: their names for people.
        calibration: the settings of its verdicts.
        references: features `float[m, channels]` of training photos, one of every photo group.
        known: hashes `uint8[n, 8]` of the photos that it learned from.
        preprocessing: how photos become its input.
    """

    labels: list[str]
    display: dict[str, str]
    calibration: Calibration
    references: Features
    known: Hashes
    preprocessing: Preprocessing


def read(folder: ModelFolder) -> Learned:
    """Read it. Raises `ModelFolderError` where something lacks or is damaged, or of one made before calibration."""
    if "calibration" not in folder.facts or not {artifacts.NOVELTY, artifacts.HASHES} <= folder.files.keys():
        raise ModelFolderError(
            f"{folder.name} has no calibration: an earlier version exported it",
            "Train again with this one, or run `spectraderm calibrate`, `evaluate` and `export` on its run folder",
        )
    labels = _labels(folder)
    return Learned(
        labels=labels,
        display=_display(folder, labels),
        calibration=_calibration(folder, len(labels)),
        references=_references(folder),
        known=_known(folder),
        preprocessing=_preprocessing(folder),
    )


def _labels(folder: ModelFolder) -> list[str]:
    try:
        names = folder.json(artifacts.MODEL_CONFIG)["id2label"]
        labels = [str(names[str(number)]) for number in range(len(names))]
    except (KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{folder.name}/{artifacts.MODEL_CONFIG} names no classes ({error!r})", _AGAIN
        ) from error
    if len(set(labels)) < max(len(labels), 1):
        raise ModelFolderError(f"{folder.name}/{artifacts.MODEL_CONFIG} names a class twice, or none", _AGAIN)
    _check_shown(folder, labels)
    return labels


def _display(folder: ModelFolder, labels: list[str]) -> dict[str, str]:
    names = folder.facts.get("display_names")
    shown = {label: str(names.get(label, label)) if isinstance(names, dict) else label for label in labels}
    _check_shown(folder, [*shown.values(), str(folder.facts.get("model_id", ""))])
    return shown


def _check_shown(folder: ModelFolder, names: list[str]) -> None:
    """Raise `ModelFolderError` for a name that would move a terminal's cursor, or that no file can hold."""
    for name in names:
        if len(name) > _MAX_NAME or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            raise ModelFolderError(f"{folder.name}: {name[:80]!r} is not a name of a class or a model", _AGAIN)


def _preprocessing(folder: ModelFolder) -> Preprocessing:
    try:
        return Preprocessing.from_hub(folder.json(artifacts.PREPROCESSOR))
    except RecipeError as error:
        raise ModelFolderError(f"{folder.name}/{error.problem}", _AGAIN) from error


def _calibration(folder: ModelFolder, classes: int) -> Calibration:
    try:
        found = Calibration.from_dict(folder.facts["calibration"])
        if len(found.thresholds) != classes:
            raise ValueError(f"{len(found.thresholds)} thresholds of {classes} classes")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFolderError(
            f"{folder.name}/{artifacts.FACTS}: its calibration is damaged ({error!r})", _AGAIN
        ) from error
    return found


def _references(folder: ModelFolder) -> npt.NDArray[np.float32]:
    array = _array(folder, artifacts.NOVELTY)
    with np.errstate(over="ignore"):
        features = array.astype(np.float32) if array.dtype.kind == "f" else np.empty(0, np.float32)
    if features.ndim != 2 or not features.size or not np.isfinite(features).all():
        raise ModelFolderError(f"{folder.name}/{artifacts.NOVELTY} does not hold features", _AGAIN)
    return features


def _known(folder: ModelFolder) -> Hashes:
    array = _array(folder, artifacts.HASHES)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != 8:
        raise ModelFolderError(f"{folder.name}/{artifacts.HASHES} does not hold hashes", _AGAIN)
    return array.astype(np.uint8)


def _array(folder: ModelFolder, name: str) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(io.BytesIO(folder.files[name]), allow_pickle=False)
    except Exception as error:  # NumPy raises nearly anything on damaged bytes
        raise ModelFolderError(f"{folder.name}/{name} is no NumPy array ({error})", _AGAIN) from error
    return array
