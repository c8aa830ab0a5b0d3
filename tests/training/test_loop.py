import ast
import csv
import errno
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
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
from torch.utils.hooks import RemovableHandle

import spectraderm
from spectraderm.core import artifacts
from spectraderm.core.errors import RecipeError, RunFolderError, WriteError
from spectraderm.core.progress import no_track
from spectraderm.training import checkpoint as state
from spectraderm.training import loop
from spectraderm.training import recipe as config
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.distributed import Team
from spectraderm.training.moving import Moving
from spectraderm.training.recipe import Recipe
from spectraderm.training.weights import load_weights

CLASSES, WIDTH = 3, 5
TRAIN, VAL = np.arange(30), np.arange(30, 42)


def recipe(changes: dict[str, object]) -> Recipe:
    plain = {"learning_rate": 0.05, "epochs": 8, "batch_size": 8, "head": "linear", "keep": "last"}
    return config.load("notebook", plain | changes)


def clusters(apart: float = 3.0) -> tuple[Floats, loop.Photos]:
    """Features of 42 photos around one place per class."""
    random = np.random.default_rng(0)
    targets = np.arange(42) % CLASSES
    places = apart * np.eye(CLASSES, WIDTH)
    features = (places[targets] + random.normal(size=(42, WIDTH))).astype(np.float32)
    return features, loop.Photos(targets, np.arange(42), TRAIN, VAL)


def make_task(validate: Callable[[Tensor], Tensor] | None = None, apart: float = 3.0, seed: int = 0) -> loop.Task:
    torch.manual_seed(seed)
    module = nn.Linear(WIDTH, CLASSES)
    features, photos = clusters(apart)
    parameters: list[dict[str, Any]] = [{"params": list(module.parameters()), "lr": 0.05}]
    return loop.Task(module, parameters, features, module, validate or module, photos)


def fit(
    task: loop.Task, folder: Path, changes: dict[str, object] | None = None, report: loop.Report = lambda _: None
) -> list[dict[str, str]]:
    """Train and return the history that was written."""
    loop.fit(task, recipe(changes or {}), 0, folder, Team(Accelerator(cpu=True)), no_track, report)
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def logits_of(task: loop.Task) -> Floats:
    return in_batches(task.inputs, task.forward_plain)


def weights(task: loop.Task) -> Tensor:
    return torch.cat([value.detach().flatten().clone() for value in task.module.state_dict().values()])


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are saved after every step."""
    monkeypatch.setattr(state.Keeper, "due", True)


class Stop:
    """Raises `KeyboardInterrupt` in the optimizer's step of this number, counted from 1."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.handle = register_optimizer_step_post_hook(self)

    def __call__(self, *_: Any) -> None:  # noqa: ANN401
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def remove(self) -> None:
        self.handle.remove()


