"""Predicting the test photos, against the Keras notebook and `transformers.pipeline`.

    python benchmarks/predicting.py PHOTOS [--rounds 5] [--peers PYTHON]

Each side is a new process in every round. `As usual` is one by one for a peer, as the notebook and pipelines are used,
and what `spectraderm predict` does with many for us; `in batches` lets the peer take many at once, too; both are warm.
`From a cold process` is from its start to the end of the usual way. Theirs is the full ResNet-50; ours that one and the
default model. Reading photos is part of it.
"""

import sys
from collections.abc import Iterator

import sides
from prepared import Bench, start
from sides import Row, program

ONE, MANY, COLD = "one by one", "many at once", "cold"
CASES = {
    "test photos, as usual": (ONE, MANY),
    "test photos, in batches": (MANY, MANY),
    "test photos, from a cold process": (COLD, COLD),
}
KERAS, PIPELINE = "Keras notebook", "transformers.pipeline"
Times = dict[tuple[str, str], list[float]]


def main() -> None:
    """Take turns, and print."""
    sides.show(rows(start(__doc__)))


def rows(bench: Bench) -> Iterator[Row]:
    """Every peer against every model of ours."""
    times: Times = {}
    models = bench.models
    for _ in range(bench.rounds):
        for peer, script, model in others(bench):
            told = sides.watched(program(bench.peers, script, "predict", bench.tests, model)).said
            note(times, peer, told, told["ready"] + told["one_by_one"])
        for name, model in models.items():
            told = sides.watched(program(sys.executable, "ours.py", "predict", bench.tests, model)).said
            cold = sides.ours("predict", bench.tests, "--model", model, "--format", "jsonl")
            note(times, name, told, cold.seconds)
    for peer in (KERAS, PIPELINE):
        for name in models:
            for what, (theirs, mine) in CASES.items():
                yield Row(what, peer, name, times.get((peer, theirs), []), times[name, mine])


def others(bench: Bench) -> list[tuple[str, str, object]]:
    """The peers that there are: name, program, and what it is to open."""
    if not bench.with_peers:
        return []
    return [
        (KERAS, "keras_notebook.py", bench.weights),
        (PIPELINE, "transformers_pipeline.py", bench.pipeline_model),
    ]


def note(times: Times, side: str, told: dict[str, float], cold: float) -> None:
    """Keep a round's seconds."""
    for what, seconds in ((ONE, told["one_by_one"]), (MANY, told["together"]), (COLD, cold)):
        times.setdefault((side, what), []).append(seconds)


if __name__ == "__main__":
    main()
