"""One training: what it learns, keeps and notes, and that a checkpoint goes on to the bit."""

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from spectraderm.core.errors import RecipeError, RunFolderError
from spectraderm.core.run import Run
from spectraderm.training import loop
from spectraderm.training import recipe as recipes
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.recipe import Recipe

CLASSES, WIDTH = 3, 5
TRAIN, VAL = np.arange(30), np.arange(30, 42)
STATE = "folds/final/state.safetensors"
Changes = dict[str, object]


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def recipe(changes: Changes) -> Recipe:
    plain = {"learning_rate": 0.05, "epochs": 8, "batch_size": 8, "head": "linear", "keep": "last"}
    return recipes.load("notebook", plain | changes)


def make_task(apart: float = 1.0, seed: int = 0, forward: nn.Module | None = None) -> loop.Task:
    """A linear layer, and features of 42 photos around one place per class."""
    random = np.random.default_rng(0)
    targets = np.arange(42) % CLASSES
    features = (apart * np.eye(CLASSES, WIDTH)[targets] + random.normal(size=(42, WIDTH))).astype(np.float32)
    torch.manual_seed(seed)
    module = forward or nn.Linear(WIDTH, CLASSES)
    parameters: list[dict[str, Any]] = [{"params": list(module.parameters()), "lr": 0.05}]
    return loop.Task(module, parameters, features, module, loop.Photos(targets, np.arange(42), TRAIN, VAL))


def fit(
    task: loop.Task, folder: Path, changes: Changes | None = None, report: loop.Report = lambda _: None
) -> list[dict[str, str]]:
    """Train and return the history that was written."""
    loop.fit(task, recipe(changes or {}), 0, Run(folder).fold("final"), Accelerator(cpu=True), report=report)
    with (folder / "folds/final/history.csv").open() as file:
        return list(csv.DictReader(file))


def weights(task: loop.Task) -> Tensor:
    return torch.cat([value.detach().flatten().clone() for value in task.module.state_dict().values()])


def validated(task: loop.Task) -> tuple[float, Floats]:
    """The loss of the photos that validate, and their logits."""
    logits = in_batches(task.inputs, task.module, rows=VAL)
    targets = torch.from_numpy(task.photos.targets[VAL])
    return nn.functional.cross_entropy(torch.from_numpy(logits), targets).item(), logits


def noted(train: Callable[[], object], task: loop.Task) -> list[Tensor]:
    """The module's weights before a training and after each of its steps."""
    found = [weights(task)]
    handle = register_optimizer_step_post_hook(lambda *_: found.append(weights(task)))
    train()
    handle.remove()
    return found


def cut(train: Callable[[], object], step: int) -> None:
    """Break a training off in a step of the optimizer, counted from 1."""
    left = [step]

    def stop(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train()
    handle.remove()


def untimed(history: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


class Scripted(nn.Module):
    """Validation logits that are right for a given share of photos, epoch by epoch; notes each epoch's weights."""

    def __init__(self, *shares: float) -> None:
        super().__init__()
        self.shares, self.layer = shares, nn.Linear(WIDTH, CLASSES)
        self.weights: list[Tensor] = []
        self.task = make_task(forward=self)

    def forward(self, batch: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            logits: Tensor = self.layer(batch)
            return logits
        right = torch.arange(len(batch)) < self.shares[len(self.weights)] * len(batch)
        targets = torch.from_numpy(self.task.photos.targets[VAL])
        return nn.functional.one_hot(torch.where(right, targets, (targets + 1) % CLASSES), CLASSES).float()

    def report(self, _: dict[str, float]) -> None:
        self.weights.append(weights(self.task))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_separable_problem_is_learnt_and_the_history_measures_it(optimizer: str, tmp_path: Path) -> None:
    task = make_task(apart=8)
    history = fit(task, tmp_path, {"optimizer": optimizer})
    names = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,val_balanced_accuracy,learning_rate,seconds"
    assert list(history[0]) == names.split(",")
    assert [row["epoch"] for row in history] == [str(number) for number in range(1, 9)]
    assert float(history[-1]["train_accuracy"]) == float(history[-1]["val_accuracy"]) == 1
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])
    targets, (loss, logits) = task.photos.targets[VAL], validated(task)
    assert float(history[-1]["val_loss"]) == pytest.approx(loss)
    balanced = balanced_accuracy_score(targets, logits.argmax(1))
    assert float(history[-1]["val_balanced_accuracy"]) == pytest.approx(balanced)


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 4)])
def test_the_best_or_last_epoch_is_kept_and_patience_stops(keep: str, kept: int, tmp_path: Path) -> None:
    scripted = Scripted(0.5, 1.0, 0.5, 0.5, 0.75, 1.0, 0.5, 0.5)
    assert len(fit(scripted.task, tmp_path, {"keep": keep, "patience": 3}, scripted.report)) == 5
    assert torch.equal(weights(scripted.task), scripted.weights[kept])
    assert not torch.equal(scripted.weights[1], scripted.weights[4])


