"""Stages in forked children, whose every write is heard: to be counted, made to fail, or the last thing that they do.

A small data set and a tiny network. The parent imports everything once and computes nothing, so that a child starts in
milliseconds and no thread is lost.
"""

import importlib.readers  # noqa: F401 - for somebody who may not read what root has installed
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before torch and NumPy

import numpy as np
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetModel

from spectraderm import pipeline
from spectraderm.core.errors import SpectraDermError, of_system
from spectraderm.core.run import CACHE, HISTORY, MODEL
from spectraderm.core.stages import CHECKSUMS
from spectraderm.data import shortcuts
from spectraderm.evaluation import ledger
from spectraderm.inference.bulk import job
from spectraderm.inference.model_folder import open_model

_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
_LIMIT = 300

OnWrite = Callable[[str, int, str], object]
"""What hears of each write: its audit event, or `fsync`; its number, counted from 1; and the file, where known."""


@dataclass
class Child:
    """A forked process."""

    process: int
    told: Path

    def wait(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and its error's words. Raises `TimeoutError` where it hangs."""
        until = time.monotonic() + _LIMIT
        while time.monotonic() < until:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                words = (self.told / "error").read_text() if (self.told / "error").exists() else ""
                return os.waitstatus_to_exitcode(status), words
            time.sleep(0.002)
        os.kill(self.process, signal.SIGKILL)
        raise TimeoutError(f"after {_LIMIT} s")

    def writes(self) -> int:
        """How often it wrote. Once it has ended."""
        return int((self.told / "writes").read_text())


def forked(
    root: Path,
    do: Callable[[Path], object],
    out: Path,
    on_write: OnWrite = lambda *_: None,
    before: Callable[[], object] = lambda: None,
    user: int = 0,
) -> Child:
    """Start something in a child. `on_write` hears of each of its writes below `root`; it may raise, or kill.

    `before` is done there first; where root asks, it is done as another `user`. The exit code is 2 after an error that
    is for people, as on the command line, and 3 after any other.
    """
    told = Path(tempfile.mkdtemp(dir=root, prefix="told-"))
    process = os.fork()
    if process:
        return Child(process, told)
    code = 3
    try:
        before()
        if user:
            os.chown(told, user, user)
            os.setgid(user)
            os.setuid(user)
        count = _listen(root, on_write)
        os.environ["SPECTRADERM_CACHE"] = str(told / "cache")
        tempfile.tempdir = str(told)
        shortcuts._TREES = 3
        ledger.datetime = _Standing  # type: ignore[attr-defined]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            do(out)
        (told / "writes").write_text(str(count[0]))
        code = 0
    except (SpectraDermError, OSError) as error:  # as `console.run` does
        code = 2
        (told / "error").write_text(str(error if isinstance(error, SpectraDermError) else of_system(error)))
    except BaseException:
        (told / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


class _Standing(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, _: object = None) -> datetime:  # type: ignore[override]
        return datetime(2026, 1, 1, tzinfo=UTC)


def _listen(root: Path, on_write: OnWrite) -> list[int]:
    """Count the writes below a folder."""
    count, below, sync = [0], f"{root}{os.sep}", os.fsync

    def write(what: str, path: str = "") -> None:
        count[0] += 1
        on_write(what, count[0], path)

    def hear(event: str, about: tuple[Any, ...]) -> None:
        if event not in _WRITES and (event != "open" or not _for_writing(about)):
            return
        if str(about[0]).startswith(below) and not str(about[0]).startswith(f"{below}told-"):
            write(event, str(about[0]))

    def synced(handle: int) -> None:
        write("fsync")
        sync(handle)

    sys.addaudithook(hear)
    os.fsync = synced  # type: ignore[assignment]
    return count


def _for_writing(about: tuple[Any, ...]) -> bool:
    flags = about[2] if isinstance(about[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


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


def _audit_and_split(world: World, run: Path, _: bool) -> None:
    pipeline.audit(world.photos, run, look_for_crops=False)
    pipeline.split(run, "original", 1, 0)  # takes no time


STAGES: dict[str, Callable[[World, Path, bool], object]] = {
    "audit": _audit_and_split,
    "train": lambda world, run, again: pipeline.train(run, options(world, again)),
    "calibrate": lambda _, run, __: pipeline.calibrate(run),
    "evaluate": lambda _, run, __: pipeline.evaluate(run),
    "export": lambda _, run, __: pipeline.export(run),
    "predict": lambda world, run, _: job.predict(
        open_model(run / MODEL), [str(world.photos)], str(run / "out"), shard_size=4
    ),
}
"""What is done in a run folder, and whether it is done again after a kill."""


@dataclass(frozen=True)
class Unbroken:
    """A stage that nothing disturbed: the folder before and after, and how often it wrote."""

    before: Path
    after: Path
    writes: int


def unbroken_stages(world: World, wanted: Iterable[str]) -> dict[str, Unbroken]:
    """Every stage up to the last that is wanted, each in a copy of what the one before left."""
    found, before = {}, world.root / "nothing"
    before.mkdir()
    for name in list(STAGES)[: 1 + max(list(STAGES).index(one) for one in wanted)]:
        after = world.root / f"{name}-unbroken"
        said = started_in(world, name, copied(before, after))
        code, words = said.wait()
        if code:
            raise SystemExit(f"{name} can't be run: {words}")
        found[name] = Unbroken(before, after, said.writes())
        before = after
    return found


def started_in(world: World, name: str, out: Path, again: bool = False, **watched: Any) -> Child:  # noqa: ANN401
    """A child at work on a stage; see `forked`."""
    return forked(world.root, lambda folder: STAGES[name](world, folder, again), out, **watched)


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
    if name == CHECKSUMS:
        return b"\n".join(line for line in lines if not line.endswith(HISTORY.encode()))
    return data


def differing(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    """Names of files that lack, are too many, or have other bytes."""
    return [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
