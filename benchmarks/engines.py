"""The network alone, by every runtime, precision and setting that could matter: milliseconds of one core for a photo.

    python benchmarks/engines.py [--model MODEL ...] [--rounds 9]

One thread, in turns; CPU time, so that other programs disturb it little; the median of the rounds with the lowest and
the highest, and ratios round by round. What this processor can't do is left out.
"""

import time
from collections.abc import Callable

import numpy as np
import onnxruntime
import timing

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.engine import INPUT, OUTPUTS, Engine, Runtime
from spectraderm.inference.model_folder import ModelFolder, open_model

PHOTOS = 16
SETTINGS: dict[str, Callable[[onnxruntime.SessionOptions], object]] = {
    "as we set it": lambda _: None,
    "denormals as zero": lambda options: options.add_session_config_entry("session.set_denormal_as_zero", "1"),
    "memory patterns": lambda options: setattr(options, "enable_mem_pattern", True),
    "no arena": lambda options: setattr(options, "enable_cpu_mem_arena", False),
    "only extended optimizations": lambda options: setattr(
        options, "graph_optimization_level", onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ),
}


def main() -> None:
    """Print a table for every model."""
    parser = timing.parser(__doc__)
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    print(timing.machine())
    for name in given.model:
        table(name, open_model(name), given.rounds)


def table(name: str, model: ModelFolder, rounds: int) -> None:
    """Print one model's."""
    size = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (PHOTOS, size, size, 3), dtype=np.uint8)
    inputs = model.preprocessing.normalised(pixels)
    calls = {f"ONNX Runtime, {setting}": (session(model, set_), 1) for setting, set_ in SETTINGS.items()}
    calls |= {f"ONNX Runtime, {size} at once": (session(model, lambda _: None), size) for size in (4, 16)}
    for precision in ("fp32", "bf16"):
        try:
            engine = Engine(model.network, model.preprocessing, threads=1, runtime=Runtime("openvino", precision))
        except SpectraDermError:
            continue
        calls[f"OpenVINO, {precision}"] = (lambda _, engine=engine: engine(pixels), PHOTOS)
    taken: dict[str, list[float]] = {}
    for turn in range(1 + rounds):
        for what, (call, at_once) in calls.items():
            start = time.process_time()
            for at in range(0, PHOTOS, at_once):
                call(inputs[at : at + at_once])
            if turn:
                taken.setdefault(what, []).append(1000 * (time.process_time() - start) / PHOTOS)
    print(f"\n| {name} | ms | times as fast as the first |\n| --- | --- | --- |")
    first = next(iter(taken.values()))
    for what, values in taken.items():
        ratios = [before / after for before, after in zip(first, values, strict=True)]
        print(f"| {what} | {timing.spread(values)} | {timing.spread(ratios)} |")


def session(model: ModelFolder, change: Callable[[onnxruntime.SessionOptions], object]) -> Callable[..., object]:
    """ONNX Runtime as `inference.engine` sets it, for one thread, with one change."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    change(options)
    made = onnxruntime.InferenceSession(model.network, options, providers=["CPUExecutionProvider"])
    return lambda photos: made.run(list(OUTPUTS), {INPUT: photos})


if __name__ == "__main__":
    main()
