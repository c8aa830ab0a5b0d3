"""Beside other programs: the Keras notebook, `transformers.pipeline`, and loops of PyTorch and of OpenVINO as a trained
hand writes them, in one run, as a Markdown table.

    make bench-peers                                   # installs them, once
    python benchmarks/peers.py PHOTOS [--rounds 5] [--only first large folder training] [--peers PYTHON]

PHOTOS holds train_set and test_set; painted ones are made where it is left out. Each side is a new process in every
round, in turns, with all cores; a number is the median of the rounds with the lowest and the highest, ratios are taken
round by round. What is prepared once goes to `--work`. Both sides have the same full ResNet-50 (`resnet50.py`); the
default model is measured beside it. OpenVINO's loop gets the network that ours has in the same line.

first     a new process, one photo (640x480), its first line of output; and the most memory that was resident
large     a 12-megapixel JPEG, the model loaded: median of ten answers
folder    the test photos. As usual: one by one for a peer, as the notebook and pipelines are used, and what
          `spectraderm predict` does for us. In batches: the peer takes many at once, too. Ours also in 16-bit floats,
          where the processor has them, and in 8-bit integers (of the default model's shape: the notebook's recipe)
training  the notebook's recipe to the accuracy on the test photos. Theirs: from its start to its confusion matrix; an
          epoch is timed in every round while ours waits, and 12 epochs are put together: start + first epoch + 11 times
          the round's + evaluation. Ours: train, calibrate, evaluate in a folder that was split before, with an empty
          cache of features (cold) and a full one (warm)
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
from timing import Row, Watched

import spectraderm
from spectraderm.core.errors import SpectraDermError
from spectraderm.data.synthetic import paint

KERAS, PIPELINE, NONE = "Keras notebook", "transformers.pipeline", "no peer"
TORCH, OPENVINO = "PyTorch loop", "OpenVINO loop"
PEERS = (KERAS, PIPELINE, TORCH, OPENVINO)
DEFAULT, FULL, THIN = "default model", "full ResNet-50", "open-nsfw-thin"
EPOCHS = 12
Times = dict[str, list[float]]


def main() -> None:
    """Print a table."""
    parser = timing.parser(__doc__)
    parser.add_argument("data", type=Path, nargs="?", help="folder with train_set and test_set; painted if not given")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"))
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--smoke", action="store_true", help="tiny, painted, one round, without peers: does it run?")
    bench = Bench(parser.parse_args())
    if not bench.with_peers:
        print("Peers are not installed, so that only our side is measured: make bench-peers", file=sys.stderr)
    print(f"{timing.machine()}\n\n{timing.HEADER}", flush=True)
    for name in bench.given.only:
        for row in TABLES[name](bench):
            print(row.line(), flush=True)


@dataclass(frozen=True)
class Bench:
    """What the comparisons need before a clock runs; made once, in `--work`."""

    given: argparse.Namespace

    @property
    def work(self) -> Path:
        """Where it is kept."""
        return Path(self.given.work / "smoke" if self.given.smoke else self.given.work).resolve()

    @property
    def rounds(self) -> int:
        """How often each side takes its turn."""
        return 1 if self.given.smoke else int(self.given.rounds)

    @property
    def with_peers(self) -> bool:
        """Whether there is another side."""
        return bool(self.given.peers.exists() and not self.given.smoke)

    @property
    def data(self) -> Path:
        """The photos."""
        if self.given.data and not self.given.smoke:
            return Path(self.given.data).resolve()
        folder = self.work / "photos"
        if not folder.is_dir():
            for broken in paint(folder, per_class=4 if self.given.smoke else 24).unreadable:
                (folder / broken).unlink()
        return folder

    @property
    def weights(self) -> Path:
        """A full ResNet-50, in Hub layout."""
        import resnet50  # noqa: PLC0415  # it brings torch along

        return resnet50.write(self.work / "resnet50", self.given.smoke)

    @property
    def split(self) -> Path:
        """A run folder, audited and split as the folders came, and not trained."""
        run = self.work / "split"
        if not (run / "split.csv").is_file():
            shutil.rmtree(run, ignore_errors=True)
            timing.spectraderm("audit", self.data, "--out", run, "--no-crops")
            timing.spectraderm("split", run, "--split", "original", "--folds", 1)
        return run

    @property
    def models(self) -> dict[str, Path]:
        """The model folders of ours, by name: the default one, and the notebook's recipe on the full ResNet-50."""
        run = self.exported("full", FULL)
        default = Path(spectraderm.__file__).parent / "default_model"
        return {FULL: run / "model"} if self.given.smoke else {DEFAULT: default, FULL: run / "model"}

    @property
    def faster(self) -> dict[str, tuple[object, ...]]:
        """What else answers a folder, by name: a model folder, and its runtime and precision."""
        if self.given.smoke:
            return {}
        both: dict[str, tuple[object, ...]] = {}
        with suppress(SpectraDermError):
            spectraderm.load_model(runtime="openvino", precision="bf16")
            both = {f"{name}, bf16": (model, "openvino", "bf16") for name, model in self.models.items()}
        return both | {
            f"{name}, int8": (self.exported(folder, backbone) / "model-int8",)
            for name, folder, backbone in ((DEFAULT, "thin", THIN), (FULL, "full", FULL))
        }

    def exported(self, name: str, backbone: str) -> Path:
        """A run folder of the notebook's recipe with both of its model folders."""
        run = self.work / name
        if not (run / "model").is_dir():
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(self.split, run)
            self.train(run, backbone, self.work / "cache")
            timing.spectraderm("export", run)
        if not self.given.smoke and not (run / "model-int8").is_dir():
            timing.spectraderm("export", run, "--int8")
        return run

    def train(self, run: Path, backbone: str, cache: Path) -> list[Watched]:
        """The notebook's recipe in a split run folder, to its accuracy on the test photos."""
        weights = self.weights if backbone == FULL or self.given.smoke else backbone
        options = ["--recipe", "notebook", "--backbone", weights, "--epochs", 1 if self.given.smoke else EPOCHS]
        stages = [("train", run, *options), ("calibrate", run), ("evaluate", run)]
        return [timing.spectraderm(*stage, cache=cache) for stage in stages]

    def ask_peers(self, mode: str, what: Path) -> Iterator[tuple[str, Watched]]:
        """Every peer that is installed, asked once in a new process."""
        if not self.with_peers:
            return
        pipeline = self.work / "pipeline"
        if not (pipeline / "config.json").is_file():
            self._peer("transformers_pipeline.py", "write", pipeline, self.weights)
        yield KERAS, self._peer("keras_notebook.py", mode, what, self.weights)
        yield PIPELINE, self._peer("transformers_pipeline.py", mode, what, pipeline)
        yield TORCH, self._peer("torch_loop.py", mode, what, pipeline)
        for name, model in self.models.items():
            yield f"{OPENVINO}, {name}", self._peer("openvino_loop.py", mode, what, model / "onnx/model.onnx")

    def ask_ours(self, mode: str, what: Path, more: dict[str, tuple[object, ...]]) -> Iterator[tuple[str, Watched]]:
        """Every model of ours, asked once in a new process, as the peers are."""
        script = str(timing.HERE / "peers/ours.py")
        for name, how in ({name: (model,) for name, model in self.models.items()} | more).items():
            yield name, timing.watched([sys.executable, script, mode, str(what), *map(str, how)])

    def _peer(self, script: str, *arguments: object) -> Watched:
        return timing.watched([str(self.given.peers), str(timing.HERE / "peers" / script), *map(str, arguments)])

    def rows(self, what: str, times: Times, unit: str = "s") -> Iterator[Row]:
        """Every peer against every model of ours."""
        for peer in PEERS if self.with_peers else (NONE,):
            for name in [name for name in times if name.startswith(tuple(self.models))]:
                shape = name.partition(",")[0]
                yield Row(what, peer, name, times.get(peer) or times.get(f"{peer}, {shape}", []), times[name], unit)


