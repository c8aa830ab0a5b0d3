"""One step of a training: a batch in parts, its gradient, and what that moves.

The gradient is that of the mean loss over the whole batch, however many parts and processes it is divided among.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spectraderm.training.dataset import Inputs
from spectraderm.training.distributed import Team
from spectraderm.training.moving import Moving
from spectraderm.training.optimising import move_average, rate_at
from spectraderm.training.recipe import Recipe

Integers = npt.NDArray[np.int64]


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
        forward: a batch of inputs as prepared -> logits `float[n, classes]`; has `module` in it.
        forward_plain: a batch of inputs as stored -> the same.
        photos: what the inputs show.
        prepare: `inputs` at some places of a batch of so many, as stored -> as in training, augmented; its random
            numbers are torch's.
        dtype: in what `forward` computes.
        compiled: whether `forward` is compiled.
    """

    module: nn.Module
    parameters: list[dict[str, Any]]
    inputs: Inputs
    forward: nn.Module
    forward_plain: Callable[[Tensor], Tensor]
    photos: Photos
    prepare: Callable[[Tensor, slice, int], Tensor] | None = None
    dtype: torch.dtype = torch.float32
    compiled: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a batch: inputs, class numbers `int64[n]`, and how many of them count: all or none."""

    inputs: Tensor
    targets: Tensor
    count: int


@dataclass(frozen=True)
class Batches:
    """Makes this process's parts of one batch after the other."""

    task: Task
    recipe: Recipe
    seed: int
    team: Team

    def parts(self, rows: Integers, epoch: int, step: int) -> list[Part]:
        """Those of a batch of these rows; what is random in it follows from seed, epoch and step alone."""
        with torch.no_grad():
            return [
                Part(
                    self._inputs(rows, places, (self.seed, epoch, step)),
                    torch.from_numpy(self.task.photos.targets[rows[places]]).to(self.team.device),
                    count,
                )
                for places, count in self.team.parts(len(rows), self.recipe.accumulate)
            ]

    def _inputs(self, rows: Integers, places: slice, seeds: tuple[int, int, int]) -> Tensor:
        inputs = torch.from_numpy(np.asarray(self.task.inputs[rows[places]])).to(self.team.device)
        if self.task.prepare is None:
            return inputs
        torch.manual_seed(int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]))
        return self.task.prepare(inputs, places, len(rows))


class Stepper:
    """Takes steps: moves the weights along a batch's gradient, and the average after them."""

    def __init__(self, task: Task, recipe: Recipe, moving: Moving, team: Team, forward: nn.Module) -> None:
        self.loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self._task, self._recipe, self._moving, self._team, self._forward = task, recipe, moving, team, forward
        self._peaks: list[float] = [group["lr"] for group in moving.optimizer.param_groups]

    def rate(self, done: float) -> float:
        """The last group's learning rate when so many epochs are done."""
        return self._peaks[-1] * rate_at(self._recipe, done)

    def __call__(self, parts: list[Part], photos: int, done: float, number: int) -> tuple[float, float]:
        """Take step `number` of the training, when so many epochs are `done`, on a batch of so many photos.

        Returns:
            The sum of the photos' losses, and how many of them were guessed right, over all processes.
        """
        moving = self._moving
        for group, peak in zip(moving.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate_at(self._recipe, done)
        sums = torch.zeros(2, dtype=torch.float64)
        for part in parts[:-1]:
            with self._team.quiet(self._forward):
                sums += self._backward(part, photos)
        sums += self._backward(parts[-1], photos)
        if self._recipe.clip_norm:
            moving.scaler.unscale_(moving.optimizer)
            nn.utils.clip_grad_norm_(moving.module.parameters(), self._recipe.clip_norm)
        moving.scaler.step(moving.optimizer)
        moving.scaler.update()
        moving.optimizer.zero_grad()
        move_average(moving.average, moving.module, self._recipe.averaging, number)
        loss, right = self._team.sum(sums).tolist()
        return loss, right

    def _backward(self, part: Part, photos: int) -> Tensor:
        """Add a part's share to the gradient; the sum of its losses, and how many were guessed right."""
        task = self._task
        with torch.autocast(self._team.device.type, task.dtype, enabled=task.dtype != torch.float32):
            logits = self._forward(part.inputs)
        loss = self.loss_of(logits.float(), part.targets)
        share = part.count * self._team.size / photos  # processes' gradients are averaged
        self._moving.scaler.scale(loss * share).backward()
        right = int((logits.argmax(1) == part.targets).sum()) if part.count else 0
        return torch.tensor([loss.item() * part.count, right], dtype=torch.float64)
