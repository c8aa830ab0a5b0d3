"""What a model can run on, and how: runtimes, threads and streams."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from spectraderm.core.errors import SpectraDermError

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
GPUS = {"cuda": "CUDAExecutionProvider", "directml": "DmlExecutionProvider", "coreml": "CoreMLExecutionProvider"}
"""Runtimes that are providers of ONNX Runtime. TensorRT is none: it compiles for minutes."""
RUNTIMES = (ONNXRUNTIME, OPENVINO, *GPUS)
AUTO = "auto"
"""What was found fastest on this machine, and ONNX Runtime on the CPU where nothing was tried."""
VARIABLE = "SPECTRADERM_RUNTIME"
_MOST_STREAMS, _MOST = 8, 1024

Port = tuple[str, str, Sequence[int | str | None]]
"""Name, type and shape of a model's input or output, as its runtime has it; a side of any length is no int."""


@dataclass(frozen=True)
class Choice:
    """How a model runs fastest.

    Attributes:
        runtime: one of `RUNTIMES`.
        threads: how many one photo may use, when it is the only one; 0 leaves it to the runtime.
        streams: how many photos run at once, when there are many.
        stream_threads: how many each of those may use.

    Raises:
        ValueError: no such runtime, or numbers that no machine has.
    """

    runtime: str
    threads: int
    streams: int
    stream_threads: int

    def __post_init__(self) -> None:
        numbers = (self.threads, self.streams, self.stream_threads)
        whole = all(type(number) is int and number <= _MOST for number in numbers)
        if self.runtime not in RUNTIMES or not whole or min(self.threads + 1, *numbers[1:]) < 1:
            raise ValueError(f"{self} is no choice")


def cores() -> int:
    """How many this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual() -> Choice:
    """What is chosen where nothing was tried: a stream per core, up to eight, for each holds memory."""
    streams = min(cores(), _MOST_STREAMS)
    return Choice(ONNXRUNTIME, 0, streams, max(cores() // streams, 1))


def asked(runtime: str = AUTO) -> str:
    """The runtime that is asked for: `runtime`, or by `SPECTRADERM_RUNTIME`, or `auto`.

    Raises:
        SpectraDermError: there is none of that name.
    """
    name = runtime if runtime != AUTO else os.environ.get(VARIABLE) or AUTO
    if name not in (AUTO, *RUNTIMES):
        raise SpectraDermError(f"there is no runtime {name!r}", f"Give one of {', '.join((AUTO, *RUNTIMES))}")
    return name