def untimed(history: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


class Scripted:
    """Validation logits that are right for a given share of photos, epoch by epoch; notes each epoch's weights."""

    def __init__(self, *shares: float) -> None:
        self.shares = shares
        self.weights: list[Tensor] = []
        self.task = make_task(self.validate)

    def validate(self, batch: Tensor) -> Tensor:
        right = torch.arange(len(batch)) < self.shares[len(self.weights)] * len(batch)
        targets = torch.from_numpy(self.task.photos.targets[VAL])
        return nn.functional.one_hot(torch.where(right, targets, (targets + 1) % CLASSES), CLASSES).float()

    def report(self, _: dict[str, float]) -> None:
        self.weights.append(weights(self.task))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_separable_problem_is_learnt(optimizer: str, tmp_path: Path) -> None:
    task = make_task(apart=8)
    history = fit(task, tmp_path, {"optimizer": optimizer})
    assert float(history[-1]["train_accuracy"]) == float(history[-1]["val_accuracy"]) == 1
    assert float(history[-1]["train_loss"]) < float(history[0]["train_loss"])
    assert (logits_of(task).argmax(1) == task.photos.targets).all()


def test_the_history_has_its_columns_and_measures_what_it_says(tmp_path: Path) -> None:
    task = make_task()
    history = fit(task, tmp_path)
    names = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,val_balanced_accuracy,learning_rate,seconds"
    assert list(history[0]) == names.split(",")
    assert [row["epoch"] for row in history] == [str(number) for number in range(1, 9)]
    logits, targets = torch.from_numpy(logits_of(task)[VAL]), torch.from_numpy(task.photos.targets[VAL])
    assert float(history[-1]["val_loss"]) == pytest.approx(nn.functional.cross_entropy(logits, targets).item())
    assert float(history[-1]["val_accuracy"]) == (logits.argmax(1) == targets).float().mean()


def test_the_best_epoch_is_kept_and_patience_stops(tmp_path: Path) -> None:
    scripted = Scripted(0.5, 1.0, 0.5, 0.5, 0.75, 1.0, 0.5, 0.5)
    history = fit(scripted.task, tmp_path, {"keep": "best", "patience": 3}, scripted.report)
    assert len(history) == 5
    assert torch.equal(weights(scripted.task), scripted.weights[1])
    assert not torch.equal(weights(scripted.task), scripted.weights[4])


def test_the_last_epoch_is_kept_where_the_recipe_says_so(tmp_path: Path) -> None:
    scripted = Scripted(0.5, 1.0, 0.5, 0.5, 0.75, 0.5, 0.5, 0.5)
    assert len(fit(scripted.task, tmp_path / "all", {}, scripted.report)) == 8
    assert torch.equal(weights(scripted.task), scripted.weights[-1])
    scripted = Scripted(0.5, 1.0, 0.5, 0.5, 0.75, 0.5, 0.5, 0.5)
    assert len(fit(scripted.task, tmp_path / "some", {"patience": 3}, scripted.report)) == 5
    assert torch.equal(weights(scripted.task), scripted.weights[-1])


WAYS: list[dict[str, object]] = [
    {"keep": "best"},
    {"optimizer": "adam"},
    {"patience": 2, "epochs": 20},
    {"averaging": 0.9, "clip_norm": 0.5, "accumulate": 3},
    {"averaging": 0.9, "keep": "best", "optimizer": "adam"},
]


@pytest.mark.parametrize(  # an epoch has four steps
    ("changes", "step"), [(WAYS[0], 6), (WAYS[1], 1), (WAYS[1], 2), (WAYS[2], 4), (WAYS[3], 5), (WAYS[4], 14)]
)
def test_a_training_that_was_cut_off_at_any_step_ends_alike(
    step: int, changes: dict[str, object], tmp_path: Path, always: None
) -> None:
    changes = {"optimizer": "sgd", "schedule": "cosine", "warmup_epochs": 1.5} | changes
    unbroken = make_task(apart=1)
    expected = fit(unbroken, tmp_path / "unbroken", changes)
    stop = Stop(step)
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(apart=1), tmp_path / "cut", changes)
    stop.remove()
    resumed = make_task(apart=1, seed=1 if step > 1 else 0)  # without a state, from the same start
    noted, handle = noting(resumed)
    assert untimed(fit(resumed, tmp_path / "cut", changes)) == untimed(expected)
    handle.remove()
    assert torch.equal(weights(unbroken), weights(resumed))
    assert len(noted) == 4 * len(expected) - max(0, step - 1)  # what was saved is not trained again


def test_a_training_that_is_done_is_not_trained_on(tmp_path: Path, always: None) -> None:
    first, again = make_task(apart=1), make_task(apart=1, seed=1)
    changes: dict[str, object] = {"averaging": 0.9, "keep": "best"}
    expected = fit(first, tmp_path, changes)
    noted, handle = noting(again)
    assert fit(again, tmp_path, changes) == expected  # with the seconds they took
    handle.remove()
    assert noted == []
    assert torch.equal(weights(again), weights(first))


def test_seconds_of_an_epoch_that_was_cut_off_add_up(tmp_path: Path, always: None) -> None:
    stop = Stop(3)
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(), tmp_path)
    stop.remove()
    path = tmp_path / state.PREVIOUS
    (tmp_path / "state.safetensors").replace(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["place"])
    about["seconds"] = 1000.0
    text, tensors = json.dumps(about), load_file(path)
    save_file(tensors, path, {"place": text, "sha256": state._digest(tensors, text)})
    history = fit(make_task(), tmp_path)
    assert 1000 < float(history[0]["seconds"]) < 1010 > float(history[1]["seconds"])


