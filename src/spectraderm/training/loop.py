"""One training under Accelerate: epochs over a module, and after each a checkpoint that resumes to the bit.

Knows nothing of photos or run folders: inputs are arrays, the module is whatever is trained. Randomness starts anew at
every step from (seed, epoch, step), so that a resumed training gets the batches that an unbroken one would have had.
The gradient of a step is that of the mean loss over the whole batch, however many parts and processes share it.
"""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from spectraderm.core.errors import RecipeError, RunFolderError
from spectraderm.core.files import write_csv
from spectraderm.core.fold import Fold
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.training.checkpoint import TrainState
from spectraderm.training.dataset import AHEAD, Floats, Inputs, Integers, epoch_order, in_batches
from spectraderm.training.recipe import Recipe

_SCORES = ("val_loss", "val_accuracy", "val_balanced_accuracy")
HISTORY_COLUMNS = ("epoch", "train_loss", "train_accuracy", *_SCORES, "learning_rate", "seconds")

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Photos:
    """Of all photos the class number and photo group, `int64[n]`, and which rows train and validate, `int64[m]`."""

    targets: Integers
    groups: Integers
    train: Integers
    val: Integers


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        module: whose weights are trained and kept.
        parameters: optimizer groups, each with its peak `lr`.
        inputs: pixels `uint8[n, s, s, 3]` or features `float32[n, width]`, of all photos.
        forward: a batch of inputs -> logits `float[n, classes]`; has `module` in it, or is it.
        photos: what the inputs show.
        augment: a batch of `inputs` -> the same, augmented; its random numbers are torch's.
        dtype: in what `forward` computes; the loss, weights and validation are in 32 bits.
        shared: whether all processes train it together; else the main process trains it alone.
    """

    module: nn.Module
    parameters: list[dict[str, Any]]
    inputs: Inputs
    forward: nn.Module
    photos: Photos
    augment: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype = torch.float32
    shared: bool = False


def fit(
    task: Task,
    recipe: Recipe,
    seed: int,
    fold: Fold,
    accelerator: Accelerator,
    track: Track = no_track,
    report: Report = lambda _: None,
    resumable: bool = True,
) -> None:
    """Train `task.module` and leave it with the weights that the recipe keeps.

    After every epoch the `fold` gets a checkpoint and `history.csv`, unless it is not `resumable`; from a checkpoint
    that is there training goes on. `seed` decides the order of photos and augmentation; `report` gets every epoch's
    line of the history.

    Raises:
        RecipeError: the loss is no longer a number.
        RunFolderError: a checkpoint is damaged, of another training, or not the same for all processes.
    """
    # All processes get the main one's weights by that, so it comes before these are copied.
    forward = accelerator.prepare_model(task.forward) if task.shared else task.forward
    state = TrainState(
        task.module,
        _optimizer(task.parameters, recipe),
        torch.amp.GradScaler(accelerator.device.type, enabled=task.dtype == torch.float16),
        copy.deepcopy(dict(task.module.state_dict())) if recipe.averaging else {},
    )
    if resumable:
        state.restore(fold.state)
    training, done = _Training(task, recipe, seed, accelerator, forward, state), len(state.history)
    if training.summed(torch.tensor([done])).item() != done * training.size:
        raise RunFolderError(f"{fold.folder} is not the same for all processes", "Give a folder that all of them share")
    best = max(state.history, key=_score, default=None)
    name, left = fold.folder.name, range(done + 1, recipe.epochs + 1)
    for epoch in track(left, name, len(left)):
        if recipe.patience and best and epoch - best["epoch"] > recipe.patience:
            break
        row = training.epoch(epoch)
        if not math.isfinite(row["train_loss"] + row["val_loss"]):
            raise RecipeError(f"{name}: the loss in epoch {epoch} is not a number", "Lower the learning rate")
        state.history.append(row)
        if best is None or _score(row) > _score(best):
            best = row
            if recipe.keep == "best":
                state.best.update(copy.deepcopy(dict(state.average or task.module.state_dict())))
        if resumable and accelerator.is_main_process:
            write_csv(fold.history, HISTORY_COLUMNS, state.history)
            state.save(fold.state)
        report(row)
    if recipe.keep == "best":
        task.module.load_state_dict(state.best)
    else:
        _swap(task.module, state.average)
    accelerator.free_memory()


@dataclass(frozen=True)
class _Training:
    """A training under way."""

    task: Task
    recipe: Recipe
    seed: int
    accelerator: Accelerator
    forward: nn.Module
    state: TrainState

    @property
    def size(self) -> int:
        """How many processes share it."""
        return int(self.accelerator.num_processes) if self.task.shared else 1

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train an epoch, counted from 1, and validate; its line of the history."""
        began, photos, recipe = time.perf_counter(), self.task.photos, self.recipe
        grouped = recipe.weighting == "photo"
        order = photos.train[epoch_order(photos.groups[photos.train], grouped, self.seed, epoch)]
        batches = [order[i : i + recipe.batch_size] for i in range(0, len(order), recipe.batch_size)]
        sums = torch.zeros(2, dtype=torch.float64)
        groups = self.state.optimizer.param_groups
        made = in_order(lambda job: self._parts(job[1], epoch, job[0]), enumerate(batches), 1, AHEAD)
        for (step, rows), parts in made:
            for group, peak in zip(groups, self.task.parameters, strict=True):
                group["lr"] = peak["lr"] * rate_at(recipe, epoch - 1 + step / len(batches))
            sums += self._step(parts, len(rows))
            self._move_average((epoch - 1) * len(batches) + step)
        loss, right = (self.summed(sums) / len(order)).tolist()
        return {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": right,
            **self._validated(),
            "learning_rate": groups[-1]["lr"],
            "seconds": round(time.perf_counter() - began, 3),
        }

    def _parts(self, rows: Integers, epoch: int, step: int) -> list[tuple[Tensor, Tensor, int]]:
        """The process's share of a batch, in up to `accumulate` parts, augmented as in the whole batch.

        Each has inputs, class numbers `int64[n]`, and how many of its photos count: all of them, or none of the one
        photo that a process without a share gets.
        """
        share, count, device = self._share(len(rows)), self.recipe.accumulate, self.accelerator.device
        inputs = torch.from_numpy(np.asarray(self.task.inputs[rows])).to(device)
        targets = torch.from_numpy(self.task.photos.targets[rows]).to(device)
        if self.task.augment:
            torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch, step)).generate_state(1, np.uint64)[0]))
            with torch.no_grad():
                inputs = self.task.augment(inputs)
        edges = [share.start + (share.stop - share.start) * number // count for number in range(count + 1)]
        spans = [(slice(a, b), b - a) for a, b in pairwise(edges) if b > a] or [(slice(0, 1), 0)]
        return [(inputs[span], targets[span], counted) for span, counted in spans]

    def _step(self, parts: list[tuple[Tensor, Tensor, int]], photos: int) -> Tensor:
        """Take a step on a batch of so many photos.

        Returns:
            `float64[2]`: the sum of this process's losses, and how many of its photos were guessed right.
        """
        sums, scaler, optimizer = torch.zeros(2, dtype=torch.float64), self.state.scaler, self.state.optimizer
        kind, dtype, smoothing = self.accelerator.device.type, self.task.dtype, self.recipe.label_smoothing
        for number, (inputs, targets, counted) in enumerate(parts, start=1):
            with self.accelerator.no_sync(self.forward) if number < len(parts) else nullcontext():
                with torch.autocast(kind, dtype, enabled=dtype != torch.float32):
                    logits = self.forward(inputs)
                loss = functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)
                # Processes' gradients are averaged, not added.
                self.accelerator.backward(scaler.scale(loss * (counted * self.size / photos)))
            right = int((logits.argmax(1) == targets).sum()) if counted else 0
            sums += torch.tensor([loss.item() * counted, right], dtype=torch.float64)
        if self.recipe.clip_norm:
            scaler.unscale_(optimizer)
            self.accelerator.clip_grad_norm_(self.task.module.parameters(), self.recipe.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return sums

    def _move_average(self, step: int) -> None:
        """Move averaged weights towards the module's; the first steps move them further."""
        keep = min(self.recipe.averaging, (1 + step) / (10 + step))
        for name, value in self.task.module.state_dict().items() if self.state.average else ():
            if value.is_floating_point():
                self.state.average[name].lerp_(value, 1 - keep)

    def _validated(self) -> dict[str, float]:
        """Scores of the weights that would be kept, on the photos that validate: every process runs its share."""
        rows, device = self.task.photos.val, self.accelerator.device
        share = self._share(len(rows))
        _swap(self.task.module, self.state.average)
        run = rows[share] if share.stop > share.start else rows[:1]
        computed = in_batches(self.task.inputs, lambda batch: self.task.forward(batch.to(device)), rows=run)
        _swap(self.task.module, self.state.average)
        logits = torch.zeros(len(rows), computed.shape[1])
        logits[share] = torch.from_numpy(computed[: share.stop - share.start])
        return scores(self.summed(logits).numpy(), self.task.photos.targets[rows], self.recipe.label_smoothing)

    def _share(self, count: int) -> slice:
        """Which of so many things in a row are this process's."""
        rank = self.accelerator.process_index if self.task.shared else 0
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes that train together, on the CPU."""
        if self.size == 1:
            return values
        total: Tensor = self.accelerator.reduce(values.to(self.accelerator.device), "sum")
        return total.cpu()


def scores(logits: Floats, targets: Integers, smoothing: float = 0.0) -> dict[str, float]:
    """How good logits `float32[n, classes]` are, as the history's columns say; NaN where there are no photos."""
    if not len(targets):
        return dict.fromkeys(_SCORES, math.nan)
    guesses = logits.argmax(1)
    balanced = float(np.mean([(guesses[targets == one] == one).mean() for one in np.unique(targets)]))
    value = functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(targets), label_smoothing=smoothing
    ).item()
    return dict(zip(_SCORES, (value, float((guesses == targets).mean()), balanced), strict=True))


def rate_at(recipe: Recipe, done: float) -> float:
    """The share of the peak learning rate when so many epochs are done."""
    if done < recipe.warmup_epochs:
        return (done + 0.1) / (recipe.warmup_epochs + 0.1)
    if recipe.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)))


def _score(row: dict[str, float]) -> tuple[float, float]:
    """What `keep = best` and `patience` compare."""
    return row["val_balanced_accuracy"], -row["val_loss"]


def _optimizer(parameters: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """A recipe's optimizer of parameter groups that have their peak `lr`."""
    groups = [dict(group) for group in parameters]  # optimizers write their settings into them
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
    weights = [weight for group in groups for weight in group["params"]]
    # Fused is one pass over the weights in place of ten; with channels last its state, restored, would lie otherwise.
    fused = all(weight.is_contiguous() and weight.device.type in ("cpu", "cuda") for weight in weights)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, weight_decay=recipe.weight_decay, fused=fused)


def _swap(module: nn.Module, average: dict[str, Tensor]) -> None:
    """Exchange a module's weights for the averaged ones, and these for the module's."""
    weights = module.state_dict()
    for name, value in list(average.items()):
        average[name] = weights[name].clone()
        weights[name].copy_(value)
