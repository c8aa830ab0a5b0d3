"""Which runtime, threads and streams answer fastest for a model on this machine: tried once, and briefly.

Each candidate takes its turn in every round, and its shortest time counts: a busy neighbour only ever adds to it.
A runtime whose answers are not those of ONNX Runtime on the processor is none: the model's calibration holds for these.
With 8-bit weights OpenVINO rounds elsewhere, and is one only for who asks for it.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference import with_onnxruntime, with_openvino
from spectraderm.inference.engine import Answer, Engine, Pixels
from spectraderm.inference.remembering import keeps, remember, remembered
from spectraderm.inference.runtimes import AUTO, ONNXRUNTIME, OPENVINO, Choice, asked, cores, usual

_SECONDS, _ROUNDS = 0.3, (2, 7)
"""Of trying, when all is loaded; and how many rounds that are, at least and at most."""
_CLOSE = 1e-3
"""How far logits and features may lie from ONNX Runtime's, as a part of the largest of them or of 1."""
_QUANTISED = b"DequantizeLinear"
"""In models with 8-bit weights, which OpenVINO takes a second to load, only for its answers to be others."""
_GAIN = 0.8
"""What is usual stays unless something else needs less than this part of its time: neighbours come and go."""


@dataclass
class _Candidate:
    engine: Engine
    choice: Choice
    one: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)


def tuned(onnx: bytes, name: str = "model.onnx") -> Choice:
    """How to run a model when there are many photos. Found once; after that it is read from the user's cache folder.

    Where nothing can be kept there, or a runtime is asked for, nothing is tried.

    Args:
        onnx: the model's bytes.
        name: what errors call it.

    Raises:
        ModelFolderError: see `Engine`.
        SpectraDermError: `SPECTRADERM_RUNTIME` names no runtime.
    """
    if (wanted := asked()) != AUTO:
        return replace(usual(), runtime=wanted)
    if found := remembered(onnx):
        return found
    if (len(_shapes()) == 1 and len(_runtimes(onnx)) == 1) or not keeps():
        return usual()
    choice = _fastest(onnx, name)
    return choice if remember(onnx, choice) else usual()


def _runtimes(onnx: bytes) -> list[str]:
    with_openvino_too = with_openvino.installed() and _QUANTISED not in onnx
    return [ONNXRUNTIME, *with_onnxruntime.present(), *([OPENVINO] if with_openvino_too else [])]


def _shapes() -> list[Choice]:
    """Every core on one photo, or a photo on every core."""
    return list(dict.fromkeys([usual(), Choice(ONNXRUNTIME, 0, 1, cores())]))


def _fastest(onnx: bytes, name: str) -> Choice:
    candidates = list(_candidates(onnx, name))
    pixels = _noise(candidates[0].engine.size)
    began, (least, most) = time.perf_counter(), _ROUNDS
    for done in range(most):
        if done >= least and time.perf_counter() - began > _SECONDS:
            break
        for candidate in candidates:
            _try(candidate, pixels)
    best = _best(candidates, [min(each.many) for each in candidates])
    alike = [each for each in reversed(candidates) if each.choice.runtime == best.choice.runtime]
    one = _best(alike, [min(each.one) for each in alike])
    return replace(best.choice, threads=one.choice.stream_threads)


def _best(candidates: list[_Candidate], times: list[float]) -> _Candidate:
    """The quickest, or the first if that is not much slower."""
    quickest = min(range(len(times)), key=times.__getitem__)
    return candidates[quickest if times[quickest] < _GAIN * times[0] else 0]


def _candidates(onnx: bytes, name: str) -> Iterator[_Candidate]:
    """Those that start and answer as ONNX Runtime does on the processor, which comes first."""
    expected: Answer | None = None
    for runtime in _runtimes(onnx):
        for shape in _shapes():
            choice = replace(shape, runtime=runtime)
            try:
                engine = Engine(onnx, name, choice.stream_threads, runtime, choice.streams)
                answer = engine(_noise(engine.size))
            except SpectraDermError:
                if expected is None:
                    raise
                break
            expected = expected or answer
            if engine.runtime != runtime or not _agree(answer, expected):
                break
            yield _Candidate(engine, choice)


def _try(candidate: _Candidate, pixels: Pixels) -> None:
    """Take the time of one photo, and of each of as many as fill the machine twice."""
    start = time.perf_counter()
    candidate.engine(pixels)
    candidate.one.append(time.perf_counter() - start)
    photos = [pixels] * (2 * usual().streams)
    with ThreadPoolExecutor(candidate.choice.streams) as pool:
        start = time.perf_counter()
        list(pool.map(candidate.engine, photos))
        candidate.many.append((time.perf_counter() - start) / len(photos))


def _agree(one: Answer, other: Answer) -> bool:
    pairs = [(one.logits, other.logits), (one.features, other.features)]
    return all(
        a.shape == b.shape and float(np.abs(a - b).max()) <= _CLOSE * max(1.0, float(np.abs(b).max())) for a, b in pairs
    )


def _noise(size: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
