"""Our own side in a process of its own, asked as the peers are.

    python ours.py predict PHOTOS MODEL
    python ours.py large PHOTO MODEL
    python ours.py latency PHOTO MODEL [--onnx FILE]

MODEL is a model folder. Prints a JSON line; times are seconds, `ready` since Python began.
"""

# ruff: noqa: E402
import time

BEGUN = time.perf_counter()
import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import spectraderm

TIMES = 10


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("what", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--onnx", type=Path, help="instead of the model's own graph")
    given = parser.parse_args()
    print(json.dumps(MODES[given.mode](given)), flush=True)


def predict(given: argparse.Namespace) -> dict[str, Any]:
    """Photos below a folder, one by one, then as `spectraderm predict` does many."""
    from spectraderm.inference import batch  # noqa: PLC0415

    model, paths = spectraderm.load_model(given.model), batch.find(str(given.what))
    model.predict(paths[0])
    list(batch.predict(model, paths[: 2 * batch.FEW], io.BytesIO()))  # so many that it may try what is fastest
    ready = time.perf_counter()
    for path in paths:
        model.predict(path)
    single = time.perf_counter()
    list(batch.predict(model, paths, io.BytesIO()))
    together = time.perf_counter()
    return {"ready": ready - BEGUN, "one_by_one": single - ready, "together": together - single, "photos": len(paths)}


def large(given: argparse.Namespace) -> dict[str, Any]:
    """One photo over and over."""
    model = spectraderm.load_model(given.model)
    return {"answers": timed(lambda: model.predict(str(given.what)))}


def latency(given: argparse.Namespace) -> dict[str, Any]:
    """The network alone, and all of a prediction."""
    from spectraderm.inference.engine import Engine  # noqa: PLC0415

    model = spectraderm.load_model(given.model)
    engine = Engine(given.onnx.read_bytes()) if given.onnx else model.engine
    photo = given.what.read_bytes()
    pixels = model.pixels(photo)[None]
    return {"network": timed(lambda: engine(pixels)), "all": timed(lambda: model.predict(photo))}


def timed(call: Callable[[], object]) -> list[float]:
    """Seconds of each of some calls, after one that warms up."""
    taken = []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken[1:]


MODES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "predict": predict,
    "large": large,
    "latency": latency,
}

if __name__ == "__main__":
    main()
