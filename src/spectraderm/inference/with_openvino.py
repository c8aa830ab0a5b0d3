"""OpenVINO's door: a model's bytes -> a compiled model. An extra; imported only where it is asked for."""

import importlib
import importlib.util
import sys
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import MissingExtra
from spectraderm.inference.runtimes import OPENVINO, Port, cores

_REPORTS = "openvino.tools.ovc"
"""Imported with OpenVINO, it reports that to its makers over the network. Nothing here needs it."""
_TYPES = {"u8": "uint8", "f32": "float32"}


def installed() -> bool:
    """The extra is there."""
    return importlib.util.find_spec("openvino") is not None


class OpenVino:
    """A model, compiled for one photo at a time. May be called by several threads at once; more than `streams` wait.

    Args:
        onnx: the model's bytes. OpenVINO never sees a path, from which it would follow links to other files.
        threads: how many a photo may use; 0 is one per core.
        streams: how many photos it takes at once.

    Attributes:
        inputs, outputs: of the model.

    Raises:
        MissingExtra: it is not installed.
        Exception: of OpenVINO's own kinds, for what is no model.
    """

    runtime, note = OPENVINO, ""

    def __init__(self, onnx: bytes, threads: int, streams: int = 1) -> None:
        core = _openvino().Core()
        model = core.read_model(onnx)
        shape = model.input().partial_shape
        shape[0] = 1  # fixed shapes run faster, and batches gain nothing on a processor
        model.reshape(shape)
        self.inputs, self.outputs = [[_port(entry) for entry in side] for side in (model.inputs, model.outputs)]
        compiled = core.compile_model(model, "CPU", _settings(threads or cores(), streams))
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in their order, of the only input."""
        if pixels.dtype.name != self.inputs[0][1]:
            raise ValueError(f"{pixels.dtype} in place of {self.inputs[0][1]}")  # OpenVINO would round, silently
        request = self._idle.get()
        try:
            each = [self._one(request, pixels[number : number + 1]) for number in range(len(pixels))]
        finally:
            self._idle.put(request)
        return [np.concatenate(parts) for parts in zip(*each, strict=True)] if len(each) != 1 else each[0]

    def _one(self, request: Any, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:  # noqa: ANN401
        answer = request.infer([np.ascontiguousarray(pixels)], share_inputs=True)
        return [answer[number] for number in range(len(self.outputs))]


def _settings(threads: int, streams: int) -> dict[str, object]:
    """Always 32-bit floats: OpenVINO would else round to 16 bits wherever the processor can, and say nothing."""
    return {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads * streams,
        "ENABLE_CPU_PINNING": False,  # or two processes would share one core and leave the other
    }


def _openvino() -> ModuleType:
    """The library. Raises `MissingExtra`."""
    if not installed():
        raise MissingExtra("OpenVINO", "openvino")
    known = sys.modules.get("openvino")
    if known:
        return known
    sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]  # makes its import fail, which OpenVINO allows
    try:
        return importlib.import_module("openvino")
    finally:
        if sys.modules[_REPORTS] is None:
            del sys.modules[_REPORTS]


def _port(entry: Any) -> Port:  # noqa: ANN401
    kind = entry.get_element_type().get_type_name()
    shape = entry.get_partial_shape()
    sides = [side.get_length() if side.is_static else None for side in shape] if shape.rank.is_static else []
    return entry.get_any_name(), _TYPES.get(kind, kind), sides
