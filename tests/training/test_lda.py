"""The closed-form head against scikit-learn's, and on planted features."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from spectraderm.training import lda as discriminant
from spectraderm.training.dataset import Floats

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def blobs(*sizes: int, width: int = 12, seed: int = 0) -> tuple[Floats, Integers]:
    """Correlated features of very different scales, so many of each class."""
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(sizes)), sizes)
    centres, mixed = random.normal(0, 1.5, (len(sizes), width)), random.normal(size=(width, width)) / width**0.5
    features = (centres[targets] + random.normal(size=(len(targets), width)) @ mixed) * np.logspace(-2, 2, width)
    return (features + random.normal(0, 5, width)).astype(np.float32), targets


def each(targets: Integers) -> Integers:
    """Every row is a photo of its own."""
    return np.arange(len(targets))


def logits(features: npt.NDArray[np.floating], head: tuple[Reals, Reals]) -> Reals:
    weights, bias = head
    said: Reals = features.astype(np.float64) @ weights.T + bias
    return said


@pytest.mark.parametrize("shrinkage", [0.01, 0.2, 0.9])
def test_it_is_scikit_learns_on_standardised_features(shrinkage: float) -> None:
    features, targets = blobs(200, 20, 60)
    head = discriminant.fit(features, targets, each(targets), 3, shrinkage)
    assert (head[0].shape, head[1].shape) == ((3, 12), (3,))
    priors = np.sqrt([200, 20, 60])  # scikit-learn weighs the classes' covariances by their priors
    priors /= priors.sum()
    scaler = StandardScaler().fit(features.astype(np.float64))
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)
    theirs.fit(scaler.transform(features.astype(np.float64)), targets)
    fresh, _ = blobs(50, 50, 50, seed=1)
    expected = theirs.decision_function(scaler.transform(fresh.astype(np.float64))) - np.log(priors)
    expected /= np.sqrt(12)  # so that they are not too sure
    got = logits(fresh, head)
    assert np.abs(got - expected).max() < 1e-3 * np.abs(expected).max()
    assert got.argmax(1).tolist() == expected.argmax(1).tolist()


def seen_by_cameras(copies: int, spread: float) -> tuple[Floats, Integers]:
    """Two features of 60 photos of either class: skin and camera together, and the camera alone.

    Each class has its own camera, and the copies of a photo differ in it by `spread`.
    """
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], 60 * copies)
    skin = 2 * targets - 1 + np.repeat(random.normal(0, 0.3, 120), copies)
    camera = 2 * targets - 1 + random.normal(0, 0.3, 120 * copies) + random.normal(0, spread, 120 * copies)
    noise = random.normal(0, 0.1, (120 * copies, 2))
    return (np.stack([skin + camera, camera], 1) + noise).astype(np.float32), targets


def sway(seen: tuple[Floats, Integers], photos: Integers, invariance: float = 1.0) -> float:
    """How much a head hangs on the camera, as a share of the skin."""
    weights, _ = discriminant.fit(*seen, photos, 2, 0.01, invariance)
    skin, camera = (weights[1] - weights[0]) @ np.array([[1, 0], [1, 1]]).T
    return float(camera / skin)


def test_what_copies_of_a_photo_differ_in_counts_little_although_the_classes_differ_in_it() -> None:
    one, twelve = seen_by_cameras(1, 0), seen_by_cameras(12, 3)
    assert sway(one, each(one[1])) > 0.5
    assert abs(sway(twelve, each(twelve[1]))) < 0.05


def test_dead_features_count_nothing_and_break_nothing() -> None:
    features, targets = blobs(80, 40, 60)
    dead = np.tile(np.array([0, 0.3, 1e-4, 7000], np.float32), (180, 1))
    head = discriminant.fit(np.concatenate([features, dead], 1), targets, each(targets), 3, 0.2)
    assert all(np.isfinite(part).all() for part in head)
    assert np.abs(head[0][:, 12:]).max() < 1e-2
    assert (logits(np.concatenate([features, dead], 1), head).argmax(1) == targets).mean() > 0.9
    jittered = dead * (1 + np.float32(1e-7))  # as another order of sums would have it
    moved = logits(np.concatenate([features, jittered], 1), head) - logits(np.concatenate([features, dead], 1), head)
    assert np.abs(moved).max() < 1e-3


def test_the_more_copies_count_the_less_the_head_hangs_on_what_differs_between_them() -> None:
    seen = seen_by_cameras(4, 0.3)
    sways = [sway(seen, np.arange(len(seen[1])) // 4, times) for times in (0.1, 1, 10)]
    assert sways[0] > 2 * sways[1] > 4 * abs(sways[2])


def test_copies_that_count_once_are_photos_of_their_own() -> None:
    features, targets = blobs(60, 60)
    alone = discriminant.fit(features, targets, each(targets), 2, 0.2, 7.0)
    together = discriminant.fit(features, targets, np.arange(120) // 4, 2, 0.2, 1.0)
    assert np.abs(alone[0] - together[0]).max() < 1e-5 * np.abs(alone[0]).max()
