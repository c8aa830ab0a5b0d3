"""Killed with SIGKILL in the middle, then resumed: to the byte what an unbroken training gives."""

import multiprocessing
import os
import signal
from hashlib import sha256
from pathlib import Path

import pytest
from tinynet import prepare, train_one
from torch.optim.optimizer import register_optimizer_step_post_hook

from spectraderm.core.errors import RunFolderError

FOLD = Path("folds/final")
HISTORY, STATE = FOLD / "history.csv", FOLD / "state.safetensors"
STEPS = 20  # twelve of the head, and of all layers two epochs of three steps each, and the second one of the third


def train_and_die(run: Path, backbone: Path) -> None:
    """Train, and be killed at step `STEPS` of the optimizer."""
    left = [STEPS]

    def step(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(step)
    train_one(run, "finetune", backbone)


def test_a_killed_training_resumes_to_the_same_bytes(
    photos: Path, runs: dict[str, Path], tiny: Path, tmp_path: Path
) -> None:
    run, unbroken = prepare(tmp_path / "run", photos), runs["finetune"]
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(run, tiny))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    before = (run / HISTORY).read_text().splitlines()
    assert len(before) == 1 + 2
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        train_one(run, "finetune", tiny)
    state = (run / STATE).read_bytes()
    (run / STATE).write_bytes(state[:-8])
    with pytest.raises(RunFolderError, match=r"state\.safetensors can't be resumed from.*Delete it"):
        train_one(run, "finetune", tiny, resume=True)
    (run / STATE).write_bytes(state)
    train_one(run, "finetune", tiny, resume=True)
    assert (run / HISTORY).read_text().splitlines()[:3] == before  # with the seconds they took
    for name in ("checkpoint.safetensors", "logits.csv", "features.npy"):
        digests = [sha256((folder / FOLD / name).read_bytes()).hexdigest() for folder in (run, unbroken)]
        assert digests[0] == digests[1], name
    assert {file.name for file in (run / FOLD).iterdir()} == {file.name for file in (unbroken / FOLD).iterdir()}
    assert not (run / STATE).exists()
    assert not (run / "cache/final").exists()