@pytest.mark.parametrize(
    ("changes", "step"),  # an epoch has four steps
    [
        ({"keep": "best"}, 6),
        ({"optimizer": "adam"}, 1),
        ({"optimizer": "adamw"}, 9),
        ({"patience": 2, "epochs": 20}, 5),
        ({"averaging": 0.9, "clip_norm": 0.5, "accumulate": 3}, 5),
        ({"averaging": 0.9, "keep": "best", "optimizer": "adam"}, 14),
    ],
)
def test_a_training_that_was_cut_off_resumes_to_the_bit(step: int, changes: Changes, tmp_path: Path) -> None:
    changes = {"optimizer": "sgd", "schedule": "cosine", "warmup_epochs": 1.5} | changes
    unbroken, resumed = make_task(), make_task(seed=1 if step > 4 else 0)  # without a checkpoint, from the same start
    expected = fit(unbroken, tmp_path / "unbroken", changes)
    cut(lambda: fit(make_task(), tmp_path / "cut", changes), step)
    done = (step - 1) // 4
    found: list[list[dict[str, str]]] = []
    steps = noted(lambda: found.append(fit(resumed, tmp_path / "cut", changes)), resumed)
    assert untimed(found[0]) == untimed(expected)
    assert torch.equal(weights(unbroken), weights(resumed))
    assert len(steps) - 1 == 4 * (len(expected) - done)  # an epoch in the checkpoint is not trained again
    for name in ("module", "optimizer", "average", "best"):
        states = [load_file(tmp_path / folder / STATE) for folder in ("unbroken", "cut")]
        own, other = ({key: value for key, value in state.items() if key.startswith(name)} for state in states)
        assert own.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in own.items())


def test_a_training_that_is_done_is_not_trained_on(tmp_path: Path) -> None:
    first, again = make_task(), make_task(seed=1)
    changes: Changes = {"averaging": 0.9, "keep": "best"}
    expected = fit(first, tmp_path, changes)
    found: list[list[dict[str, str]]] = []
    assert len(noted(lambda: found.append(fit(again, tmp_path, changes)), again)) == 1
    assert found == [expected]  # with the seconds they took
    assert torch.equal(weights(again), weights(first))


@pytest.mark.parametrize("how", ["changed", "garbage", "no history", "another module's"])
def test_a_damaged_checkpoint_is_named_with_the_remedy(how: str, tmp_path: Path) -> None:
    cut(lambda: fit(make_task(), tmp_path), 7)
    path = tmp_path / STATE
    tensors = load_file(path)
    if how == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    elif how == "garbage":
        path.write_bytes(b"not safetensors")
    elif how == "no history":
        save_file(tensors, path)
    else:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        save_file({name: torch.cat([value.flatten()] * 2) for name, value in tensors.items()}, path, about)
    with pytest.raises(RunFolderError, match=r"state\.safetensors can't be resumed from.*Delete it"):
        fit(make_task(), tmp_path)


def running_average(steps: list[Tensor], keep: float) -> list[Tensor]:
    """After every step; the first steps count more: of the weights before, at most (1 + t) / (10 + t) is kept."""
    averages = [steps[0].double()]
    for step, own in enumerate(steps[1:]):
        share = min(keep, (1 + step) / (10 + step))
        averages.append(share * averages[-1] + (1 - share) * own.double())
    return averages


def test_averaged_weights_are_validated_and_kept_and_the_training_goes_on_from_its_own(tmp_path: Path) -> None:
    task, plain, best = make_task(), make_task(), make_task()
    changes: Changes = {"averaging": 0.8, "optimizer": "sgd"}
    found: list[list[dict[str, str]]] = []
    steps = noted(lambda: found.append(fit(task, tmp_path / "averaged", changes)), task)
    averages = running_average(steps, 0.8)
    assert len(steps) == 1 + 8 * 4  # an epoch has four steps
    assert torch.allclose(weights(task).double(), averages[-1], atol=1e-5)
    assert not torch.allclose(weights(task), steps[-1], atol=1e-3)
    own = noted(lambda: fit(plain, tmp_path / "plain", {"optimizer": "sgd"}), plain)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(steps, own, strict=True))
    assert torch.equal(weights(plain), own[-1])
    fit(best, tmp_path / "best", changes | {"keep": "best"})
    scores = [(float(row["val_balanced_accuracy"]), -float(row["val_loss"])) for row in found[0]]
    assert torch.allclose(weights(best).double(), averages[4::4][scores.index(max(scores))], atol=1e-5)
    for row, average in zip(found[0], averages[4::4], strict=True):
        nn.utils.vector_to_parameters(average.float(), task.module.parameters())
        assert float(row["val_loss"]) == pytest.approx(validated(task)[0], rel=1e-4)


