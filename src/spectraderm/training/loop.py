"""One training: epochs over a module, with a checkpoint after each that resumes to the bit.

Knows nothing of photos or folders of runs: inputs are arrays, the module is whatever is trained. Randomness starts
anew in every epoch from (seed, epoch), so that a resumed training sees what an unbroken one would have seen.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spectraderm import artifacts
from spectraderm.errors import RecipeError, RunFolderError
from spectraderm.progress import Track
from spectraderm.training.config import Recipe
from spectraderm.training.dataset import Floats, Inputs, epoch_order, in_batches

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


@dataclass(frozen=True)
class Photos:
    """Of all photos the class number and photo group, `int64[n]`, and which rows train and validate, `int64[m]`."""

    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        module: whose weights are trained and kept.
        parameters: optimizer groups, each with its peak `lr`.
        inputs: pixels `uint8[n, s, s, 3]` or features `float32[n, width]`, of all photos.
        forward: a batch of inputs as stored -> logits `float[n, classes]`, as in training, augmented.
        forward_plain: the same, not augmented.
        photos: what the inputs show.
    """

    module: nn.Module
    parameters: list[dict[str, Any]]
    inputs: Inputs
    forward: Callable[[Tensor], Tensor]
    forward_plain: Callable[[Tensor], Tensor]
    photos: Photos

    def logits(self) -> Floats:
        """Logits `float32[n, classes]` of all photos, not augmented."""
        return in_batches(self.inputs, self.forward_plain)


