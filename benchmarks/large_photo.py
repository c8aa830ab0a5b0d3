"""A JPEG of 12 megapixels to its answer, against a full decode with Pillow and fp32.

    python benchmarks/large_photo.py [PHOTOS] [--rounds 5] [--peers PYTHON]

Painted, 4000x3000, with grain. Each side is warm, in a process of its own, in turns; a round's number is the median of
ten answers. `Pillow and ONNX Runtime` is our own fp32 graph, the photo decoded in full and then resized (needs no
peer); Keras and the pipeline do the same with a full ResNet-50 of theirs.
"""

import statistics
import sys
from collections.abc import Iterator

import sides
from predicting import others
from prepared import Bench, start
from sides import Row, program

PLAIN = "Pillow and ONNX Runtime fp32"


def main() -> None:
    """Take turns, and print."""
    sides.show(rows(start(__doc__)))


def rows(bench: Bench) -> Iterator[Row]:
    """Every way against ours, for both models."""
    times: dict[str, list[float]] = {}
    for _ in range(bench.rounds):
        for peer, script, model in others(bench):
            keep(times, peer, program(bench.peers, script, "large", bench.large_photo, model))
        for name, model in bench.models.items():
            keep(times, f"{PLAIN}, {name}", program(sys.executable, "plain.py", "large", bench.large_photo, model))
            keep(times, name, program(sys.executable, "ours.py", "large", bench.large_photo, model))
    for name in bench.models:
        peers = [f"{PLAIN}, {name}", *(peer for peer, *_ in others(bench))]
        for peer in peers:
            yield Row("12-megapixel JPEG to answer", peer, name, times[peer], times[name], "ms")


def keep(times: dict[str, list[float]], side: str, command: list[str]) -> None:
    """A round's milliseconds."""
    answers = sides.watched(command).said["answers"]
    times.setdefault(side, []).append(1000 * statistics.median(answers))


if __name__ == "__main__":
    main()
