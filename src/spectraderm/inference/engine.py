"""An exported model's bytes and a photo's pixels -> logits, features and class activation maps, by one of the runtimes.

Knows nothing of files: weights come as bytes, and a model that would have a runtime open other files is refused before
any of them sees it.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference.remembering import remembered
from spectraderm.inference.runtimes import AUTO, ONNXRUNTIME, OPENVINO, asked
from spectraderm.inference.with_onnxruntime import OnnxRuntime
from spectraderm.inference.with_openvino import OpenVino

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
    """A loaded ONNX model. May be called by several threads at once.

    Args:
        onnx: the model's bytes, with its weights inside.
        name: what errors call it.
        threads: how many threads one photo may use; 0 is what was found fastest, or one per core.
        runtime: one of `choices.RUNTIMES`; `auto` is what `SPECTRADERM_RUNTIME` says, or `tuning` found fastest here,
            or ONNX Runtime on the processor.
        streams: how many threads call it at once.

    Attributes:
        size: side of the photos it reads, in pixels.
        classes: how many classes it tells apart.
        runtime: which runtime it is that answers.
        note: why it is not the one that was asked for; or empty.

    Raises:
        ModelFolderError: not a model that `export` wrote, or one with weights outside `onnx`.
        MissingExtra: OpenVINO is asked for and not installed.
        SpectraDermError: there is no such runtime.
    """

    def __init__(
        self, onnx: bytes, name: str = "model.onnx", threads: int = 0, runtime: str = AUTO, streams: int = 1
    ) -> None:
        if _OUTSIDE in onnx:
            raise ModelFolderError(f"{name} has weights in another file, which is never opened", "Export it again")
        if onnx[4:8] == _ORT or _ENDLESS.search(onnx):
            raise ModelFolderError(f"{name} is not ONNX without loops", "Use a model that `export` wrote")
        self._name, wanted = name, asked(runtime)
        try:
            self._session, self.note = _open(onnx, threads, wanted, streams)
        except SpectraDermError:
            raise
        except Exception as error:  # runtimes raise their own kinds, and names need not be UTF-8
            raise ModelFolderError(f"{name} can't be loaded ({_line(error)})", "Export it again") from error
        self.runtime = self._session.runtime
        self.size, self.classes = self._sizes()

    def __call__(self, pixels: Pixels) -> Answer:
        """Answer for `uint8[n, size, size, 3]`, red first.

        Raises:
            ModelFolderError: the model fails, or gives other shapes than it says.
        """
        try:
            answer = Answer(*self._session(pixels))
        except Exception as error:  # runtimes raise their own kinds
            raise ModelFolderError(f"{self._name} fails on a photo ({_line(error)})", "Export it again") from error
        if not self._fits(answer, len(pixels)):
            raise ModelFolderError(f"{self._name} answers in other shapes than it says", "Export it again")
        return answer

    def _sizes(self) -> tuple[int, int]:
        """Side and number of classes, of a model that reads and gives what `export` writes."""
        inputs, outputs = self._session.inputs, self._session.outputs
        kinds = [[(name, kind, len(shape)) for name, kind, shape in ports] for ports in (inputs, outputs)]
        floats = [(output, "float32", rank) for output, rank in zip(OUTPUTS, (2, 2, 4), strict=True)]
        if kinds == [[(INPUT, "uint8", 4)], floats]:
            size, classes = inputs[0][2][1], outputs[0][2][1]
            if isinstance(size, int) and isinstance(classes, int):
                return size, classes
        raise ModelFolderError(
            f"{self._name} does not turn {INPUT} into {', '.join(OUTPUTS)}", "Use a model that `export` wrote"
        )

    def _fits(self, answer: Answer, count: int) -> bool:
        rows = answer.maps.shape[2:]
        return (
            answer.logits.shape == (count, self.classes)
            and answer.features.shape[:1] == (count,)
            and answer.maps.shape[:2] == (count, self.classes)
            and 0 < min(rows) <= max(rows) <= self.size
            and answer.features.size > 0
        )


def _open(onnx: bytes, threads: int, wanted: str, streams: int) -> tuple[OnnxRuntime | OpenVino, str]:
    """The model by the runtime that is wanted, and what is to be said of that."""
    found = remembered(onnx) if wanted == AUTO else None
    if found and found.runtime == OPENVINO:
        try:
            return OpenVino(onnx, threads or found.threads, streams), ""
        except Exception as error:  # it was fastest once, and something of it is gone
            return OnnxRuntime(onnx, threads), f"openvino does not start ({_line(error)}): onnxruntime is used"
    if wanted == OPENVINO:
        return OpenVino(onnx, threads, streams), ""
    runtime = found.runtime if found else ONNXRUNTIME if wanted == AUTO else wanted
    session = OnnxRuntime(onnx, threads or (found.threads if found else 0), runtime)
    return session, session.note


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [repr(error)])[0]
