"""Killed with SIGKILL in the middle, then resumed: to the byte what an unbroken training gives."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tinynet import prepare, train_one
from torch.optim.optimizer import register_optimizer_step_post_hook

from spectraderm.core.errors import RunFolderError
from spectraderm.training import checkpoint as state

FOLD = Path("folds/final")
LOGITS, STATE, HISTORY = FOLD / "logits.csv", FOLD / "state.safetensors", FOLD / "history.csv"
CHECKPOINT = FOLD / "checkpoint.safetensors"
PREVIOUS = FOLD / state.PREVIOUS
FILES = {path.name: path.name.split(".")[0] for path in (LOGITS, STATE, PREVIOUS, CHECKPOINT)}

Kill = Callable[[Path, str, str, int], Path]


def train_and_die(run: Path, recipe: str, backbone: Path, event: str, count: int) -> None:
    """Train, and be killed at a `step` of the optimizer or just before a file gets its name, counted from 1.

    These files are `FILES`, and `features` that trained layers have of changed copies. States are written at each step.
    """
    left = [count]
    state.Keeper.due = True  # type: ignore[method-assign,assignment]

    def hear(heard: str) -> None:
        left[0] -= heard == event
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, about: tuple[Any, ...]) -> None:
        if name == "os.rename" and (file := Path(about[1])).is_relative_to(run / FOLD):
            hear(FILES.get(file.name, "") if file.parent == run / FOLD else file.suffix[1:])

    register_optimizer_step_post_hook(lambda *_: hear("step"))
    sys.addaudithook(audit)
    train_one(run, recipe, backbone)


@pytest.fixture(scope="module")
def kill(photos: Path, tiny: Path) -> Kill:
    """Run `train_and_die` in a process of its own, forked off one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spectraderm.training.train"])

    def kill(run: Path, recipe: str, event: str, count: int) -> Path:
        prepare(run, photos)
        process = context.Process(target=train_and_die, args=(run, recipe, tiny, event, count))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        assert not (run / LOGITS).exists()
        return run

    return kill


@pytest.mark.parametrize(
    ("recipe", "event", "count", "epochs"),
    [
        ("notebook", "step", 11, 3),  # in epoch 4
        ("notebook", "state", 7, 1),  # at step 2 of 3 in epoch 2; an epoch's end has a state of its own
        ("finetune", "step", 5, 0),  # in the head's epoch 2
        ("finetune", "step", 14, 0),  # the head is done, all layers are in epoch 1
        ("finetune", "step", 20, 2),  # in epoch 3
        ("finetune", "state", 12, 2),  # epoch 3 is done, its state has no name yet, and the one before another one
        ("finetune", "previous", 5, 1),
        ("finetune", "features", 5, 5),  # all layers are trained, five of twelve copies have been looked at
        ("finetune", "checkpoint", 1, 5),  # the head in closed form is fitted, too
        ("finetune", "logits", 1, 5),  # it has a file
        ("discriminant", "logits", 1, 1),
    ],
)
def test_a_killed_training_resumes_to_the_same_bytes(
    recipe: str, event: str, count: int, epochs: int, kill: Kill, runs: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    unbroken, run = runs[recipe], kill(tmp_path / "run", recipe, event, count)
    done = len((run / HISTORY).read_text().splitlines()) - 1 if (run / HISTORY).exists() else 0
    assert done == epochs
    train_one(run, recipe, tiny, resume=True)
    for name in (LOGITS, CHECKPOINT):
        assert (run / name).read_bytes() == (unbroken / name).read_bytes()
    for folder in (run, unbroken):
        assert {file.name for file in (folder / FOLD).iterdir()} >= {LOGITS.name, CHECKPOINT.name, HISTORY.name}
        assert not (folder / STATE).exists()
        assert not (folder / PREVIOUS).exists()
        assert not (folder / FOLD / "head").exists()


def test_resuming_does_not_start_again(kill: Kill, tiny: Path, tmp_path: Path) -> None:
    run = kill(tmp_path / "run", "finetune", "step", 20)
    before = (run / HISTORY).read_text().splitlines()
    train_one(run, "finetune", tiny, resume=True)
    assert (run / HISTORY).read_text().splitlines()[: len(before)] == before  # with the seconds they took


def test_a_killed_training_is_not_gone_on_with_unasked(kill: Kill, tiny: Path, tmp_path: Path) -> None:
    run = kill(tmp_path / "run", "notebook", "step", 11)
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        train_one(run, "notebook", tiny)


def test_damaged_states_can_be_deleted_to_start_the_fold_again(
    kill: Kill, runs: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    run = kill(tmp_path / "run", "finetune", "step", 20)
    states = [path for path in (run / STATE, run / PREVIOUS) if path.exists()]  # one may be about to become the other
    for path in states:
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RunFolderError, match=r"state\.safetensors can't be resumed from.*Delete it"):
        train_one(run, "finetune", tiny, resume=True)
    for path in states:
        path.unlink()
    train_one(run, "finetune", tiny, resume=True)
    assert (run / LOGITS).read_bytes() == (runs["finetune"] / LOGITS).read_bytes()
