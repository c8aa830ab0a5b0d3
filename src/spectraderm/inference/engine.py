"""An exported model's bytes and a photo's pixels -> logits, features and class activation maps. Both runtimes' door.

Weights come as bytes, and `check_network` looks at them before any runtime does.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import ModelFolderError, SpectraDermError, needs
from spectraderm.images.preprocessing import Floats, Pixels, Preprocessing
from spectraderm.inference.network_bounds import check_network

INPUT = "pixel_values"
"""`float32[n, 3, size, size]`, normalised, as the Hugging Face Hub's own tools call and make it."""
OUTPUTS = ("logits", "features", "maps")
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
RUNTIMES = (ONNXRUNTIME, OPENVINO)
FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_CUDA_SETTINGS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}
"""Floats of 32 bits, as on the processor: the model's calibration was measured with these."""
_REPORTS = "openvino.tools.ovc"
"""Imported with OpenVINO, it reports that to its makers over the network. Its import may fail, and is made to."""
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


class Runtime(NamedTuple):
    """What computes the network: one of `RUNTIMES`, in one of `PRECISIONS`."""

    name: str = ONNXRUNTIME
    precision: str = FP32

    def check(self) -> None:
        """Raise `SpectraDermError` where there is no such runtime, or it has no such precision."""
        if self.name not in RUNTIMES:
            raise SpectraDermError(f"there is no runtime {self.name!r}", f"Give one of {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise SpectraDermError(f"there is no precision {self.precision!r}", f"Give one of {', '.join(PRECISIONS)}")
        if self.precision == BF16 and self.name != OPENVINO:
            raise SpectraDermError(f"{self.name} computes in {FP32} only", f"Give the runtime {OPENVINO} with {BF16}")


FLOATS = Runtime()

Port = tuple[str, str, Sequence[int | str | None]]
"""Name, type and shape of a model's input or output, as its runtime has it; a side of any length is no int."""


@dataclass(frozen=True)
class Answer:
    """What the network gives for n photos.

    Attributes:
        logits: `float32[n, classes]`.
        features: `float32[n, channels]`: means over all places of the network's last feature maps; with the pooling
            `statistics` also their standard deviations.
        maps: `float32[n, classes, rows, columns]`, how much each place counts for each class (HiResCAM,
            Draelos & Carin 2020; for a linear head the class activation map of Zhou et al. 2016).
    """

    logits: Floats
    features: Floats
    maps: Floats


class OnnxRuntime:
    """A model's bytes, opened by ONNX Runtime: its `inputs` and `outputs`, and its `device`, `cuda` or `cpu`.

    A call may use so many `threads`; 0 is one per core. With `cuda` a graphics card is used where an ONNX Runtime built
    for CUDA is installed and the card starts. Raises errors of ONNX Runtime's own kinds for what is no model.
    """

    device = "cpu"

    def __init__(self, onnx: bytes, threads: int, cuda: bool = False) -> None:
        import onnxruntime  # noqa: PLC0415 - not for OpenVINO

        if cuda and _CUDA in onnxruntime.get_available_providers():
            with suppress(Exception):  # no card, or an old driver, each with errors of its own: the processor does it
                self._open(onnx, threads, [(_CUDA, _CUDA_SETTINGS), _CPU])
                (name, _, shape), *_ = self.inputs
                blank = np.zeros([side if isinstance(side, int) else 1 for side in shape], np.float32)
                self._session.run(None, {name: blank})  # some cards fail no sooner
                self.device = "cuda" if _CUDA in self._session.get_providers() else "cpu"
        if self.device == "cpu":
            self._open(onnx, threads, [_CPU])

    def __call__(self, photos: npt.NDArray[np.generic]) -> list[Floats]:
        """The outputs, in their order, of the only input."""
        outputs: list[Floats] = self._session.run([name for name, *_ in self.outputs], {self.inputs[0][0]: photos})
        return outputs

    def _open(self, onnx: bytes, threads: int, providers: list[object]) -> None:
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised
        options.enable_mem_pattern = False  # with patterns it holds 5 MB more, and is no faster
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        once = {"enable_fallback": 0}  # a second try would write to stdout
        self._session = onnxruntime.InferenceSession(onnx, options, providers=providers, **once)
        self.inputs, self.outputs = (
            [(port.name, _TYPES.get(port.type, port.type), port.shape) for port in ports]
            for ports in (self._session.get_inputs(), self._session.get_outputs())
        )


class OpenVino:
    """A model, compiled for one photo at a time. May be called by several threads at once; more than `streams` wait.

    In 32-bit floats unless told: OpenVINO would else round to 16 bits wherever the processor can, and say nothing. It
    never sees a path, from which it would follow links to other files. A photo may use so many `threads`; 0 is one per
    core.

    Raises:
        SpectraDermError: the processor has no units for 16-bit floats, without which they are slower.
        Exception: of OpenVINO's own kinds, for what is no model.
    """

    def __init__(self, onnx: bytes, threads: int, streams: int = 1, precision: str = FP32) -> None:
        sys.modules.setdefault(_REPORTS, None)  # type: ignore[arg-type]
        with needs("openvino", "OpenVINO"):
            import openvino  # noqa: PLC0415 - an extra, slow to import
        if sys.modules[_REPORTS] is None:
            del sys.modules[_REPORTS]
        from spectraderm.core.parallel import cores  # noqa: PLC0415

        core = openvino.Core()
        if precision == BF16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise SpectraDermError("this processor has no units for 16-bit floats (bf16)", "Leave the precision out")
        model = core.read_model(onnx)
        shape = model.input().partial_shape
        shape[0] = 1  # fixed shapes run faster, and batches gain nothing on a processor
        model.reshape(shape)
        self.inputs, self.outputs = ([_port(entry) for entry in side] for side in (model.inputs, model.outputs))
        settings = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == FP32 else precision,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": (threads or cores()) * streams,
            "ENABLE_CPU_PINNING": False,  # or two processes would share one core and leave the other
        }
        compiled = core.compile_model(model, "CPU", settings)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(compiled.create_infer_request())

    def __call__(self, photos: npt.NDArray[np.generic]) -> list[Floats]:
        """The outputs, in their order, of the only input."""
        if photos.dtype.name != self.inputs[0][1]:
            raise ValueError(f"{photos.dtype} in place of {self.inputs[0][1]}")  # OpenVINO would round, silently
        request, outputs = self._idle.get(), list[list[Floats]]()
        try:
            for photo in photos:
                answer = request.infer([np.ascontiguousarray(photo[None])], share_inputs=True)
                outputs.append([answer[number] for number in range(len(self.outputs))])
        finally:
            self._idle.put(request)
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


