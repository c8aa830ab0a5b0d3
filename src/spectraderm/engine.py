"""An exported model's bytes and a photo's pixels -> logits, features and class activation maps. ONNX Runtime's door.

Knows nothing of files: weights come as bytes, so that a model can't make the runtime open other files.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from spectraderm.errors import ModelFolderError

INPUT = "pixels"
OUTPUTS = ("logits", "features", "maps")

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What the network says of n photos.

    Attributes:
        logits: `float32[n, classes]`.
        features: `float32[n, channels]`, the globally averaged last layer.
        maps: `float32[n, classes, rows, columns]`, how much each place adds to each class's logit (HiResCAM,
            Draelos & Carin 2020; for a linear head the class activation map of Zhou et al. 2016).
    """

    logits: Floats
    features: Floats
    maps: Floats


class Engine:
    """A loaded ONNX model.

    Args:
        onnx: the model's bytes, with its weights inside.
        name: what errors call it.
        threads: how many threads one photo may use; 0 is one per core.

    Raises:
        ModelFolderError: not a model that `export` wrote.
    """

    def __init__(self, onnx: bytes, name: str = "model.onnx", threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises its own kinds
            raise ModelFolderError(
                f"{name} can't be loaded ({str(error).splitlines()[0]})", "Export it again"
            ) from error
        if [entry.name for entry in self._session.get_outputs()] != list(OUTPUTS):
            raise ModelFolderError(f"{name} does not give {', '.join(OUTPUTS)}", "Use a model that `export` wrote")

    def __call__(self, pixels: Pixels) -> Answer:
        """Answer for `uint8[n, size, size, 3]`, red first."""
        logits, features, maps = self._session.run(list(OUTPUTS), {INPUT: pixels})
        return Answer(logits, features, maps)
