"""A linear head in closed form: linear discriminant analysis (Fisher 1936; shrinkage: Friedman 1989).

Fitted on augmented photos, its within-class covariance holds what cameras do to features, and the head leaves these
directions aside (within-class covariance normalisation, Hatch & Stolcke 2006).
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

    Features are standardised, a class weighs in the covariance by the square root of its size, and all classes are
    taken to be equally frequent. Logits are divided by the square root of the width: features depend on each other, so
    that as probabilities they would be far too sure; calibration then sets how sure they are.

    Args:
        features: `float32[n, width]`.
        targets: class numbers `int64[n]`; every class is there.
        photos: `int64[n]`, the same number for rows of one photo.
        classes: how many there are.
        shrinkage: 0..1, how much of the covariance is replaced by its mean variance, the same for all features.
        invariance: how many times the differences between rows of one photo count in it; with more, the head gives
            less weight to what changes with the camera.
    """
    from scipy.linalg import solve  # noqa: PLC0415  (half a second, and no other head needs it)

    # standardised features float32[n, width]
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64) + _FLOOR
    scaled = ((features - mean) / deviation).astype(np.float32)
    # class means float64[classes, width], and how much each class weighs in the covariance, float64[classes]
    counts = np.bincount(targets, minlength=classes)
    centres = np.stack([scaled[targets == number].mean(0, dtype=np.float64) for number in range(classes)])
    share = np.sqrt(counts) / np.sqrt(counts).sum()
    # float32[n, width]: a row from its photo's mean, stretched, and the photo's mean from its class's
    photo_means = _means(scaled, photos)
    within = np.sqrt(np.float32(invariance)) * (scaled - photo_means) + photo_means
    within -= centres[targets].astype(np.float32)
    within *= np.sqrt(share / counts)[targets, None].astype(np.float32)
    # covariance float64[width, width], shrunk towards the same variance for all features
    covariance = (within.T @ within).astype(np.float64)
    width = len(covariance)
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(width)] += shrinkage / (1 - shrinkage) * np.trace(covariance) / width + _FLOOR
    # weights float64[classes, width] and bias float64[classes], of features as they are
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
