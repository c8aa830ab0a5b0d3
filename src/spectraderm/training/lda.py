"""A linear head in closed form: linear discriminant analysis (Fisher 1936; shrinkage: Friedman 1989).

Fitted on augmented photos, its within-class covariance holds what cameras do to features, and the head leaves these
directions aside (within-class covariance normalisation, Hatch & Stolcke 2006). All that the fit takes of its photos are
sufficient statistics, to which more photos can be added when those are long gone.
"""

import io
import zipfile
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spectraderm.core.files import arrays_bytes

Floats = npt.NDArray[np.float32]
Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FLOOR = 1e-6  # of a feature's deviation: some channels are dead
_SPARE, _ITERATIONS = 64, 4
MAX_BYTES, MOST_DIRECTIONS = 4_000_000, 512
"""Of `head_statistics.npz`, and of its directions: with 512 the head is nearly the same, with 128 it is not."""
_HEADERS = 4000  # bytes of the file beside its numbers, at most
_SMALL = ("mean", "deviation", "centres", "counts", "shares", "invariance")
_SIGNED = ("mean", "centres", "directions")
_DEAD = 1e-5
"""A feature with less deviation than this, or than this share of its mean, was the same in all photos."""


@dataclass(frozen=True)
class Statistics:
    """All that the head depends on of the photos that it is fitted on; features are standardised.

    Attributes:
        mean, deviation: `float64[width]`, by which features are standardised.
        centres: `float64[classes, width]`, the mean of each class.
        counts: `float64[classes]`, rows of each class; a row may count more or less than one.
        shares: `float64[classes]`, how much a row of each class weighs in the within-class covariance.
        directions: `float[r, width]`; that covariance, times the weight of all rows, is the sum of their outer
            products, but for what `residual` holds.
        residual: variance that the directions leave out, summed over all features.
        invariance: how many times the differences between rows of one photo count.
    """

    mean: Reals
    deviation: Reals
    centres: Reals
    counts: Reals
    shares: Reals
    directions: npt.NDArray[np.floating]
    residual: float
    invariance: float

    def solve(self, shrinkage: float, normalisation: float = 0.0) -> tuple[Reals, Reals]:
        """Weights `float64[classes, width]` and bias `float64[classes]` of a linear layer.

        All classes are taken to be equally frequent. Logits are divided by the square root of the width: features
        depend on each other, so that as probabilities they would be far too sure; calibration then sets how sure they
        are. With fewer directions than features the inverse is Woodbury's (1950).

        Args:
            shrinkage: 0..1, how much of the covariance is replaced by its mean variance, the same for all features.
            normalisation: 0..1, the power of its length, measured by that covariance, that each class's weights are
                divided by (Kang et al. 2020). With 0 it is the discriminant; with 1 only the angle to a class counts,
                so that a class far from all others does not win where a photo is like none.
        """
        width, rows, centres = len(self.mean), self.directions, self.centres
        weight = float(self.counts @ self.shares)
        if len(rows) >= width:
            covariance = (rows.T @ rows).astype(np.float64) / weight
            trace = float(np.trace(covariance)) + self.residual / weight
            covariance *= 1 - shrinkage
            covariance[np.diag_indices(width)] += self._ridge(trace, weight, shrinkage)
            solved = np.linalg.solve(covariance, centres.T).T
        else:
            rows = rows.astype(np.float64)
            inner = rows @ rows.T  # float64[r, r]
            trace = (float(np.trace(inner)) + self.residual) / weight
            ridge = self._ridge(trace, weight, shrinkage)
            inner[np.diag_indices(len(rows))] += ridge * weight / (1 - shrinkage)
            solved = (centres - np.linalg.solve(inner, rows @ centres.T).T @ rows) / ridge
        squares = (centres * solved).sum(1)  # float64[classes]: lengths, squared
        scale = (np.sqrt(squares) / np.sqrt(squares).mean()) ** normalisation * np.sqrt(width)
        weights = solved / scale[:, None]
        bias = -0.5 * (1 - normalisation) * squares / scale
        weights = weights / self.deviation
        return weights, bias - weights @ self.mean

    def add(self, features: Floats, targets: Integers, photos: Integers, weights: Reals | None = None) -> "Statistics":
        """The statistics of the old photos and these; in one call or in several, it comes to the same.

        The standardisation stays. Features that were the same in all old photos stay without weight.

        Args:
            features: `float32[n, width]`.
            targets: class numbers `int64[n]`; those that are new follow the old ones.
            photos: `int64[n]`, the same number for rows of one photo; all rows of a photo come in one call.
            weights: `float64[n]`, how many old rows each counts for, equal within a photo; by default one.
        """
        classes = max(len(self.centres), int(targets.max(initial=-1)) + 1)
        more = classes - len(self.centres)
        centres, counts = np.pad(self.centres, ((0, more), (0, 0))), np.pad(self.counts, (0, more))
        shares = np.pad(self.shares, (0, more), constant_values=self.shares.mean())
        weights = np.ones(len(features)) if weights is None else weights
        scaled = ((features - self.mean) / self.deviation * self._alive).astype(np.float32)
        new = np.bincount(targets, weights, classes)
        there = new > 0
        # means of the new rows float64[classes, width], and how far they lie from the old ones
        means = np.zeros_like(centres)
        np.add.at(means, targets, scaled * weights[:, None])
        means[there] /= new[there, None]
        apart = means - centres
        old = counts * new / np.maximum(counts + new, 1e-9)  # Chan, Golub & LeVeque 1983
        moved = np.sqrt(shares * old)[there, None] * apart[there]
        rows = self._within(scaled, means, targets, photos) * np.sqrt(shares[targets] * weights)[:, None]
        centres[there] += (new / np.maximum(counts + new, 1e-9))[there, None] * apart[there]
        directions = np.concatenate([self.directions, rows.astype(np.float32), moved.astype(np.float32)])
        return replace(self, centres=centres, counts=counts + new, shares=shares, directions=directions)

    def compressed(self, directions: int) -> "Statistics":
        """The same with at most so many directions, those of the largest variance; the rest goes into `residual`."""
        rows = self.directions.astype(np.float32)
        if len(rows) <= directions:
            return self
        random = np.random.default_rng(0)  # subspace iteration (Halko, Martinsson & Tropp 2011)
        basis = random.normal(size=(rows.shape[1], min(directions + _SPARE, *rows.shape))).astype(np.float32)
        for _ in range(_ITERATIONS):
            basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
        spread = (rows @ basis).astype(np.float64)
        variances, turn = (values[..., ::-1] for values in np.linalg.eigh(spread.T @ spread))
        variances = np.maximum(variances[:directions], 0)
        chosen = np.sqrt(variances)[:, None] * (turn.T[:directions] @ basis.T)
        lost = float(np.square(rows, dtype=np.float64).sum() - variances.sum())
        return replace(self, directions=chosen.astype(np.float32), residual=self.residual + max(lost, 0.0))

    def to_bytes(self) -> bytes:
        """The statistics as `head_statistics.npz`, with as many directions as fit into `MAX_BYTES`, up to 512."""
        width = len(self.mean)
        small = {name: getattr(self, name) for name in _SMALL}
        free = MAX_BYTES - _HEADERS - sum(np.asarray(values).nbytes for values in small.values())
        short = self.compressed(min(MOST_DIRECTIONS, max(free // (2 * width), 1)))
        small |= {"residual": np.float64(short.residual), "directions": short.directions.astype(np.float16)}
        return arrays_bytes(**{name: np.asarray(values) for name, values in small.items()})

    @classmethod
    def from_bytes(cls, data: bytes, classes: int) -> "Statistics":
        """What `to_bytes` gave, of so many classes. Raises `ValueError` where it is not that."""
        arrays = _arrays(data)
        mean, directions = arrays["mean"], arrays["directions"].astype(np.float32)
        shapes = {"mean": mean.shape, "deviation": mean.shape, "centres": (classes, *mean.shape)}
        shapes |= {"counts": (classes,), "shares": (classes,), "directions": (len(directions), *mean.shape)}
        shapes |= dict.fromkeys(("residual", "invariance"), ())
        for name, shape in shapes.items():
            if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} {arrays[name].dtype}{list(arrays[name].shape)}")
        if mean.ndim != 1 or min(arrays[name].min(initial=0) for name in shapes if name not in _SIGNED) < 0:
            raise ValueError("a number out of range")
        if not (arrays["deviation"] > 0).all() or not (arrays["shares"] > 0).all() or not arrays["counts"].sum() > 0:
            raise ValueError("a deviation or weight of nothing")
        mean, deviation, centres, counts, shares = (arrays[name].astype(np.float64) for name in _SMALL[:5])
        residual, invariance = (float(arrays[name]) for name in ("residual", "invariance"))
        return cls(mean, deviation, centres, counts, shares, directions, residual, invariance)

    @property
    def _alive(self) -> npt.NDArray[np.bool_]:
        alive: npt.NDArray[np.bool_] = self.deviation - _FLOOR > _DEAD * np.maximum(np.abs(self.mean), 1)
        return alive

    def _ridge(self, trace: float, weight: float, shrinkage: float) -> float:
        """What the diagonal of the covariance gets."""
        width = len(self.mean)
        return shrinkage * trace / width + (1 - shrinkage) * self.residual / weight / width + _FLOOR

    def _within(self, scaled: Floats, means: Reals, targets: Integers, photos: Integers) -> Floats:
        """A row from its photo's mean, stretched, and the photo's mean from its class's, `float32[n, width]`."""
        photo_means = _means(scaled, photos)
        within: Floats = np.sqrt(np.float32(self.invariance)) * (scaled - photo_means) + photo_means
        within -= means[targets].astype(np.float32)
        return within


def collect(features: Floats, targets: Integers, photos: Integers, classes: int, invariance: float = 1.0) -> Statistics:
    """The statistics of photos, each class weighing in the covariance by the square root of its size.

    Takes what `Statistics.add` takes; of all `classes` there are rows. Differences between rows of one photo count
    `invariance` times in the covariance: with more, the head gives less weight to what changes with the camera.
    """
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + _FLOOR
    scaled = ((features - mean) / deviation).astype(np.float32)
    counts = np.bincount(targets, minlength=classes)
    centres = np.stack([scaled[targets == number].mean(0, dtype=np.float64) for number in range(classes)])
    shares = np.sqrt(counts) / np.sqrt(counts).sum() / counts
    nothing = np.empty((0, features.shape[1]), np.float32)
    whole = Statistics(mean, deviation, centres, counts.astype(np.float64), shares, nothing, 0.0, invariance)
    rows = whole._within(scaled, centres, targets, photos)
    rows *= np.sqrt(shares)[targets, None].astype(np.float32)
    return replace(whole, directions=rows)


def _arrays(data: bytes) -> dict[str, npt.NDArray[np.floating]]:
    """The arrays of an `.npz` file. Raises `ValueError` where it is none, or of something else than some floats."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            if sum(member.file_size for member in members.infolist()) > 2 * MAX_BYTES:
                raise ValueError("it is too large")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: np.asarray(stored[name]) for name in (*_SMALL, "residual", "directions")}
    except Exception as error:  # NumPy and zipfile raise nearly anything on damaged bytes
        raise ValueError(f"no statistics: {error}") from error
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise ValueError("no floats")
    return arrays


def _means(features: Floats, photos: Integers) -> Floats:
    """For each row `float32[n, width]` the mean of all rows of its photo."""
    _, number, count = np.unique(photos, return_inverse=True, return_counts=True)
    sums: Floats = np.zeros((len(count), features.shape[1]), np.float32)
    np.add.at(sums, number, features)
    sums /= count[:, None].astype(np.float32)
    return sums[number]