@pytest.mark.parametrize("seconds", [0.01, 0.4, 3.0])
def test_saving_costs_little_and_little_is_lost(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    worked = [0.0]
    monkeypatch.setattr(time, "thread_time", lambda: worked[0])

    def write(path: Path, data: bytes) -> None:
        worked[0] += seconds

    monkeypatch.setattr(artifacts, "write_bytes", write)
    task = make_task()
    keeper = state.Keeper(tmp_path, moving(task))
    keeper._path = tmp_path / "elsewhere" / "state.safetensors"
    spent, lost, last = 0.0, 0.0, 0.0
    while clock[0] < 1000:
        clock[0] += 0.3  # a step
        if keeper.due:
            lost = max(lost, clock[0] - last)
            keeper._whole = False
            keeper.save(state.Place())
            keeper._wait()
            spent += seconds
            last = clock[0]
    assert spent <= 0.05 * clock[0] + seconds
    assert lost <= max(10, 20 * seconds) + 0.31


def moving(task: loop.Task) -> Moving:
    optimizer = torch.optim.SGD(task.module.parameters(), lr=0.1)
    return Moving(task.module, optimizer, torch.amp.GradScaler("cpu", enabled=False), {}, {})


def test_a_state_is_as_it_was_when_it_was_saved_and_a_full_disk_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, other, go = make_task(), make_task(seed=1), Event()
    plain, expected = artifacts.write_bytes, weights(task)

    def late(path: Path, data: bytes) -> None:
        go.wait(10)
        plain(path, data)

    monkeypatch.setattr(artifacts, "write_bytes", late)
    keeper = state.Keeper(tmp_path, moving(task))
    keeper.save(state.Place())
    with torch.no_grad():
        for weight in task.module.parameters():
            weight.fill_(7)
    go.set()
    keeper.close()
    assert state.Keeper(tmp_path, moving(other)).restore() == state.Place()
    assert torch.equal(weights(other), expected)

    def full(path: Path, data: bytes) -> None:
        raise WriteError(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(artifacts, "write_bytes", full)
    monkeypatch.setattr(state.Keeper, "due", True)
    with pytest.raises(WriteError, match=r"state\.safetensors can't be written: the disk is full"):
        fit(make_task(), tmp_path / "full")


def test_a_short_training_writes_no_state(tmp_path: Path) -> None:
    fit(make_task(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def noting(task: loop.Task) -> tuple[list[Tensor], RemovableHandle]:
    """The module's weights after every step of any optimizer, until the handle is removed."""
    noted: list[Tensor] = []
    return noted, register_optimizer_step_post_hook(lambda *_: noted.append(weights(task)))


def steps(task: loop.Task, folder: Path, changes: dict[str, object]) -> list[Tensor]:
    """Train; the weights before the first step and after each."""
    noted, handle = noting(task)
    start = weights(task)
    fit(task, folder, {"optimizer": "sgd"} | changes)
    handle.remove()
    return [start, *noted]


def running_average(noted: list[Tensor], keep: float) -> list[Tensor]:
    """After every step; the first steps count more: of the weights before, at most (1 + t) / (10 + t) is kept."""
    averages = [noted[0].double()]
    for step, own in enumerate(noted[1:]):
        share = min(keep, (1 + step) / (10 + step))
        averages.append(share * averages[-1] + (1 - share) * own.double())
    return averages


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_averaged_weights_are_kept_and_the_training_goes_on_from_its_own(keep: float, tmp_path: Path) -> None:
    task, plain = make_task(apart=1), make_task(apart=1)
    noted = steps(task, tmp_path / "averaged", {"averaging": keep})
    assert len(noted) == 1 + 8 * 4
    expected = running_average(noted, keep)[-1]
    assert torch.allclose(weights(task).double(), expected, atol=1e-5)
    assert not torch.allclose(weights(task), noted[-1], atol=1e-3)
    own = steps(plain, tmp_path / "plain", {})
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(noted, own, strict=True))
    assert torch.equal(weights(plain), own[-1])


def test_averaged_weights_are_validated_and_the_best_of_them_kept(tmp_path: Path) -> None:
    task = make_task(apart=1)
    noted, handle = noting(task)
    start = weights(task)
    history = fit(task, tmp_path, {"averaging": 0.8, "keep": "best", "optimizer": "sgd"})
    handle.remove()
    averages = running_average([start, *noted], 0.8)[4::4]  # an epoch has four steps
    scores = [(float(row["val_balanced_accuracy"]), -float(row["val_loss"])) for row in history]
    assert torch.allclose(weights(task).double(), averages[scores.index(max(scores))], atol=1e-5)
    for row, average in zip(history, averages, strict=True):
        nn.utils.vector_to_parameters(average.float(), task.module.parameters())
        logits, targets = torch.from_numpy(logits_of(task)[VAL]), torch.from_numpy(task.photos.targets[VAL])
        assert float(row["val_loss"]) == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-4)


def test_averaging_leaves_alone_what_is_not_trained_and_counts(tmp_path: Path) -> None:
    task = make_task()
    norm = nn.BatchNorm1d(WIDTH)
    module = nn.Sequential(norm, task.module)
    module.train(False)
    mixed = replace(task, module=module, forward=module, forward_plain=module)
    fit(mixed, tmp_path, {"averaging": 0.9})
    kept = module.state_dict()
    assert kept["0.num_batches_tracked"].dtype == torch.int64
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(kept[f"0.{name}"], nn.BatchNorm1d(WIDTH).state_dict()[name])


@pytest.mark.parametrize("clip_norm", [0.01, 0.1])
def test_a_long_gradient_is_shortened_and_a_short_one_is_not(clip_norm: float, tmp_path: Path) -> None:
    def length(norm: float) -> float:
        once: dict[str, object] = {"clip_norm": norm, "epochs": 1, "batch_size": 30}
        before, after = steps(make_task(), tmp_path / str(norm), once)
        return float((after - before).norm())

    clipped = length(clip_norm)
    assert clipped == pytest.approx(0.05 * 1.9 * clip_norm, rel=1e-3)  # Nesterov's first step is 1.9 long
    assert length(1e6) == length(0) > 2 * clipped


def test_the_rate_warms_up_and_falls(tmp_path: Path) -> None:
    task = make_task()
    history = fit(task, tmp_path, {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 2})
    rates = [float(row["learning_rate"]) for row in history]
    assert rates[0] < rates[1] <= 0.05
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.005
    assert task.parameters == [{"params": list(task.module.parameters()), "lr": 0.05}]  # for the next optimizer


@pytest.mark.parametrize("batch_size", [8, 30])
def test_a_loss_that_is_no_number_is_an_error_with_a_remedy(batch_size: int, tmp_path: Path) -> None:
    task = make_task()
    task.parameters[0]["lr"] = 1e38
    with pytest.raises(RecipeError, match=r"loss in epoch 1 is not a number.*learning rate"):
        fit(task, tmp_path, {"optimizer": "sgd", "batch_size": batch_size, "epochs": 1})
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize("accumulate", [2, 3, 8, 100])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(accumulate: int, tmp_path: Path) -> None:
    changes: dict[str, object] = {"clip_norm": 0.5, "label_smoothing": 0.1, "batch_size": 7}  # the last one has 2
    whole, parts = make_task(apart=1), make_task(apart=1)
    expected = fit(whole, tmp_path / "whole", changes)
    found = fit(parts, tmp_path / "parts", changes | {"accumulate": accumulate})
    assert torch.allclose(weights(parts), weights(whole), rtol=0, atol=1e-5)
    for own, other in zip(found, expected, strict=True):
        assert float(own["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-5)
        assert own["train_accuracy"] == other["train_accuracy"]


def test_inputs_are_prepared_for_their_places_in_the_whole_batch(tmp_path: Path) -> None:
    def asked(accumulate: int) -> tuple[list[tuple[slice, int]], list[float], Tensor]:
        places: list[tuple[slice, int]] = []
        drawn: list[float] = []

        def prepare(inputs: Tensor, own: slice, of: int) -> Tensor:
            noise = torch.randn(of, WIDTH)
            places.append((own, of))
            drawn.append(float(noise.sum()))
            return inputs + noise[own]

        task = replace(make_task(apart=1), prepare=prepare)
        fit(task, tmp_path / str(accumulate), {"epochs": 2, "batch_size": 15, "accumulate": accumulate})
        return places, drawn, weights(task)

    places, drawn, whole = asked(1)
    assert places == [(slice(0, 15), 15)] * 4
    assert len(set(drawn)) == 4  # other numbers at every step
    in_two, again, parts = asked(2)
    assert in_two == [(slice(0, 7), 15), (slice(7, 15), 15)] * 4
    assert again == [value for value in drawn for _ in range(2)]  # the same for every part of a batch
    assert torch.allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layers_in_16_bits_are_trained_and_resumed(dtype: torch.dtype, tmp_path: Path, always: None) -> None:
    def task(seed: int = 0) -> loop.Task:
        return replace(make_task(apart=8, seed=seed), dtype=dtype)

    unbroken, plain, resumed = task(), make_task(apart=8), task(1)
    expected = fit(unbroken, tmp_path / "unbroken")
    fit(plain, tmp_path / "plain")
    assert expected[-1]["val_accuracy"] == "1.0"
    assert weights(unbroken).dtype == torch.float32
    atol = 0.05 if dtype == torch.bfloat16 else 0.5  # its first steps are left out, until the loss's scale is found
    assert torch.allclose(weights(unbroken), weights(plain), atol=atol)
    assert not torch.equal(weights(unbroken), weights(plain))
    stop = Stop(11)
    with pytest.raises(KeyboardInterrupt):
        fit(task(), tmp_path / "cut")
    stop.remove()
    assert untimed(fit(resumed, tmp_path / "cut")) == untimed(expected)
    assert torch.equal(weights(unbroken), weights(resumed))


def test_compiling_without_a_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RecipeError, match=r"needs a C\+\+ compiler, and no-such-compiler is not there"):
        fit(replace(make_task(), compiled=True), tmp_path)


def spoil(path: Path, how: str) -> None:
    tensors = load_file(path)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "one bit":
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    elif how == "garbage":
        path.write_bytes(b"not safetensors")
    elif how == "no history":
        save_file(tensors, path)
    else:
        text = json.dumps({"history": [], "scaler": {}})
        tensors = {name: torch.cat([value.flatten()] * 2) for name, value in tensors.items()}
        save_file(tensors, path, {"place": text, "sha256": state._digest(tensors, text)})


@pytest.mark.parametrize("how", ["cut", "one bit", "garbage", "no history", "another network"])
def test_damaged_states_are_named_with_the_remedy_and_after_one_the_other_serves(
    how: str, tmp_path: Path, always: None
) -> None:
    unbroken, resumed = make_task(apart=1), make_task(apart=1, seed=1)
    expected = fit(unbroken, tmp_path / "unbroken")
    stop = Stop(7)
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(apart=1), tmp_path)
    stop.remove()
    for name in ("state.safetensors", state.PREVIOUS):
        kept = (tmp_path / name).read_bytes()
        spoil(tmp_path / name, how)
        if name == state.PREVIOUS:
            break
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in ("state.safetensors", state.PREVIOUS):
            (copy / file).write_bytes((tmp_path / file).read_bytes())
        assert kept != (copy / name).read_bytes()
        assert untimed(fit(resumed, copy)) == untimed(expected)
        assert torch.equal(weights(unbroken), weights(resumed))
    with pytest.raises(RunFolderError, match=r"state\.safetensors can't be resumed from.*Delete it"):
        fit(make_task(), tmp_path)


def test_a_damaged_state_never_takes_the_place_of_the_whole_one_before_it(tmp_path: Path, always: None) -> None:
    stop = Stop(7)
    with pytest.raises(KeyboardInterrupt):
        fit(make_task(apart=1), tmp_path)
    stop.remove()
    spoil(tmp_path / "state.safetensors", "cut")
    keeper = state.Keeper(tmp_path, moving(make_task()))
    place = keeper.restore()
    before = (tmp_path / state.PREVIOUS).read_bytes()
    keeper.save(replace(place, seconds=2.0))
    keeper._wait()
    assert (tmp_path / state.PREVIOUS).read_bytes() == before
    keeper.save(replace(place, seconds=1.0))
    keeper.close()
    assert (tmp_path / state.PREVIOUS).read_bytes() != before


def test_nothing_in_the_package_reads_or_writes_a_pickle() -> None:
    banned = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    files = list(Path(spectraderm.__path__[0]).rglob("*.py"))
    assert len(files) > 20
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names}
                module = (getattr(node, "module", None) or "").split(".")[0]
                shares = module == "joblib" and names <= {"Parallel", "delayed"}  # work among processes, no files
                bad = bool(banned & (names | {module})) and not shares
                bad = bad or (module == "torch" and bool({"load", "save"} & names))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner, name = ast.unparse(node.func.value), node.func.attr
                safe = any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in node.keywords)
                bad = (owner == "torch" and name in ("load", "save")) or name in ("read_pickle", "to_pickle")
                bad = bad or (owner in ("np", "numpy") and name in ("load", "save", "savez") and not safe)
            else:
                continue
            found += [f"{file.name}:{node.lineno}"] * bad
    assert found == []


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"none\.safetensors can't be loaded.*Train again"):
        load_weights(tmp_path / "none.safetensors", nn.Linear(2, 2))


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    for classes in (2, 5, 40):  # of 40, some are not there
        targets, guesses = random.integers(0, classes, (2, 60))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about guesses of a class that is not there
            expected = balanced_accuracy_score(targets, guesses)
        assert loop.balanced_accuracy(targets, guesses) == pytest.approx(expected)
