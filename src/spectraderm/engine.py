"""An exported model's bytes and a photo's pixels -> logits, features and class activation maps. ONNX Runtime's door.

Knows nothing of files: weights come as bytes, and a model that would have the runtime open other files is refused.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from spectraderm.errors import ModelFolderError

INPUT = "pixels"
OUTPUTS = ("logits", "features", "maps")
_OUTSIDE = b"location"
"""The key that names a file of weights outside the model. Even of bytes the runtime follows it, from where it runs."""

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What the network says of n photos.

    Attributes:
        logits: `float32[n, classes]`.
        features: `float32[n, channels]`, the globally averaged last layer.
        maps: `float32[n, classes, rows, columns]`, how much each place counts for each class (HiResCAM,
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

    Attributes:
        size: side of the photos it reads, in pixels.
        classes: how many classes it tells apart.

    Raises:
        ModelFolderError: not a model that `export` wrote, or one with weights outside `onnx`.
    """

    def __init__(self, onnx: bytes, name: str = "model.onnx", threads: int = 0) -> None:
        if _OUTSIDE in onnx:
            raise ModelFolderError(f"{name} has weights in another file, which is never opened", "Export it again")
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
        inputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_inputs()]
        outputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_outputs()]
        floats = [(output, "tensor(float)", rank) for output, rank in zip(OUTPUTS, (2, 2, 4), strict=True)]
        if inputs != [(INPUT, "tensor(uint8)", 4)] or outputs != floats:
            raise ModelFolderError(
                f"{name} does not turn {INPUT} into {', '.join(OUTPUTS)}", "Use a model that `export` wrote"
            )
        self.size, self.classes = self._session.get_inputs()[0].shape[1], self._session.get_outputs()[0].shape[1]

    def __call__(self, pixels: Pixels) -> Answer:
        """Answer for `uint8[n, size, size, 3]`, red first."""
        logits, features, maps = self._session.run(list(OUTPUTS), {INPUT: pixels})
        return Answer(logits, features, maps)
