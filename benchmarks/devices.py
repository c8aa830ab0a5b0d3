"""How fast layers are trained on the device that is here, and how long a step waits for its photos.

    python benchmarks/devices.py PHOTOS [--rounds 5] [--steps 3] [--backbone open-nsfw-thin] [--ways 0 1 2 3 4]
    torchrun --nproc-per-node 2 benchmarks/devices.py PHOTOS
    python benchmarks/devices.py --memory

The recipe is `finetune`, 32 photos a step. Ways take turns, round by round, and ratios are taken within a round; the
first step of each way is not counted. With several processes, a step's photos are divided among them.
`--memory`: reads photos at random from a decoded cache of 1.5 GB, and tells what memory of its own that takes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spectraderm.core.parallel import in_order
from spectraderm.core.progress import no_track
from spectraderm.data.manifest import Row
from spectraderm.images.preprocessing import Pixels, Preprocessing, decode
from spectraderm.training import dataset, environment, fold, loop, stepping
from spectraderm.training import distributed as processes
from spectraderm.training import network as model
from spectraderm.training import recipe as config
from spectraderm.training.moving import Moving
from spectraderm.training.optimising import copied, optimizer_of

CLASSES, BATCH = 8, 32
MEMORY_PHOTOS = 10_000


@dataclass(frozen=True)
class Way:
    """A way to train layers: its name, and what is other than usual."""

    name: str
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.channels_last
    compiled: bool = False
    ahead: bool = True


WAYS = (
    Way("fp32", layout=torch.contiguous_format),
    Way("fp32, channels last (what is used on a CPU)"),
    Way("fp32, channels last, augmented between steps", ahead=False),
    Way("bf16, channels last (what is used on a GPU)", torch.bfloat16),
    Way("fp32, channels last, compiled", compiled=True),
)
"""Compiling needs a C++ compiler, and a minute; bf16 is very slow on processors without units for it."""


class Training:
    """The layers of a network, ready for step after step in one way."""

    def __init__(self, way: Way, pixels: Pixels, name: str, team: processes.Team) -> None:
        torch.manual_seed(0)
        self.way, self.team, self.recipe = way, team, config.load("finetune")
        backbone = model.load_backbone(name)
        network = model.build(backbone, self.recipe, [str(number) for number in range(CLASSES)])
        network.train(False)
        nn.Module.to(network, team.device)
        preprocessing = self.recipe.preprocessing(backbone.mean, backbone.std)
        rows = np.arange(len(pixels))
        about = loop.Photos(rows % CLASSES, rows, rows, rows)
        normalise = model.Normalise(preprocessing).to(team.device)
        trainer = fold.Trainer(
            self.recipe, pixels, [], None, None, None, about.targets, rows, preprocessing, normalise, team, no_track
        )  # fmt: skip
        self.task = replace(trainer.layers_of(network, about), dtype=way.dtype)
        nn.Module.to(network, memory_format=way.layout)  # type: ignore[call-overload]
        if way.compiled:
            self.task.forward.compile()
        moving = Moving(
            network,
            optimizer_of(self.task.parameters, self.recipe),
            torch.amp.GradScaler(team.device.type, enabled=False),
            copied(network.state_dict()),
            {},
        )
        self.step = stepping.Stepper(self.task, self.recipe, moving, team, team.joined(self.task.forward))

    def round(self, steps: int) -> tuple[float, float]:
        """Photos a second of so many steps after a first one, and the share of that time that they wait for photos."""
        batches = stepping.Batches(self.task, self.recipe, 0, self.team)
        rows = np.arange(BATCH)
        jobs = range(steps + 1)
        make: Callable[[int], list[stepping.Part]] = lambda step: batches.parts(rows, 1, step)  # noqa: E731
        ahead = in_order(make, jobs, 1, dataset.AHEAD)
        parts: Iterator[list[stepping.Part]] = (made for _, made in ahead) if self.way.ahead else map(make, jobs)
        waited = 0.0
        self.step(next(parts), BATCH, 1.0, 0)
        self._end()
        began = time.perf_counter()
        for number in range(steps):
            asked = time.perf_counter()
            own = next(parts)
            waited += time.perf_counter() - asked
            self.step(own, BATCH, 1.0, number)
        self._end()
        took = time.perf_counter() - began
        return steps * BATCH / took, waited / took

    def _end(self) -> None:
        if self.team.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="folder of photos; noise if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--backbone", default="open-nsfw-thin")
    parser.add_argument("--ways", type=int, nargs="+", default=list(range(len(WAYS))), help="numbers of rows, from 0")
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    if given.memory:
        print(memory())
        return
    environment.keep_freed_memory()
    team = processes.start(Path(), "auto", None)
    pixels = read(given.photos) if given.photos else noise(BATCH)
    ways = [WAYS[number] for number in given.ways]
    trainings = [Training(way, pixels, given.backbone, team) for way in ways]
    measured = [[training.round(given.steps) for training in trainings] for _ in range(given.rounds)]
    if team.first:
        threads = torch.get_num_threads()
        print(f"{team.device}, {team.size} process(es), {threads} thread(s) each, torch {torch.__version__}")
        print(table(ways, measured))
    team.end()


def table(ways: list[Way], measured: list[list[tuple[float, float]]]) -> str:
    """Medians over rounds; ratios to the first way, round by round."""
    lines = [
        "| a step of 32 photos | photos/s | ratio to the first | share of time it waits |",
        "| --- | --- | --- | --- |",
    ]
    for number, way in enumerate(ways):
        rates = [row[number][0] for row in measured]
        ratios = [row[number][0] / row[0][0] for row in measured]
        waits = [row[number][1] for row in measured]
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        lines.append(
            f"| {way.name} | {statistics.median(rates):.1f} | {statistics.median(ratios):.2f} {spread} "
            f"| {100 * statistics.median(waits):.1f} % |"
        )
    return "\n".join(lines)


def read(folder: Path) -> Pixels:
    """The first photos of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:BATCH]
    preprocessing = Preprocessing(config.load("finetune").image_size)
    return np.stack([preprocessing(decode(path.read_bytes(), path.name).image) for path in files])


