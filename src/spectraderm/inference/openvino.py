"""OpenVINO's door: a model's bytes -> a compiled model. An extra; imported only where it is asked for."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np

from spectraderm.core.errors import needs
from spectraderm.core.parallel import cores
from spectraderm.inference.engine import Floats, Pixels, Port

_REPORTS = "openvino.tools.ovc"
"""Imported with OpenVINO, it reports that to its makers over the network. Nothing here needs it."""


@contextmanager
def _unreported() -> Iterator[None]:
    """Makes the import of what reports fail, which OpenVINO allows."""
    sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if sys.modules[_REPORTS] is None:
            del sys.modules[_REPORTS]


with needs("openvino", "OpenVINO"), _unreported():
    import openvino


class OpenVino:
    """A model, compiled for one photo at a time. May be called by several threads at once; more than `streams` wait.

    Always in 32-bit floats: OpenVINO would else round to 16 bits wherever the processor can, and say nothing.

    Args:
        onnx: the model's bytes. OpenVINO never sees a path, from which it would follow links to other files.
        threads: how many a photo may use; 0 is one per core.
        streams: how many photos it takes at once.

    Attributes:
        inputs, outputs: of the model.

    Raises:
        Exception: of OpenVINO's own kinds, for what is no model.
    """

    def __init__(self, onnx: bytes, threads: int, streams: int = 1) -> None:
        core = openvino.Core()
        model = core.read_model(onnx)
        shape = model.input().partial_shape
        shape[0] = 1  # fixed shapes run faster, and batches gain nothing on a processor
        model.reshape(shape)
        self.inputs, self.outputs = ([_port(entry) for entry in side] for side in (model.inputs, model.outputs))
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": (threads or cores()) * streams,
            "ENABLE_CPU_PINNING": False,  # or two processes would share one core and leave the other
        }
        compiled = core.compile_model(model, "CPU", settings)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, pixels: Pixels) -> list[Floats]:
        """The outputs, in their order, of the only input."""
        if pixels.dtype.name != self.inputs[0][1]:
            raise ValueError(f"{pixels.dtype} in place of {self.inputs[0][1]}")  # OpenVINO would round, silently
        request, outputs = self._idle.get(), list[list[Floats]]()
        try:
            for photo in pixels:
                answer = request.infer([np.ascontiguousarray(photo[None])], share_inputs=True)
                outputs.append([answer[number] for number in range(len(self.outputs))])
        finally:
            self._idle.put(request)
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _port(entry: Any) -> Port:  # noqa: ANN401
    kind = entry.get_element_type().to_dtype().name  # by one thread first: several at once would wait for each other
    shape = entry.get_partial_shape()
    sides = [side.get_length() if side.is_static else None for side in shape] if shape.rank.is_static else []
    return entry.get_any_name(), kind, sides
