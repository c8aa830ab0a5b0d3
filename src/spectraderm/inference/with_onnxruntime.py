"""ONNX Runtime's door: a model's bytes -> a session, on the processor or, where asked for, on a graphics card."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime

from spectraderm.inference.runtimes import GPUS, ONNXRUNTIME, Port

_CPU = "CPUExecutionProvider"
_SETTINGS: dict[str, dict[str, str]] = {
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"},
    "directml": {},
    "coreml": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},  # the rest of the chip rounds to 16 bits
}
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def present() -> list[str]:
    """The graphics cards' runtimes that this installation of ONNX Runtime has."""
    having = onnxruntime.get_available_providers()
    return [name for name, provider in GPUS.items() if provider in having]


class OnnxRuntime:
    """A model, opened. May be called by several threads at once.

    Args:
        onnx: the model's bytes.
        threads: how many a call may use; 0 is one per core.
        runtime: `onnxruntime`, or one of `GPUS`, in whose place the processor is taken if it does not start.

    Attributes:
        runtime: what it runs on.
        note: why that is not what was asked for; or empty.
        inputs, outputs: of the model.

    Raises:
        Exception: of ONNX Runtime's own kinds, for what is no model.
    """

    def __init__(self, onnx: bytes, threads: int, runtime: str = ONNXRUNTIME) -> None:
        self.runtime, self.note = runtime, ""
        if runtime in GPUS:
            try:
                self._session = _on_gpu(onnx, threads, runtime)
            except Exception as error:  # each provider raises its own kinds
                why = (str(error).splitlines() or [repr(error)])[0]
                self.runtime, self.note = ONNXRUNTIME, f"{runtime} does not start ({why}): the processor is used"
        if self.runtime == ONNXRUNTIME:
            self._session = _session(onnx, threads, [_CPU])
        self.inputs = [_port(entry) for entry in self._session.get_inputs()]
        self.outputs = [_port(entry) for entry in self._session.get_outputs()]

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        """The outputs, in their order, of the only input."""
        names = [name for name, _, _ in self.outputs]
        answer: list[npt.NDArray[np.float32]] = self._session.run(names, {self.inputs[0][0]: pixels})
        return answer


def _session(onnx: bytes, threads: int, providers: Sequence[object]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if GPUS["directml"] in map(_name, providers):
        options.enable_mem_pattern = False  # DirectML allows neither this nor several runs at once
    return onnxruntime.InferenceSession(
        onnx, options, providers=list(providers), enable_fallback=0
    )  # a second try would write to stdout


def _on_gpu(onnx: bytes, threads: int, runtime: str) -> onnxruntime.InferenceSession:
    """A session that has answered once: some cards fail no sooner. Raises where it does not."""
    provider = GPUS[runtime]
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError("this installation of ONNX Runtime lacks it")
    session = _session(onnx, threads, [(provider, _SETTINGS[runtime]), _CPU])
    if provider not in session.get_providers():  # ONNX Runtime goes on without it, and says so only in its log
        raise RuntimeError("its libraries or its device are missing")
    blank = [side if isinstance(side, int) else 1 for side in session.get_inputs()[0].shape]
    session.run(None, {session.get_inputs()[0].name: np.zeros(blank, np.uint8)})
    return session


def _name(provider: object) -> object:
    return provider[0] if isinstance(provider, tuple) else provider


def _port(entry: onnxruntime.NodeArg) -> Port:
    return entry.name, _TYPES.get(entry.type, entry.type), entry.shape
