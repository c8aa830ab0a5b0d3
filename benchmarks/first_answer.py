"""From a cold process to the first answer, and the memory that it takes, against the Keras notebook and a pipeline.

    python benchmarks/first_answer.py [PHOTOS] [--rounds 5] [--peers PYTHON]

Seconds from the start of the process to its first line of output, for one painted photo (640x480); memory is the most
that was resident. Ours is `spectraderm predict`, theirs loads a full ResNet-50 and asks it once.
"""

from collections.abc import Iterator

import sides
from predicting import KERAS, others
from prepared import Bench, start
from sides import Row, Watched, program


def main() -> None:
    """Take turns, and print."""
    sides.show(rows(start(__doc__)))


def rows(bench: Bench) -> Iterator[Row]:
    """Every peer against every model of ours, seconds and MB."""
    taken: dict[str, list[Watched]] = {}
    for model in bench.models.values():  # the first reads the files from disk
        sides.ours("predict", bench.photo, "--model", model)
    for _ in range(bench.rounds):
        for peer, script, theirs in others(bench):
            command = program(bench.peers, script, "first", bench.photo, theirs)
            taken.setdefault(peer, []).append(sides.watched(command))
        for name, model in bench.models.items():
            answer = sides.ours("predict", bench.photo, "--model", model, "--format", "jsonl")
            taken.setdefault(name, []).append(answer)
    for peer in [one[0] for one in others(bench)] or [KERAS]:
        for name in bench.models:
            both = taken.get(peer, []), taken[name]
            seconds = [[one.first for one in side] for side in both]
            megabytes = [[one.peak for one in side] for side in both]
            yield Row("cold process to first answer", peer, name, seconds[0], seconds[1])
            yield Row("memory of that", peer, name, megabytes[0], megabytes[1], "MB")


if __name__ == "__main__":
    main()