def noise(count: int, seed: int = 0) -> Pixels:
    """Pixels of photos of nothing."""
    return np.random.default_rng(seed).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def memory() -> str:
    """What anonymous memory grows by while a cache is decoded and read that does not fit into it."""
    rows = [Row(str(number), "a", "", f"{number:064d}", "JPEG", 1, 1, 1, number) for number in range(MEMORY_PHOTOS)]
    blank = noise(1)[0]
    dataset.read_photo = lambda _root, row, _preprocessing: blank + np.uint8(row.photo_group % 256)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        pixels = dataset.Decoded(Path(folder), rows, Preprocessing(224), Path(folder))
        pixels[:BATCH]
        before = anonymous()
        began, peak = time.perf_counter(), 0.0
        pixels.all(no_track)
        decoded = time.perf_counter() - began
        again = dataset.Decoded(Path(folder), rows, Preprocessing(224), Path(folder))
        order, began = np.random.default_rng(0).permutation(MEMORY_PHOTOS), time.perf_counter()
        for start in range(0, MEMORY_PHOTOS, BATCH):
            again[order[start : start + BATCH]]
            peak = max(peak, anonymous() - before)
        took = time.perf_counter() - began
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
    return (
        f"{MEMORY_PHOTOS} photos, {size:.0f} MB on disk: anonymous memory grew by {peak:.0f} MB. Written in "
        f"{decoded:.1f} s; read in random order, and checked, in {took:.1f} s ({MEMORY_PHOTOS / took:.0f} photos/s)"
    )


def anonymous() -> float:
    """The process's own memory, MB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
