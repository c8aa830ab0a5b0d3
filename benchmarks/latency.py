"""One photo by a model that is loaded: the network alone and the whole prediction, beside what the processor can do.

    python benchmarks/latency.py [PHOTOS] [--rounds 5]

Every graph of a model folder is measured (fp32, and 8-bit where there is one), in a process of its own, in turns with
the bound: see `bound.py`. The photo is painted, 640x480. A round's number is the median of ten predictions.
"""

import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import sides
from prepared import Bench, start
from sides import Row, program

BOUND = "the processor's bound, {}"


def main() -> None:
    """Take turns, and print."""
    sides.show(rows(start(__doc__)))


def rows(bench: Bench) -> Iterator[Row]:
    """Network and whole prediction of every graph."""
    graphs = [(name, graph) for name, folder in bench.models.items() for graph in sorted(folder.glob("onnx/*.onnx"))]
    command = [sys.executable, str(sides.HERE / "bound.py"), *(str(graph) for _, graph in graphs)]
    bounds: dict[Path, list[float]] = {}
    network: dict[Path, list[float]] = {}
    whole: dict[str, list[float]] = {}
    for _ in range(bench.rounds):
        can = sides.watched([*command, *(["--quick"] if bench.smoke else [])]).said
        for name, graph in graphs:
            seconds = can["multiply_adds"][str(graph)] / can["rates"][kind(graph)]
            bounds.setdefault(graph, []).append(1000 * seconds)
            options = (bench.photo, bench.models[name], "--onnx", graph)
            told = sides.watched(program(sys.executable, "ours.py", "latency", *options)).said
            network.setdefault(graph, []).append(1000 * statistics.median(told["network"]))
            whole.setdefault(name, []).append(1000 * statistics.median(told["all"]))
    for name, graph in graphs:
        against = BOUND.format(kind(graph))
        yield Row("network, one photo", against, f"{name}, {kind(graph)}", bounds[graph], network[graph], "ms", True)
    for name, values in whole.items():
        yield Row("prediction, one photo", "", name, [], values, "ms", True)


def kind(graph: Path) -> str:
    """Which arithmetic a graph uses."""
    return "int8" if b"QuantizeLinear" in graph.read_bytes() else "fp32"


if __name__ == "__main__":
    main()
