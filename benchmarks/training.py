"""Training by the mission's recipe to the accuracy on the test photos, against the Keras notebook.

    python benchmarks/training.py PHOTOS [--rounds 5] [--peers PYTHON] [--whole]

Theirs: `peers/keras_notebook.py train` from its start to its confusion matrix. One epoch of it is timed in every round,
while our side stands still, and ours while it waits; a round's 12 epochs are start, loading and building + the first
epoch + 11 times the round's + evaluation. `--whole` runs all 12 once without a stop, to compare that sum with.
Ours: `spectraderm train`, `calibrate` and `evaluate`, three processes from cold, in a folder that was audited and split
before (Keras does neither); `cold` with an empty cache of features, `warm` with a full one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sides
from prepared import FULL, THIN, Bench, train
from sides import Row

EPOCHS = 12
Times = dict[str, list[float]]


def main() -> None:
    """Take turns, and print."""
    parser = sides.parser(__doc__)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    bench = Bench.of(given)
    sides.show(rows(bench))
    if given.whole and bench.with_peers:
        whole(bench)


def rows(bench: Bench) -> Iterator[Row]:
    """Both backbones, cold and warm."""
    mine: Times = {}
    accuracies: dict[str, float] = {}
    theirs = Notebook(bench) if bench.with_peers else None
    for _ in range(bench.rounds):
        if theirs:
            theirs.epoch()
        for name in (FULL,) if bench.smoke else (FULL, THIN):
            accuracies[name] = once(bench, name, mine)
    them = theirs.end() if theirs else []
    if theirs:
        print(f"accuracy of Keras after {bench.rounds + 1} epochs: {theirs.said['test']:.4f}", file=sys.stderr)
    print(f"accuracy of ours after {EPOCHS}: {accuracies}", file=sys.stderr)
    for case, values in mine.items():
        yield Row("training to the test accuracy, 12 epochs", "Keras notebook, full ResNet-50", case, them, values)


def once(bench: Bench, name: str, mine: Times) -> float:
    """Train cold and warm, note the seconds, and give the accuracy on the test photos."""
    with tempfile.TemporaryDirectory() as folder:
        for state in ("cold", "warm"):
            run = Path(folder, state)
            shutil.copytree(bench.split(), run)
            steps = train(run, bench.backbone(name), Path(folder, "cache"), 1 if bench.smoke else None)
            mine.setdefault(f"{name}, {state}", []).append(sum(step.seconds for step in steps))
            said = ", ".join(f"{step.seconds:.1f} s" for step in steps)
            print(f"{name}, {state}: train, calibrate, evaluate {said}", file=sys.stderr)
        return accuracy(run)


def accuracy(run: Path) -> float:
    """Of all test photos of an evaluated run."""
    told = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    value: float = told["protocols"][0]["accuracy"]["value"]
    return value


class Notebook:
    """The Keras notebook, an epoch at a time."""

    def __init__(self, bench: Bench) -> None:
        options = ("--epochs", bench.rounds + 1, "--pause")
        command = sides.program(bench.peers, "keras_notebook.py", "train", bench.data, bench.weights, *options)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=sides.environment()
        )
        self.ready = self._said()["ready"]
        self.epochs: list[float] = []
        self.epoch()

    def epoch(self) -> None:
        """Let it do one."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.epochs.append(self._said()["epoch"])

    def end(self) -> list[float]:
        """Let it evaluate; the seconds of all 12 epochs, by round."""
        self.said = self._said()
        self.process.communicate()
        first, *others = self.epochs
        fixed = self.ready + self.said["evaluate"]
        print(f"Keras: {fixed:.1f} s beside the epochs, {first:.1f} s the first, then {others}", file=sys.stderr)
        return [fixed + first + (EPOCHS - 1) * other for other in others]

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        sys.exit(f"the Keras notebook ended with {self.process.wait()}")


def whole(bench: Bench) -> None:
    """All of the notebook, once, without a stop."""
    command = sides.program(bench.peers, "keras_notebook.py", "train", bench.data, bench.weights)
    told = sides.watched(command)
    print(f"Keras, 12 epochs without a stop: {told.seconds:.0f} s, {told.peak:.0f} MB, {told.said}")


if __name__ == "__main__":
    main()
