"""The closed-form head against scikit-learn's, and on planted features."""

import dataclasses
from typing import Any

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


def fit(
    features: Floats, targets: Integers, photos: Integers, classes: int, shrinkage: float, invariance: float = 1.0
) -> tuple[Reals, Reals]:
    return discriminant.collect(features, targets, photos, classes, invariance).solve(shrinkage)


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
    head = fit(features, targets, each(targets), 3, shrinkage)
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
    weights, _ = fit(*seen, photos, 2, 0.01, invariance)
    skin, camera = (weights[1] - weights[0]) @ np.array([[1, 0], [1, 1]]).T
    return float(camera / skin)


def test_what_copies_of_a_photo_differ_in_counts_little_although_the_classes_differ_in_it() -> None:
    one, twelve = seen_by_cameras(1, 0), seen_by_cameras(12, 3)
    assert sway(one, each(one[1])) > 0.5
    assert abs(sway(twelve, each(twelve[1]))) < 0.05


def test_dead_features_count_nothing_and_break_nothing() -> None:
    features, targets = blobs(80, 40, 60)
    dead = np.tile(np.array([0, 0.3, 1e-4, 7000], np.float32), (180, 1))
    head = fit(np.concatenate([features, dead], 1), targets, each(targets), 3, 0.2)
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
    alone = fit(features, targets, each(targets), 2, 0.2, 7.0)
    together = fit(features, targets, np.arange(120) // 4, 2, 0.2, 1.0)
    assert np.abs(alone[0] - together[0]).max() < 1e-5 * np.abs(alone[0]).max()


def alike(one: discriminant.Statistics, other: discriminant.Statistics, within: float) -> None:
    """Two statistics give the same head."""
    for ours, theirs in zip(one.solve(0.2), other.solve(0.2), strict=True):
        assert np.abs(ours - theirs).max() < within * np.abs(theirs).max()


@pytest.mark.parametrize("width", [12, 300])
def test_few_directions_and_many_give_the_same_head(width: int) -> None:
    features, targets = blobs(60, 20, 40, width=width)
    statistics = discriminant.collect(features, targets, np.arange(120) // 2, 3, 3.0)
    few = statistics.compressed(12 if width == 12 else 120)
    rows = np.zeros((width, width), np.float32)
    padded = dataclasses.replace(few, directions=np.concatenate([few.directions, rows]))
    alike(few, padded, 1e-5)
    alike(few, statistics, 1e-3)


def test_directions_that_are_left_out_count_as_noise_of_equal_strength() -> None:
    features, targets = blobs(300, 100, 200, width=40)
    statistics = discriminant.collect(features, targets, each(targets), 3)
    short = statistics.compressed(30)
    assert len(short.directions) == 30
    variance = [(np.square(one.directions.astype(np.float64)).sum() + one.residual) for one in (statistics, short)]
    assert variance[0] == pytest.approx(variance[1], rel=1e-4)
    said, cut = (logits(features, one.solve(0.2)).argmax(1) for one in (statistics, short))
    assert (said == cut).mean() > 0.97


def test_photos_added_at_once_or_one_after_the_other_come_to_the_same() -> None:
    features, targets = blobs(60, 20, 40)
    base = discriminant.collect(features, targets, np.arange(120) // 2, 3, 3.0)
    more, kinds = blobs(12, 12, 12, 12, seed=5)
    photos, weights = np.arange(48) // 3, np.repeat(np.linspace(0.5, 3, 16), 3)
    at_once = base.add(more, kinds, photos, weights)
    first = photos < 5
    later = base.add(more[first], kinds[first], photos[first], weights[first])
    later = later.add(more[~first], kinds[~first], photos[~first], weights[~first])
    alike(at_once, later, 1e-4)
    assert len(at_once.centres) == 4
    alike(base.add(more[:0], kinds[:0], photos[:0]), base, 1e-9)


def test_the_centres_and_scatter_after_adding_are_those_of_all_photos() -> None:
    features, targets = blobs(60, 60)
    base = discriminant.collect(features, targets, each(targets), 2)
    more, kinds = blobs(30, 30, seed=3)
    added = base.add(more, kinds, each(kinds))
    scaled = (np.concatenate([features, more]) - base.mean) / base.deviation
    every = np.concatenate([targets, kinds])
    within = np.zeros((12, 12))
    for number in (0, 1):
        own = scaled[every == number]
        np.testing.assert_allclose(added.centres[number], own.mean(0), atol=1e-4)
        within += (own - own.mean(0)).T @ (own - own.mean(0)) * base.shares[number]
    np.testing.assert_allclose(added.directions.T @ added.directions, within, atol=2e-3 * np.abs(within).max())


def test_what_all_old_photos_had_alike_stays_without_weight() -> None:
    features, targets = blobs(80, 40)
    dead = np.full((120, 1), 0.3, np.float32)
    base = discriminant.collect(np.concatenate([features, dead], 1), targets, each(targets), 2)
    more, kinds = blobs(10, 10, seed=1)
    lit = base.add(np.concatenate([more, 0.3 + kinds[:, None]], 1).astype(np.float32), kinds, each(kinds))
    assert np.isfinite(lit.solve(0.2)[0]).all()
    assert np.abs(lit.solve(0.2)[0][:, 12:]).max() < 1e-9


def test_statistics_are_read_as_they_were_written() -> None:
    features, targets = blobs(60, 20, 40)
    statistics = discriminant.collect(features, targets, each(targets), 3, 3.0)
    data = statistics.to_bytes()
    assert data == statistics.to_bytes()
    alike(discriminant.Statistics.from_bytes(data, 3), statistics, 1e-2)
    wide = dataclasses.replace(statistics, directions=np.ones((600, 12)))
    assert len(wide.to_bytes()) <= discriminant.MAX_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": np.zeros(11)},
        {"deviation": np.zeros(12)},
        {"centres": np.full((3, 12), np.nan)},
        {"counts": np.array([1, 2, -3.0])},
        {"shares": np.zeros(3, np.int64)},
        {"invariance": -1.0},
        {"directions": np.ones((5, 11))},
    ],
)
def test_damaged_statistics_are_refused(changes: dict[str, Any]) -> None:
    features, targets = blobs(60, 20, 40)
    damaged = dataclasses.replace(discriminant.collect(features, targets, each(targets), 3), **changes)
    with pytest.raises(ValueError, match=r"\[|number|weight|no floats"):
        discriminant.Statistics.from_bytes(damaged.to_bytes(), 3)
    with pytest.raises(ValueError, match="no statistics"):
        discriminant.Statistics.from_bytes(b"PK nothing", 3)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_classs_weights_are_divided_by_a_power_of_their_length(power: float) -> None:
    features, targets = blobs(60, 20, 40)
    statistics = discriminant.collect(features, targets, each(targets), 3)
    scaled = (features - statistics.mean) / statistics.deviation
    covariance = (
        sum(np.sqrt(len(own)) * np.cov(own.T, bias=True) for own in (scaled[targets == number] for number in range(3)))
        / np.sqrt([60, 20, 40]).sum()
    )
    shrunk = 0.9 * covariance + 0.1 * np.trace(covariance) / 12 * np.eye(12)
    white = np.linalg.inv(np.linalg.cholesky(shrunk))  # here the covariance is that of a sphere
    photos, centres = scaled @ white.T, statistics.centres @ white.T
    lengths = np.linalg.norm(centres, axis=1)
    plain, angles = photos @ centres.T - 0.5 * lengths**2, photos @ (centres / lengths[:, None]).T * lengths.mean()
    got = logits(features, statistics.solve(0.1, power)) * np.sqrt(12)
    if power in (0.0, 1.0):
        assert np.abs(got - (angles if power else plain)).max() < 1e-4 * np.abs(plain).max()
    else:
        halfway = (photos @ centres.T - 0.25 * lengths**2) / np.sqrt(lengths / lengths.mean())
        assert np.abs(got - halfway).max() < 1e-4 * np.abs(plain).max()
