"""What a fold leaves behind: the state of its training, weights, logits, and where its errors looked.

Tensors are written as safetensors, never pickled.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import write_arrays, write_bytes, write_csv
from spectraderm.core.run import LOGIT_COLUMNS
from spectraderm.data.manifest import Row
from spectraderm.inference.calibration import softmax
from spectraderm.training.dataset import Floats, Integers

HEATMAPS_KEPT = 48
"""How many wrongly guessed test photos a fold keeps the class activation maps of."""
_DAMAGED = (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class TrainState:
    """All that the epochs of a training change. Rates and random numbers follow from seed, epoch and step.

    Attributes:
        module: whose weights are trained.
        optimizer: the optimizer, with its momentum.
        scaler: of losses in 16-bit floats.
        average: the moving average of the weights; empty where the recipe does not average.
        best: the weights of the best epoch; empty before the first epoch, and where the recipe keeps the last one.
        history: a line of `history.csv` for every epoch that is done.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the state to a file. Raises `WriteError`."""
        tensors = _named("module", self.module.state_dict()) | _named("average", self.average)
        tensors |= _named("best", self.best)
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= _named(f"optimizer/{number}", values)
        about = {"history": json.dumps(self.history), "scaler": json.dumps(self.scaler.state_dict())}
        write_bytes(path, save(tensors, metadata=about | {"sha256": json.dumps(_digest(tensors, about))}))

    def restore(self, path: Path) -> None:
        """Take over what `save` wrote, if there is any. Raises `RunFolderError`: it is damaged, or another module's."""
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                texts = file.metadata() or {}
            about = {name: json.loads(text) for name, text in texts.items()}
            if about.pop("sha256") != _digest(tensors, {name: texts[name] for name in about}):
                raise ValueError("its SHA-256 is another one")
            self._load(tensors)
            self.history[:] = about["history"]
            self.scaler.load_state_dict(about["scaler"])
        except _DAMAGED as error:
            first = str(error).splitlines()[0]
            raise RunFolderError(
                f"{path} can't be resumed from ({first})", "Delete it to train this fold from its start"
            ) from error

    def _load(self, tensors: dict[str, Tensor]) -> None:
        weights = self.module.state_dict()
        self.module.load_state_dict(_below("module", tensors))
        for target, group in ((self.average, "average"), (self.best, "best")):
            target.update({name: value.to(weights[name].device) for name, value in _below(group, tensors).items()})
        moved = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer", tensors).items():
            number, key = name.split("/")
            weight = moved[int(number)]
            alike = value.shape == weight.shape  # then in the weight's memory layout, as the optimizer itself makes it
            state.setdefault(int(number), {})[key] = torch.empty_like(weight.detach()).copy_(value) if alike else value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _digest(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    """SHA-256 of names and contents, whatever their order in a file."""
    digest = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors. Raises `WriteError`."""
    write_bytes(path, save({name: value.contiguous() for name, value in module.state_dict().items()}))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a module's weights. Raises `RunFolderError` where they are missing, damaged, or another module's."""
    try:
        with safe_open(path, framework="pt") as file:
            module.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except _DAMAGED as error:
        raise RunFolderError(f"{path} can't be loaded ({str(error).splitlines()[0]})", "Train again") from error


def surest_errors(logits: Floats, targets: Integers, tested: npt.NDArray[np.bool_]) -> Integers:
    """Rows of the tested photos that were guessed wrong, `int64[m]`, those with the most probable guess first."""
    wrong = np.flatnonzero(tested & (logits.argmax(1) != targets))
    sure = softmax(logits[wrong]).max(1, initial=0)
    return wrong[np.argsort(-sure, kind="stable")][:HEATMAPS_KEPT].astype(np.int64)


def write_heatmaps(path: Path, rows: Integers, logits: Floats, maps: Floats) -> None:
    """Write `rows int64[m]`, which photos, and `maps float16[m, h, w]`, how much each place counted for the guess.

    Args:
        path: the file, `.npz`.
        rows: of `surest_errors`.
        logits: of all photos, `float32[n, classes]`.
        maps: of those rows and all classes, `float32[m, classes, h, w]`.
    """
    of_guess = maps[np.arange(len(rows)), logits[rows].argmax(1)].astype(np.float16)
    write_arrays(path, rows=rows, maps=of_guess)


def write_logits(path: Path, rows: Sequence[Row], sides: Sequence[str], labels: list[str], logits: Floats) -> None:
    """Write `logits.csv`, last: a fold that has its logits is done."""
    names = [f"logit:{label}" for label in labels]
    records = (
        {
            **dict(zip(LOGIT_COLUMNS, (row.path, row.photo_group, side, row.label), strict=True)),
            **{name: repr(float(value)) for name, value in zip(names, values, strict=True)},
        }
        for row, side, values in zip(rows, sides, logits, strict=True)
    )
    write_csv(path, (*LOGIT_COLUMNS, *names), records)


def _named(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors for a file: on the CPU, by names that start with the group's."""
    chosen = {f"{group}/{name}": value for name, value in tensors.items() if value is not None}
    return {name: value.detach().cpu().contiguous() for name, value in chosen.items()}


def _below(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}/"): value for name, value in tensors.items() if name.startswith(f"{group}/")}
