"""How well the things that are not the disease tell the class: the file, the colour cast, the background.

A model that finds a class by these scores well here and fails elsewhere (Geirhos et al. 2020, "Shortcut learning in
deep neural networks"). Knows nothing of folders, photos or models.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold

from spectraderm.core.progress import Track, no_track
from spectraderm.core.resampling import draws, share

NAMES = ("file_size", "format", "dimensions", "jpeg_quality", "metadata", "mean_colour", "border", "pixels_8x8")
"""What a class is guessed from; see `measurements.arrays`."""
MAX_GROUPS = 5_000
"""Of more photo groups, so many are drawn."""
GIVEN_AWAY = 0.9
"""The recall and the precision from which a class is given away."""

Features = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]

_TREES, _FOLDS = 100, 5
_UNIT = 2.0**32  # weights in whole units of 2^-32 add up exactly, in any order


@dataclass(frozen=True)
class Shortcut:
    """How well one thing tells the class, out of fold, each photo group counting once.

    Attributes:
        name: one of `NAMES`.
        balanced_accuracy: mean recall over the classes; `low` and `high` bound its 95 % interval.
        chance: what guessing gives: one over the number of classes.
        gives_away: labels that this alone finds with a recall and a precision of `GIVEN_AWAY` or more.
    """

    name: str
    balanced_accuracy: float
    low: float
    high: float
    chance: float
    gives_away: tuple[int, ...]


def measure(
    features: Mapping[str, Features], labels: Integers, groups: Integers, seed: int = 0, track: Track = no_track
) -> list[Shortcut]:
    """Guess the class from each of the features, cross-validated over photo groups.

    Classes of a single photo group can't be measured and are left out; with fewer than two others there is nothing to
    tell apart, and the list is empty. `features` are by name `float32[n, d]`, a row per file; `labels` `int64[n]`; and
    `groups` `int64[n]`, which files show the same photo. The seed draws the folds, the trees and the resamples.
    """
    rows = _measurable(labels, groups, seed)
    classes, known = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        return []
    of_group = np.unique(groups[rows], return_inverse=True)[1]
    weights: Reals = 1 / np.bincount(of_group)[of_group]
    count = min(_FOLDS, int(of_group.max()) + 1, int(np.bincount(known).max()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # some folds then test without that class
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        parts = list(splitter.split(known, known, of_group))
    shortcuts = []
    for name, values in track(features.items(), "Looking for shortcuts", len(features)):
        guesses = np.empty_like(known)
        for train, test in parts:
            guesses[test] = guess(values[rows], known, train, test, seed, weights).argmax(1)
        shortcuts.append(_shortcut(name, classes, known, guesses, of_group, weights, seed))
    return shortcuts


def guess(
    features: Features, labels: Integers, train: Integers, test: Integers, seed: int = 0, weights: Reals | None = None
) -> Reals:
    """Probabilities `float64[m, classes]` of the rows `test`, learnt from the rows `train`, every class counting alike.

    Extremely randomised trees (Geurts et al. 2006): quick, and no feature needs scaling. `classes` is the largest label
    plus one; those without a training photo get 0.
    """
    weight = np.ones(len(train)) if weights is None else weights[train]
    weight = weight / np.bincount(labels[train], weight)[labels[train]]
    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=3, random_state=seed, n_jobs=1)
    forest.fit(features[train], labels[train], weight)
    probabilities = np.zeros((len(test), int(labels.max()) + 1))
    if len(test):
        probabilities[:, forest.classes_] = forest.predict_proba(features[test])
    return probabilities


def _measurable(labels: Integers, groups: Integers, seed: int) -> Integers:
    """The rows to measure on: of at most `MAX_GROUPS` photo groups, in classes of two groups or more."""
    unique = np.unique(groups)
    if len(unique) > MAX_GROUPS:
        unique = np.random.default_rng(seed).choice(unique, MAX_GROUPS, replace=False)
    rows = np.flatnonzero(np.isin(groups, unique))
    pairs = np.unique(np.stack([labels[rows], groups[rows]]), axis=1)
    classes, count = np.unique(pairs[0], return_counts=True)
    return rows[np.isin(labels[rows], classes[count > 1])]


def _shortcut(
    name: str, classes: Integers, labels: Integers, guesses: Integers, groups: Integers, weights: Reals, seed: int
) -> Shortcut:
    matrix = np.zeros((len(classes), len(classes)))
    np.add.at(matrix, (labels, guesses), weights)
    hits, there, named = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    away = (hits >= GIVEN_AWAY * there) & (hits >= GIVEN_AWAY * named)
    # the weight of each class in each photo group, and that which was guessed right: [groups, classes]
    count, whole = int(groups.max()) + 1, np.rint(_UNIT * weights)
    of_class, right = np.zeros((2, count, len(classes)))
    np.add.at(of_class, (groups, labels), whole)
    np.add.at(right, (groups, labels), whole * (labels == guesses))
    values = [np.array([(hits / there).mean()])]
    with np.errstate(invalid="ignore"):  # a resample without a class has no recall of it
        values += [np.nanmean((times @ right) / (times @ of_class), axis=1) for times in draws(count, seed)]
    found = share(np.concatenate(values), count)
    value, low, high = (found[key] or 0.0 for key in ("value", "low", "high"))
    return Shortcut(name, value, low, high, 1 / len(classes), tuple(classes[away].tolist()))
