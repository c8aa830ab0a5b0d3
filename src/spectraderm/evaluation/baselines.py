"""What a program scores that never looks at a disease: the floor under every score, on the very same photos.

`majority_class` guesses the most frequent training class; `hash_look_up` the class of the training photo with the
nearest perceptual hash, in any turn; `metadata` goes by file size, format, dimensions and JPEG quality; `pixels_8x8` by
the photo shrunk to 8x8.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.core.resampling import interval
from spectraderm.data import shortcuts
from spectraderm.evaluation.bootstrap import Integers, Scored, resample, weights
from spectraderm.evaluation.metrics import guess_statistic
from spectraderm.evaluation.outputs import Outputs
from spectraderm.images.perceptual_hash import nearest_of

NAMES = ("majority_class", "hash_look_up", "metadata", "pixels_8x8")
_AUDIT_AGAIN = "Run `spectraderm audit` again, into a new run folder"


def read_measurements(run: Path, photos: int) -> dict[str, npt.NDArray[Any]]:
    """The audit's measurements of so many photos. Raises `RunFolderError` where they lack or are of others."""
    path = run / artifacts.MEASUREMENTS
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("hashes", "metadata", "pixels_8x8")}
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise RunFolderError(f"{path} can't be read ({error})", _AUDIT_AGAIN) from error
    if any(len(array) != photos for array in arrays.values()):
        raise RunFolderError(f"{path} is not of the {photos} photos of this run", _AUDIT_AGAIN)
    return arrays


def baselines(
    folds: Sequence[Outputs], measured: Mapping[str, npt.NDArray[Any]], classes: int, seed: int
) -> dict[str, Any]:
    """Each baseline's `accuracy`, `group_accuracy` and `balanced_accuracy`, learned and scored as the folds were."""
    tests = [np.flatnonzero(fold.splits == "test") for fold in folds]
    labels = np.concatenate([fold.labels[test] for fold, test in zip(folds, tests, strict=True)])
    groups = np.concatenate([fold.groups[test] for fold, test in zip(folds, tests, strict=True)])
    result = {}
    for name in NAMES:
        guesses = [_guess(name, fold, test, measured, seed) for fold, test in zip(folds, tests, strict=True)]
        result[name] = _scores(labels, np.concatenate(guesses), groups, classes)
    return result


def _guess(name: str, fold: Outputs, test: Integers, measured: Mapping[str, npt.NDArray[Any]], seed: int) -> Integers:
    train = np.flatnonzero(np.isin(fold.splits, ("train", "val")))  # nothing is tuned, so nothing is held back
    if name == "majority_class":
        return np.full(len(test), np.bincount(fold.labels[train]).argmax())
    if name == "hash_look_up":
        hashes = measured["hashes"]
        found: Integers = fold.labels[train[nearest_of(hashes[test], hashes[train][:, 0])]]
        return found
    guessed: Integers = shortcuts.guess(measured[name], fold.labels, train, test, seed).argmax(1)
    return guessed


def _scores(labels: Integers, guesses: Integers, groups: Integers, classes: int) -> dict[str, Any]:
    scored = Scored(labels, np.eye(classes)[guesses], groups)
    by_file, by_group = (resample(guess_statistic(scored), weights(groups, by_group=once)) for once in (False, True))
    return {
        "accuracy": interval(by_file["accuracy"]),
        "group_accuracy": interval(by_group["accuracy"]),
        "balanced_accuracy": interval(by_file["balanced_accuracy"]),
    }
