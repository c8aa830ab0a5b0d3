"""A linear head in closed form: linear discriminant analysis (Fisher 1936; shrinkage: Friedman 1989).

Fitted on changed copies of every photo, its within-class covariance holds what cameras do to features, and the head
leaves these directions aside (within-class covariance normalisation, Hatch & Stolcke 2006).
"""

import numpy as np
import numpy.typing as npt

from spectraderm.training.dataset import Floats

_FLOOR = 1e-6  # of a feature's deviation: some channels are dead


def fit(
    features: Floats,
    targets: npt.NDArray[np.int64],
    photos: npt.NDArray[np.int64],
    classes: int,
    shrinkage: float,
    invariance: float = 1.0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights `float64[classes, width]` and bias `float64[classes]` of a linear layer.

    Features are standardised, a class weighs in the covariance by the square root of its size, and no class is
    expected more often than another. Logits are divided by the square root of the width: as probabilities they would
    be far too sure, so many features depend on each other, and how sure they may be is for calibration to say.

    Args:
        features: `float32[n, width]`.
        targets: class numbers `int64[n]`; every class is there.
        photos: which rows are copies of one photo, `int64[n]`: those with the same number.
        classes: how many there are.
        shrinkage: 0..1, how much of the covariance is replaced by its mean variance, the same for all features.
        invariance: how many times the differences between copies of one photo count in it; with more, the head gives
            less weight to what changes with the camera.
    """
    from scipy.linalg import solve  # noqa: PLC0415  (half a second, and no other head needs it)

    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + _FLOOR
    scaled = ((features - mean) / deviation).astype(np.float32)
    counts = np.bincount(targets, minlength=classes)
    centres = np.stack([scaled[targets == number].mean(0, dtype=np.float64) for number in range(classes)])
    share = np.sqrt(counts) / np.sqrt(counts).sum()
    own = _means(scaled, photos)
    within = np.sqrt(np.float32(invariance)) * (scaled - own) + own - centres[targets].astype(np.float32)
    within *= np.sqrt(share / counts)[targets, None].astype(np.float32)
    covariance = (within.T @ within).astype(np.float64)
    width = len(covariance)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(width)] += shrinkage / (1 - shrinkage) * np.trace(covariance) / width + _FLOOR
    weights = solve(covariance, centres.T, assume_a="pos").T / np.sqrt(width)
    bias = -0.5 * (centres * weights).sum(1)
    weights = weights / deviation
    return weights, bias - weights @ mean


def _means(features: Floats, photos: npt.NDArray[np.int64]) -> Floats:
    """For each row `float32[n, width]` the mean of all rows of its photo."""
    _, number, count = np.unique(photos, return_inverse=True, return_counts=True)
    sums: Floats = np.zeros((len(count), features.shape[1]), np.float32)
    np.add.at(sums, number, features)
    sums /= count[:, None].astype(np.float32)
    return sums[number]
