"""Logits -> probabilities: what evaluation and serving must agree on. Pure NumPy; knows nothing of models or files."""

import numpy as np
import numpy.typing as npt


def softmax(logits: npt.NDArray[np.float32] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Probabilities `float64[n, classes]` of logits of that shape. Not calibrated: they tend to be too sure."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return result
