"""An exported model's bytes and a photo's pixels -> logits, features and class activation maps. ONNX Runtime's door.

Knows nothing of files: weights come as bytes, and a model that would have the runtime open other files is refused.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime

from spectraderm.errors import ModelFolderError

INPUT = "pixels"
OUTPUTS = ("logits", "features", "maps")
_OUTSIDE = b"location"
"""The key that names a file of weights outside the model. Even of bytes the runtime follows it, from where it runs."""
_ENDLESS = re.compile(rb"(\x22|\xa2\x80*\x00)(\x04|\x84\x80*\x00)(Loop|Scan)")
"""An operator that runs a part of the graph as often as it likes: field 4 of an ONNX node, of four letters."""
_ORT = b"ORTM"
"""At 4 in a model of ONNX Runtime's own format, which it opens as well and checks far less."""

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
        if onnx[4:8] == _ORT or _ENDLESS.search(onnx):
            raise ModelFolderError(f"{name} is not ONNX without loops", "Use a model that `export` wrote")
        self._name = name
        try:
            self._session = _session(onnx, threads)
            inputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_inputs()]
            outputs = [(entry.name, entry.type, len(entry.shape)) for entry in self._session.get_outputs()]
        except Exception as error:  # ONNX Runtime raises its own kinds, and names need not be UTF-8
            raise ModelFolderError(f"{name} can't be loaded ({_line(error)})", "Export it again") from error
        floats = [(output, "tensor(float)", rank) for output, rank in zip(OUTPUTS, (2, 2, 4), strict=True)]
        sizes = self._session.get_inputs()[0].shape[1:2] + self._session.get_outputs()[0].shape[1:2]
        if inputs != [(INPUT, "tensor(uint8)", 4)] or outputs != floats or [*map(type, sizes)] != [int, int]:
            raise ModelFolderError(
                f"{name} does not turn {INPUT} into {', '.join(OUTPUTS)}", "Use a model that `export` wrote"
            )
        self.size, self.classes = sizes

    def __call__(self, pixels: Pixels) -> Answer:
        """Answer for `uint8[n, size, size, 3]`, red first.

        Raises:
            ModelFolderError: the model fails, or gives other shapes than it says.
        """
        try:
            answer = Answer(*self._session.run(list(OUTPUTS), {INPUT: pixels}))
        except Exception as error:  # ONNX Runtime raises its own kinds
            raise ModelFolderError(f"{self._name} fails on a photo ({_line(error)})", "Export it again") from error
        if not self._fits(answer, len(pixels)):
            raise ModelFolderError(f"{self._name} answers in other shapes than it says", "Export it again")
        return answer

    def _fits(self, answer: Answer, count: int) -> bool:
        rows = answer.maps.shape[2:]
        return (
            answer.logits.shape == (count, self.classes)
            and answer.features.shape[:1] == (count,)
            and answer.maps.shape[:2] == (count, self.classes)
            and 0 < min(rows) <= max(rows) <= self.size
            and answer.features.size > 0
        )


def _session(onnx: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        onnx, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )  # a second try would write to stdout


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [repr(error)])[0]