def fit(
    task: Task, recipe: Recipe, seed: int, folder: Path, accelerator: Accelerator, track: Track, report: Report
) -> None:
    """Train `task.module` and leave it with the weights that the recipe keeps.

    Writes `history.csv`, the kept weights and, for resuming, the state after every epoch into `folder`; goes on from
    that state where there is one.

    Raises:
        RecipeError: the loss is no longer a number.
        RunFolderError: a state that does not belong to this training.
    """
    optimizer = _optimizer(task.parameters, recipe)
    peaks = [group["lr"] for group in optimizer.param_groups]
    photos = task.photos
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    average = {name: value.clone() for name, value in task.module.state_dict().items()} if recipe.averaging else {}
    history = _restore(folder / artifacts.STATE, task.module, optimizer, average)
    best = max(history, key=_score, default=None)

    for epoch in track(range(len(history) + 1, recipe.epochs + 1), folder.name, recipe.epochs - len(history)):
        if recipe.patience and best and epoch - best["epoch"] > recipe.patience:
            break
        started = time.perf_counter()
        torch.manual_seed(seed * 100_003 + epoch)
        order = photos.train[epoch_order(photos.groups[photos.train], recipe.weighting == "photo", seed, epoch)]
        batches = [order[start : start + recipe.batch_size] for start in range(0, len(order), recipe.batch_size)]
        total_loss, right, rate = 0.0, 0, 0.0
        for number, rows in enumerate(batches):
            rate = _rate(recipe, epoch - 1 + number / len(batches))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            logits = task.forward(torch.from_numpy(np.array(task.inputs[rows])))
            targets = torch.from_numpy(photos.targets[rows]).to(accelerator.device)
            loss = loss_of(logits, targets)
            accelerator.backward(loss)
            if recipe.clip_norm:
                accelerator.clip_grad_norm_(task.module.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            _move_average(average, task.module, recipe.averaging, (epoch - 1) * len(batches) + number)
            total_loss += loss.item() * len(rows)
            right += int((logits.argmax(1) == targets).sum())
        _swap(task.module, average)
        row = {
            "epoch": epoch,
            "train_loss": total_loss / len(order),
            "train_accuracy": right / len(order),
            **_validate(task, loss_of),
            "learning_rate": peaks[-1] * rate,
            "seconds": round(time.perf_counter() - started, 3),
        }
        if not math.isfinite(total_loss + row["val_loss"]):
            raise RecipeError(f"{folder.name}: the loss in epoch {epoch} is not a number", "Lower the learning rate")
        history.append(row)
        better = best is None or _score(row) > _score(best)
        best = row if better else best
        if better or recipe.keep == "last":
            save_weights(folder / artifacts.CHECKPOINT, task.module)
        _swap(task.module, average)
        _save_state(folder / artifacts.STATE, task.module, optimizer, average, history)
        artifacts.write_csv(folder / artifacts.HISTORY, HISTORY_COLUMNS, history)
        report(row)
    load_weights(folder / artifacts.CHECKPOINT, task.module)


def balanced_accuracy(targets: npt.NDArray[np.int64], guesses: npt.NDArray[np.int64]) -> float:
    """The share that is guessed right, averaged over the classes that there are."""
    return float(np.mean([(guesses[targets == own] == own).mean() for own in np.unique(targets)]))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a module's weights. Raises `RunFolderError` where they are missing, damaged, or another module's."""
    try:
        with safe_open(path, framework="pt") as file:
            module.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # safetensors and torch raise their own kinds
        raise RunFolderError(f"{path} can't be loaded ({str(error).splitlines()[0]})", "Train again") from error


def _optimizer(parameters: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [dict(group) for group in parameters]  # optimizers write their settings into them
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
        )
    weights = [weight for group in parameters for weight in group["params"]]
    fused = all(own.is_contiguous() and own.device.type in ("cpu", "cuda") for own in weights)
    # One pass over the weights in place of ten. With channels last its state, restored, would lie in another order.
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, weight_decay=recipe.weight_decay, fused=fused)


def _move_average(average: dict[str, Tensor], module: nn.Module, keep: float, step: int) -> None:
    """Move averaged weights towards a module's; the first steps move them further."""
    keep = min(keep, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if name in average and value.is_floating_point():
            average[name].lerp_(value, 1 - keep)


def _swap(module: nn.Module, average: dict[str, Tensor]) -> None:
    """Exchange a module's weights for the averaged ones, and these for the module's."""
    own = module.state_dict()
    for name, value in list(average.items()):
        average[name] = own[name].clone()
        own[name].copy_(value)


def _validate(task: Task, loss_of: nn.Module) -> dict[str, float]:
    rows = task.photos.val
    logits, targets = in_batches(task.inputs[rows], task.forward_plain), task.photos.targets[rows]
    guesses = logits.argmax(1)
    return {
        "val_loss": float(loss_of(torch.from_numpy(logits), torch.from_numpy(targets))),
        "val_accuracy": float((guesses == targets).mean()),
        "val_balanced_accuracy": balanced_accuracy(targets, guesses),
    }


def _score(row: dict[str, float]) -> tuple[float, float]:
    return row["val_balanced_accuracy"], -row["val_loss"]


def _rate(recipe: Recipe, epoch: float) -> float:
    """The share of the peak learning rate at a point in time, counted in epochs."""
    if epoch < recipe.warmup_epochs:
        return (epoch + 0.1) / (recipe.warmup_epochs + 0.1)
    if recipe.schedule == "constant":
        return 1.0
    done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * done))


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors."""
    artifacts.write_bytes(path, save({name: value.contiguous() for name, value in module.state_dict().items()}))


def _save_state(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    history: list[dict[str, float]],
) -> None:
    tensors = {f"module/{name}": value.contiguous() for name, value in module.state_dict().items()}
    tensors |= {f"average/{name}": value.contiguous() for name, value in average.items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value.contiguous() for name, value in values.items()}
    artifacts.write_bytes(path, save(tensors, metadata={"history": json.dumps(history)}))


def _restore(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> list[dict[str, float]]:
    """Load the state after the last whole epoch, if there is one, and return the history up to there."""
    if not path.is_file():
        return []
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            history: list[dict[str, float]] = json.loads(file.metadata()["history"])
        module.load_state_dict({n.removeprefix("module/"): v for n, v in tensors.items() if n.startswith("module/")})
        average |= {name: tensors[f"average/{name}"].to(value.device) for name, value in average.items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, number, key = name.split("/")
                state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except Exception as error:  # safetensors and torch raise their own kinds
        raise RunFolderError(
            f"{path} can't be resumed from ({str(error).splitlines()[0]})", "Delete it to start this fold again"
        ) from error
    return history