def first(bench: Bench) -> Iterator[Row]:
    """A new process to its first answer, and its memory."""
    photo = timing.painted(bench.work / "photo.jpg", (640, 480))
    seconds: Times = {}
    memory: Times = {}
    for turn in range(bench.rounds + 1):
        asked = [*bench.ask_peers("first", photo)]
        for name, model in bench.models.items():
            asked.append((name, timing.spectraderm("predict", photo, "--model", model, "--format", "jsonl")))
        for name, answer in asked if turn else []:  # the first round reads the files from disk
            seconds.setdefault(name, []).append(answer.first)
            memory.setdefault(name, []).append(answer.peak)
    yield from bench.rows("cold process to first answer", seconds)
    yield from bench.rows("memory of that", memory, "MB")


def large(bench: Bench) -> Iterator[Row]:
    """A 12-megapixel JPEG to its answer."""
    photo = timing.painted(bench.work / "large.jpg", (800, 600) if bench.given.smoke else (4000, 3000))
    times: Times = {}
    for _ in range(bench.rounds):
        for name, told in [*bench.ask_peers("large", photo), *bench.ask_ours("large", photo, {})]:
            times.setdefault(name, []).append(1000 * statistics.median(told.last["answers"]))
    yield from bench.rows("12-megapixel JPEG to answer", times, "ms")


