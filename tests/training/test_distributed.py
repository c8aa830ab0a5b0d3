"""Several processes train one network together: to what one process gives, and through a kill."""

import csv
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tinynet import prepare, train_one
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.optim.optimizer import register_optimizer_step_post_hook

from spectraderm.core.errors import DatasetError, RunFolderError, SpectraDermError
from spectraderm.core.fold import Fold
from spectraderm.core.run import Run
from spectraderm.training import distributed

TOLERANCE = 5e-5
"""Of weights and logits, relative to the largest: how far the result of several processes may be from that of one."""

Start = Callable[..., list[int]]
GOOD = ("", 0)


def one_of(rank: int, size: int, port: int, said: Path, event: str, count: int, *about: Any) -> None:  # noqa: ANN401
    """Train as one of several processes; `event` happens to this one at a step of the optimizer, counted from 1."""
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    launcher = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    if size > 1:
        os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"} | launcher
    left = [count]

    def step(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0 and event == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if left[0] == 0 and event == "lost":
            raise DatasetError("photo.jpg can't be read any more", "Run `audit` again")

    register_optimizer_step_post_hook(step)
    try:
        train_one(*about)
    except SpectraDermError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


@pytest.fixture(scope="module")
def start(tiny: Path) -> Start:
    """Run `one_of` in so many processes, and give their exit codes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spectraderm.training.train", "tinynet"])

    def start(run: Path, events: Sequence[tuple[str, int]], changes: dict[str, Any] | None = None) -> list[int]:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as `torchrun` has it
        about = (run, "finetune", tiny, changes, (run / "config.json").exists())
        processes = [
            context.Process(target=one_of, args=(rank, len(events), store.port, run / "said.txt", *event, *about))
            for rank, event in enumerate(events)
        ]
        for process in processes:
            process.start()
        until = time.monotonic() + 100
        for process in processes:
            process.join(max(0, until - time.monotonic()))
        hanging = [process for process in processes if process.is_alive()]
        for process in hanging:
            process.kill()
        assert hanging == []
        return [process.exitcode or 0 for process in processes]

    return start


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    return prepare(tmp_path / "run", photos)


def final(run: Path) -> Fold:
    return Run(run).fold("final")


def apart(one: Path, other: Path) -> float:
    """The largest difference of two runs' weights or logits, relative to the largest of its tensor."""

    def result(run: Path) -> dict[str, Tensor]:
        return load_file(final(run).checkpoint) | {"logits": torch.from_numpy(Run(run).logits("final").values)}

    first, second = result(one), result(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / second[name].abs().max().clamp(1e-3)) for name in first)


def history(run: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    with final(run).history.open() as file:
        return np.array([[float(v) for name, v in row.items() if name != "seconds"] for row in csv.DictReader(file)])


def files(run: Path) -> set[str]:
    return {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()} - {"said.txt"}


def errors(run: Path) -> list[str]:
    return sorted(line for line in (run / "said.txt").read_text().splitlines() if line.startswith("error: "))


def test_a_killed_training_resumes_to_the_bytes_of_an_unbroken_one(
    start: Start, runs: dict[str, Path], tiny: Path, run: Path
) -> None:
    # Twelve steps of the head, and of all layers two epochs of three steps each, and the second one of the third.
    assert start(run, [("killed", 20)]) == [-signal.SIGKILL]
    fold, unbroken = final(run), final(runs["finetune"])
    before = fold.history.read_text().splitlines()
    assert len(before) == 1 + 2
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        train_one(run, "finetune", tiny)
    train_one(run, "finetune", tiny, resume=True)
    assert fold.history.read_text().splitlines()[:3] == before  # with the seconds they took
    for name in ("checkpoint.safetensors", "logits.csv", "features.npy"):
        assert (fold.folder / name).read_bytes() == (unbroken.folder / name).read_bytes(), name
    assert files(run) == files(runs["finetune"])  # no state is left


def test_two_processes_train_to_what_one_does(start: Start, photos: Path, tiny: Path, run: Path) -> None:
    changes = {"batch_size": 10, "accumulate": 2, "clip_norm": 0.0, "learning_rate": 0.005, "epochs": 2}
    # The last batch has one photo, and so one process has no share.
    alone = train_one(prepare(run.with_name("alone"), photos), "finetune", tiny, changes)
    assert start(run, [GOOD, GOOD], changes) == [0, 0]
    assert apart(run, alone) < TOLERANCE
    assert np.allclose(history(run), history(alone), rtol=1e-4)
    assert files(run) == files(alone)


def test_where_a_process_is_killed_another_says_so_and_the_training_goes_on_in_any_number(
    start: Start, runs: dict[str, Path], tiny: Path, run: Path
) -> None:
    assert start(run, [GOOD, ("killed", 5)]) == [2, -signal.SIGKILL]  # in epoch 2, for only the main one has a head
    assert errors(run) == ["error: Another process of this training ended. Start all again with --resume"]
    assert len(history(run)) == 1
    train_one(run, "finetune", tiny, resume=True)
    assert apart(run, runs["finetune"]) < TOLERANCE
    assert np.allclose(history(run), history(runs["finetune"]), rtol=1e-4)


def test_an_error_ends_all_processes_and_is_said_once(start: Start, run: Path) -> None:
    changes = {"learning_rate": 1e30, "clip_norm": 0.0, "head_epochs": 0}
    assert start(run, [GOOD, ("lost", 1)], changes) == [2, 2]
    assert errors(run) == [
        "error: Another process of this training ended. Start all again with --resume",
        "error: photo.jpg can't be read any more. Run `audit` again",
    ]
    (run / "said.txt").unlink()
    assert start(run, [GOOD, GOOD], changes) == [2, 2]
    assert errors(run) == ["error: final: the loss in epoch 1 is not a number. Lower the learning rate"]


def test_what_is_small_is_computed_by_one_thread_and_then_by_as_many_as_before() -> None:
    before = torch.get_num_threads()
    with distributed.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
