"""One training: epochs over a module, with states that resume to the bit, in the middle of an epoch too.

Knows nothing of photos or folders of runs: inputs are arrays, the module is whatever is trained. Randomness starts
anew at every step from (seed, epoch, step), so that a resumed training sees what an unbroken one would have seen.
"""

import math
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spectraderm.core import artifacts
from spectraderm.core.errors import RecipeError, RunFolderError
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track
from spectraderm.training.checkpoint import Keeper, Place
from spectraderm.training.dataset import AHEAD, Floats, epoch_order, in_batches
from spectraderm.training.distributed import Team
from spectraderm.training.moving import Moving
from spectraderm.training.optimising import copied, optimizer_of, swap
from spectraderm.training.recipe import Recipe
from spectraderm.training.stepping import Batches, Integers, Part, Photos, Stepper, Task

__all__ = ["HISTORY_COLUMNS", "Integers", "Photos", "Report", "Task", "balanced_accuracy", "fit", "scores"]

HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "learning_rate",
    "seconds",
)

Report = Callable[[dict[str, float]], None]


def fit(task: Task, recipe: Recipe, seed: int, folder: Path, team: Team, track: Track, report: Report) -> None:
    """Train `task.module` and leave it with the weights that the recipe keeps.

    Writes into `folder` the state every some seconds, for resuming, with `history.csv`; goes on from that state where
    there is one. All processes of the team call it; the first one writes.

    Raises:
        RecipeError: the loss is no longer a number, or `compile` without a compiler.
        RunFolderError: a state that does not belong to this training.
    """
    if task.compiled:
        _compile(task.forward)
    forward = team.joined(task.forward)
    moving = Moving(
        task.module,
        optimizer_of(task.parameters, recipe),
        torch.amp.GradScaler(team.device.type, enabled=task.dtype == torch.float16),
        copied(task.module.state_dict()) if recipe.averaging else {},
        {},
    )
    keeper = Keeper(folder, moving)
    place = keeper.restore()
    if not team.agree([place.epoch, place.step]):
        raise RunFolderError(f"{folder} is not the same for all processes", "Give a folder that all of them share")
    try:
        _Fitting(task, recipe, seed, folder, team, moving, keeper, place, report).run(forward, track)
    finally:
        keeper.close()
    team.separate()


@dataclass(frozen=True)
class _Fitting:
    """A training under way."""

    task: Task
    recipe: Recipe
    seed: int
    folder: Path
    team: Team
    moving: Moving
    keeper: Keeper
    place: Place
    report: Report

    def run(self, forward: nn.Module, track: Track) -> None:
        """Train all epochs that are left."""
        recipe, place = self.recipe, self.place
        step = Stepper(self.task, recipe, self.moving, self.team, forward)
        best = max(place.history, key=_score, default=None)
        left = range(place.epoch, recipe.epochs + 1)
        for epoch in track(left, self.folder.name, len(left)):
            if recipe.patience and best and epoch - best["epoch"] > recipe.patience:
                break
            row = self._epoch(step)
            if best is None or _score(row) > _score(best):
                best = row
                if recipe.keep == "best":
                    self.moving.kept.update(copied(self.moving.average or self.task.module.state_dict()))
            if self.keeper.due:
                self._save()
            self.report(row)
        if recipe.keep == "best":
            self.task.module.load_state_dict(self.moving.kept)
        else:
            swap(self.task.module, self.moving.average)
        self.keeper.close()
        if self.team.first:
            self._write_history(place.history)

    def _epoch(self, step: Stepper) -> dict[str, float]:
        """Train the rest of an epoch, validate, and close it."""
        place, began = self.place, time.perf_counter() - self.place.seconds
        photos, epoch = self.task.photos, place.epoch
        grouped = self.recipe.weighting == "photo"
        order = photos.train[epoch_order(photos.groups[photos.train], grouped, self.seed, epoch)]
        batches = [order[i : i + self.recipe.batch_size] for i in range(0, len(order), self.recipe.batch_size)]
        for rows, parts in zip(batches[place.step :], self._made(batches, epoch), strict=True):
            done = epoch - 1 + place.step / len(batches)
            loss, right = step(parts, len(rows), done, (epoch - 1) * len(batches) + place.step)
            place.step, place.loss, place.right = place.step + 1, place.loss + loss, place.right + right
            place.seconds = time.perf_counter() - began
            if self.keeper.due:
                self._save()
        row = {
            "epoch": epoch,
            "train_loss": place.loss / len(order),
            "train_accuracy": place.right / len(order),
            **self._validated(step.loss_of),
            "learning_rate": step.rate(epoch - 1 + (len(batches) - 1) / len(batches)),
            "seconds": round(time.perf_counter() - began, 3),
        }
        if not math.isfinite(place.loss + row["val_loss"]):
            wrong = f"{self.folder.name}: the loss in epoch {epoch} is not a number"
            raise RecipeError(wrong, "Lower the learning rate")
        place.close(row)
        return row

    def _made(self, batches: list[Integers], epoch: int) -> Iterable[list[Part]]:
        """The parts of every batch that is left; photos are augmented ahead, beside the steps."""
        batches_of = Batches(self.task, self.recipe, self.seed, self.team)

        def make(job: tuple[int, Integers]) -> list[Part]:
            return batches_of.parts(job[1], epoch, job[0])

        jobs = list(enumerate(batches))[self.place.step :]
        if self.task.prepare is None:
            return map(make, jobs)
        return (parts for _, parts in in_order(make, jobs, 1, AHEAD))

    def _validated(self, loss_of: nn.Module) -> dict[str, float]:
        """Scores of the weights that would be kept, on the photos that validate: every process asks its share."""
        rows = self.task.photos.val
        swap(self.task.module, self.moving.average)
        own = self.team.share(len(rows))
        asked = rows[own] if own.stop > own.start else rows[:1]
        found = in_batches(self.task.inputs, self.task.forward_plain, rows=asked)
        swap(self.task.module, self.moving.average)
        all_logits = torch.zeros(len(rows), found.shape[1])
        all_logits[own] = torch.from_numpy(found[: own.stop - own.start])
        return scores(self.team.sum(all_logits).numpy(), self.task.photos.targets[rows], loss_of)

    def _save(self) -> None:
        if self.team.first:
            history = list(self.place.history)
            self.keeper.save(self.place, lambda: self._write_history(history))

    def _write_history(self, history: list[dict[str, float]]) -> None:
        artifacts.write_csv(self.folder / artifacts.HISTORY, HISTORY_COLUMNS, history)


def scores(logits: Floats, targets: Integers, loss_of: nn.Module) -> dict[str, float]:
    """How good logits `float32[n, classes]` are, as the history's columns say."""
    guesses = logits.argmax(1)
    return {
        "val_loss": float(loss_of(torch.from_numpy(logits), torch.from_numpy(targets))),
        "val_accuracy": float((guesses == targets).mean()),
        "val_balanced_accuracy": balanced_accuracy(targets, guesses),
    }


def balanced_accuracy(targets: npt.NDArray[np.int64], guesses: npt.NDArray[np.int64]) -> float:
    """The share that is guessed right, averaged over the classes that there are."""
    return float(np.mean([(guesses[targets == own] == own).mean() for own in np.unique(targets)]))


def _score(row: dict[str, float]) -> tuple[float, float]:
    return row["val_balanced_accuracy"], -row["val_loss"]


def _compile(module: nn.Module) -> None:
    if shutil.which(compiler := os.environ.get("CXX", "g++")) is None:
        raise RecipeError(
            f"`compile` needs a C++ compiler, and {compiler} is not there", "Install one, or leave it out"
        )
    module.compile()
