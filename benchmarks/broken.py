"""A small data set, a tiny network, and every stage as a function of its folder, to be disturbed and looked at."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch and NumPy

import numpy as np
import torch
from forking import Child, forked
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from spectraderm import pipeline
from spectraderm.core import stages
from spectraderm.core.run import CACHE, HISTORY, MODEL
from spectraderm.inference.bulk import job
from spectraderm.inference.model_folder import open_model

CHANGES: dict[str, Any] = {
    "image_size": 64,
    "train_size": 48,
    "head_epochs": 2,
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 0.05,
    "augment": 0.3,
}
"""What makes `finetune` quick: an epoch has three steps."""
LABELS, TRAINED, TESTED = ("a", "b", "c"), 8, 3


@dataclass(frozen=True)
class World:
    """Where all of it is: `root` above it, the `photos`, and a `backbone` in Hub layout."""

    root: Path
    photos: Path
    backbone: Path


@dataclass(frozen=True)
class Stage:
    """What works in a run folder (or output folder), and what goes on with it after a kill."""

    do: Callable[[World, Path], object]
    again: Callable[[World, Path], object]


def prepare(root: Path) -> World:
    """Paint the photos and make a random network."""
    world = World(root, root / "photos", root / "backbone")
    colours = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
    for label, colour in zip(LABELS, colours, strict=True):
        for number in range(TRAINED + TESTED):
            path = world.photos / ("test" if number < TESTED else "train") / label / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([ord(label), number]).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            photo = Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)
            Image.blend(photo, Image.new("RGB", photo.size, colour), 0.4).save(path, quality=90)
    code, words = forked(root, lambda _: _write_backbone(world.backbone), root).wait()
    if code:
        raise SystemExit(words)
    for file in world.backbone.iterdir():
        file.chmod(0o644)
    return world


def _write_backbone(folder: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="bottleneck")
    model = ResNetModel(config)
    for _ in range(20):
        model(torch.randn(16, 3, 64, 64))
    model.config.pool_padding = "both"
    model.save_pretrained(folder)
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))


def options(world: World, resume: bool = False) -> pipeline.Options:
    """Of all stages."""
    return pipeline.Options(
        "finetune", str(world.backbone), "original", 1, 0, resume, "cpu", None, CHANGES, crops=False
    )


def audit_and_split(world: World, run: Path) -> None:
    """Both, for the second one takes no time."""
    pipeline.audit(world.photos, run, look_for_crops=False)
    pipeline.split(run, "original", 1, 0)


def predict(world: World, run: Path) -> None:
    """By the run's own model, into a folder of the run, some photos to a part."""
    job.predict(open_model(run / MODEL), [str(world.photos)], str(run / "out"), shard_size=4)


def _same(do: Callable[[World, Path], object]) -> Stage:
    return Stage(do, do)


STAGES = {
    "audit": _same(audit_and_split),
    "train": Stage(
        lambda world, run: pipeline.train(run, options(world)),
        lambda world, run: pipeline.train(run, options(world, resume=True)),
    ),
    "calibrate": _same(lambda _, run: pipeline.calibrate(run)),
    "evaluate": _same(lambda _, run: pipeline.evaluate(run)),
    "export": _same(lambda _, run: pipeline.export_model(run)),
    "predict": _same(predict),
}


@dataclass(frozen=True)
class Unbroken:
    """A stage that nothing disturbed: the folder before and after, how long it took, and how often it wrote."""

    before: Path
    after: Path
    seconds: float
    writes: int


def unbroken_stages(world: World, wanted: Iterable[str]) -> dict[str, Unbroken]:
    """Every stage up to the last that is wanted, each in a copy of what the one before left."""
    found, before = {}, world.root / "nothing"
    before.mkdir()
    for name in list(STAGES)[: 1 + max(list(STAGES).index(one) for one in wanted)]:
        after = world.root / f"{name}-unbroken"
        started, said = time.perf_counter(), started_in(world, name, copied(before, after))
        code, words = said.wait()
        if code:
            raise SystemExit(f"{name} can't be run: {words}")
        found[name] = Unbroken(before, after, time.perf_counter() - started, said.writes())
        before = after
    return found


def started_in(world: World, name: str, out: Path, again: bool = False, **watched: Any) -> Child:  # noqa: ANN401
    """A child at work on a stage; see `forked`."""
    stage = STAGES[name].again if again else STAGES[name].do
    return forked(world.root, lambda folder: stage(world, folder), out, **watched)


def copied(before: Path, after: Path) -> Path:
    """A copy of a folder, in place of what was there."""
    shutil.rmtree(after, ignore_errors=True)
    return Path(shutil.copytree(before, after))


def content(folder: Path) -> dict[str, bytes]:
    """All files by relative name, but what is only kept to be quicker; without the seconds that epochs took."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(f"{CACHE}/"):
            found[name] = _timeless(name, path.read_bytes())
    return found


def _timeless(name: str, data: bytes) -> bytes:
    lines = data.split(b"\n")
    if name.endswith(HISTORY):
        return b"\n".join(line.rpartition(b",")[0] for line in lines)
    if name == stages.CHECKSUMS:
        return b"\n".join(line for line in lines if not line.endswith(HISTORY.encode()))
    return data


def differing(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Names of files that lack, are too many, or have other bytes."""
    return [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