def test_averaging_leaves_alone_what_is_not_trained_and_counts(tmp_path: Path) -> None:
    task = make_task()
    module = nn.Sequential(nn.BatchNorm1d(WIDTH), task.module)
    module.train(False)
    fit(replace(task, module=module, forward=module), tmp_path, {"averaging": 0.9})
    kept, fresh = module.state_dict(), nn.BatchNorm1d(WIDTH).state_dict()
    assert kept["0.num_batches_tracked"].dtype == torch.int64
    assert all(torch.equal(kept[f"0.{name}"], value) for name, value in fresh.items())


def test_a_long_gradient_is_shortened_and_a_short_one_is_not(tmp_path: Path) -> None:
    def length(norm: float) -> float:
        task, once = make_task(3.0), {"clip_norm": norm, "epochs": 1, "batch_size": 30, "optimizer": "sgd"}
        before, after = noted(lambda: fit(task, tmp_path / str(norm), once), task)
        return float((after - before).norm())

    clipped = length(0.1)
    assert clipped == pytest.approx(0.05 * 1.9 * 0.1, rel=1e-3)  # Nesterov's first step is 1.9 long
    assert length(1e6) == length(0) > 2 * clipped


def test_the_rate_warms_up_and_falls(tmp_path: Path) -> None:
    task = make_task()
    history = fit(task, tmp_path, {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 2})
    rates = [float(row["learning_rate"]) for row in history]
    assert rates[0] < rates[1] <= 0.05
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.005
    assert task.parameters == [{"params": list(task.module.parameters()), "lr": 0.05}]  # for the next optimizer


def test_a_loss_that_is_no_number_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    task = make_task()
    task.parameters[0]["lr"] = 1e38
    with pytest.raises(RecipeError, match=r"loss in epoch 1 is not a number.*learning rate"):
        fit(task, tmp_path, {"optimizer": "sgd", "epochs": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("accumulate", [3, 100])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(accumulate: int, tmp_path: Path) -> None:
    changes: Changes = {"clip_norm": 0.5, "label_smoothing": 0.1, "batch_size": 7}  # the last one has 2
    whole, parts = make_task(), make_task()
    expected = fit(whole, tmp_path / "whole", changes)
    found = fit(parts, tmp_path / "parts", changes | {"accumulate": accumulate})
    assert torch.allclose(weights(parts), weights(whole), rtol=0, atol=1e-5)
    for own, other in zip(found, expected, strict=True):
        assert float(own["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-5)
        assert own["train_accuracy"] == other["train_accuracy"]


def test_inputs_are_augmented_as_in_the_whole_batch(tmp_path: Path) -> None:
    def train(accumulate: int) -> tuple[list[float], Tensor]:
        drawn: list[float] = []

        def augment(inputs: Tensor) -> Tensor:
            noise = torch.randn(len(inputs), WIDTH)
            drawn.append(float(noise.sum()))
            return inputs + noise

        task = replace(make_task(), augment=augment)
        fit(task, tmp_path / str(accumulate), {"epochs": 2, "batch_size": 15, "accumulate": accumulate})
        return drawn, weights(task)

    (drawn, whole), (again, parts) = train(1), train(2)
    assert len(set(drawn)) == 4  # other numbers at every step
    assert again == drawn
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layers_in_16_bits_are_trained_and_resumed(dtype: torch.dtype, tmp_path: Path) -> None:
    def task(seed: int = 0) -> loop.Task:
        return replace(make_task(apart=8, seed=seed), dtype=dtype)

    unbroken, plain, resumed = task(), make_task(apart=8), task(1)
    expected = fit(unbroken, tmp_path / "unbroken")
    fit(plain, tmp_path / "plain")
    assert expected[-1]["val_accuracy"] == "1.0"
    assert float(expected[-1]["val_loss"]) == pytest.approx(validated(unbroken)[0])  # in 32 bits
    assert weights(unbroken).dtype == torch.float32
    atol = 0.05 if dtype == torch.bfloat16 else 0.5  # its first steps are left out, until the loss's scale is found
    assert torch.allclose(weights(unbroken), weights(plain), atol=atol)
    assert not torch.equal(weights(unbroken), weights(plain))
    cut(lambda: fit(task(), tmp_path / "cut"), 11)
    assert untimed(fit(resumed, tmp_path / "cut")) == untimed(expected)
    assert torch.equal(weights(unbroken), weights(resumed))