def folder(bench: Bench) -> Iterator[Row]:
    """All test photos."""
    photos = bench.data / "test_set"
    single: Times = {}
    together: Times = {}
    for _ in range(bench.rounds):
        for name, told in [*bench.ask_peers("predict", photos), *bench.ask_ours("predict", photos, bench.faster)]:
            ours = name.startswith(tuple(bench.models))
            single.setdefault(name, []).append(told.last["together" if ours else "one_by_one"])
            together.setdefault(name, []).append(told.last["together"])
    yield from bench.rows("test photos, as usual", single)
    yield from bench.rows("test photos, in batches", together)


def training(bench: Bench) -> Iterator[Row]:
    """The notebook's recipe to the accuracy on the test photos, by both backbones, cold and warm."""
    times: Times = {}
    notebook = Notebook(bench) if bench.with_peers else None
    for _ in range(bench.rounds):
        if notebook:
            notebook.epoch()
        for backbone in (FULL,) if bench.given.smoke else (FULL, THIN):
            with tempfile.TemporaryDirectory() as temporary:
                for state in ("cold", "warm"):
                    run = Path(shutil.copytree(bench.split, Path(temporary, state)))
                    stages = bench.train(run, backbone, Path(temporary, "cache"))
                    times.setdefault(f"{backbone}, {state}", []).append(sum(stage.seconds for stage in stages))
                told = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
            accuracy = told["protocols"][0]["accuracy"]["value"]
            print(f"test accuracy of ours, {backbone}: {accuracy:.4f}", file=sys.stderr)
    theirs = notebook.end() if notebook else []
    for name, seconds in times.items():
        yield Row("training to the test accuracy, 12 epochs", KERAS if notebook else NONE, name, theirs, seconds)


class Notebook:
    """The Keras notebook, an epoch at a time."""

    def __init__(self, bench: Bench) -> None:
        script = str(timing.HERE / "peers/keras_notebook.py")
        command = [bench.given.peers, script, "train", bench.data, bench.weights, "--pause"]
        self.process = subprocess.Popen(
            [*map(str, command), "--epochs", str(bench.rounds + 1)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=timing.environment(),
        )
        self.ready = self._next()["ready"]
        self.epochs: list[float] = []
        self.epoch()

    def epoch(self) -> None:
        """Let it do one."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.epochs.append(self._next()["epoch"])

    def end(self) -> list[float]:
        """Let it evaluate; the seconds of all 12 epochs, by round."""
        told = self._next()
        self.process.communicate()
        print(f"test accuracy of Keras after {len(self.epochs)} epochs: {told['test']:.4f}", file=sys.stderr)
        start, *others = self.epochs
        return [self.ready + told["evaluate"] + start + (EPOCHS - 1) * other for other in others]

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        sys.exit(f"the Keras notebook ended with {self.process.wait()}")


TABLES = {"first": first, "large": large, "folder": folder, "training": training}

if __name__ == "__main__":
    main()