class Engine:
    """A loaded ONNX model, of bytes with its weights inside. May be called by several threads, `streams`, at once.

    A photo may use so many `threads`; 0 is one per core. `name` is what errors call it.

    Attributes:
        size: side of the photos it reads, in pixels.
        classes: how many classes it tells apart.

    Raises:
        ModelFolderError: not a model that `export` wrote, or one that takes more work than its size accounts for.
        MissingExtra: OpenVINO is asked for and not installed.
        SpectraDermError: there is no such runtime or precision, or not on this processor.
    """

    def __init__(
        self,
        onnx: bytes,
        preprocessing: Preprocessing,
        name: str = "model.onnx",
        threads: int = 0,
        runtime: Runtime = FLOATS,
        streams: int = 1,
    ) -> None:
        runtime.check()
        check_network(onnx, name)
        self._name, self._preprocessing = name, preprocessing
        self._runtime: OnnxRuntime | OpenVino
        try:
            if runtime.name == OPENVINO:
                self._runtime = OpenVino(onnx, threads, streams, runtime.precision)
            else:
                self._runtime = OnnxRuntime(onnx, threads, cuda=True)
        except SpectraDermError:
            raise
        except Exception as error:  # runtimes raise their own kinds, and names need not be UTF-8
            raise ModelFolderError(f"{name} can't be loaded ({first_line(error)})", "Export it again") from error
        inputs, outputs = self._runtime.inputs, self._runtime.outputs
        kinds = [[(port, kind, len(shape)) for port, kind, shape in ports] for ports in (inputs, outputs)]
        floats = [(output, "float32", rank) for output, rank in zip(OUTPUTS, (2, 2, 4), strict=True)]
        matches = kinds == [[(INPUT, "float32", 4)], floats] and inputs[0][2][1] == 3
        sizes = {*inputs[0][2][2:]} if matches else set()
        self.size, self.classes = (
            side if isinstance(side, int) else 0 for side in ((*sizes, outputs[0][2][1]) if len(sizes) == 1 else (0, 0))
        )
        if not self.size or not self.classes:
            reads = f"{name} does not turn {INPUT} into {', '.join(OUTPUTS)}"
            raise ModelFolderError(reads, "Use a model that `export` wrote")

    def __call__(self, pixels: Pixels) -> Answer:
        """Answer for `uint8[n, size, size, 3]`, red first.

        Raises:
            ModelFolderError: the model fails, or gives other shapes than it says.
        """
        try:
            if pixels.dtype != np.uint8:
                raise ValueError(f"{pixels.dtype} in place of uint8")
            answer = Answer(*self._runtime(self._preprocessing.normalised(pixels)))
        except Exception as error:  # runtimes raise their own kinds
            raise ModelFolderError(f"{self._name} fails on a photo ({first_line(error)})", "Export it again") from error
        sides = answer.maps.shape[2:]
        fits = (
            answer.logits.shape == answer.maps.shape[:2] == (len(pixels), self.classes)
            and answer.features.shape[:1] == (len(pixels),)
            and 0 < min(sides) <= max(sides) <= self.size
            and answer.features.size > 0
        )
        if not fits:
            raise ModelFolderError(f"{self._name} answers in other shapes than it says", "Export it again")
        return answer


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [repr(error)])[0]


def _port(entry: Any) -> Port:  # noqa: ANN401
    kind = entry.get_element_type().to_dtype().name  # by one thread first: several at once would wait for each other
    shape = entry.get_partial_shape()
    sides = [side.get_length() if side.is_static else None for side in shape] if shape.rank.is_static else []
    return entry.get_any_name(), kind, sides
