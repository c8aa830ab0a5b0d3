"""What a fold leaves behind: the state of its training, weights, logits, and where its errors looked.

Tensors are written as safetensors, never pickled.
"""

import json
from collections import defaultdict
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
from spectraderm.core.files import sha256, write_arrays, write_bytes, write_csv
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
        groups = {"module": self.module.state_dict(), "average": self.average, "best": self.best}
        groups |= {f"optimizer/{number}": own for number, own in self.optimizer.state_dict()["state"].items()}
        tensors = {
            f"{group}/{name}": value.detach().cpu().contiguous()
            for group, values in groups.items()
            for name, value in values.items()
            if value is not None
        }
        about = json.dumps({"history": self.history, "scaler": self.scaler.state_dict()})
        write_bytes(path, save(tensors, {"about": about, "sha256": _digest(tensors, about)}))

    def restore(self, path: Path) -> None:
        """Take over what `save` wrote, if there is any. Raises `RunFolderError`: it is damaged, or another module's."""
        if not path.is_file():
            return
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
            if metadata["sha256"] != _digest(tensors, metadata["about"]):
                raise ValueError("its SHA-256 is another one")
            about = json.loads(metadata["about"])
            self._load(tensors)
            self.history[:] = about["history"]
            self.scaler.load_state_dict(about["scaler"])
        except _DAMAGED as error:
            first = str(error).splitlines()[0]
            raise RunFolderError(
                f"{path} can't be resumed from ({first})", "Delete it to train this fold from its start"
            ) from error

    def _load(self, tensors: dict[str, Tensor]) -> None:
        groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, value in tensors.items():
            group, name = key.split("/", 1)
            groups[group][name] = value
        weights = self.module.state_dict()
        self.module.load_state_dict(groups["module"])
        for target, group in ((self.average, "average"), (self.best, "best")):
            target.update({name: value.to(weights[name].device) for name, value in groups[group].items()})
        moved = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        state: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, value in groups["optimizer"].items():
            number, key = name.split("/")
            weight = moved[int(number)]
            alike = value.shape == weight.shape  # then in the weight's memory layout, as the optimizer itself makes it
            state[int(number)][key] = torch.empty_like(weight.detach()).copy_(value) if alike else value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": dict(state)})


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    return sha256(save(tensors, {"about": about}))


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

    Of all photos it takes `logits float32[n, classes]`, and of those rows `maps float32[m, classes, h, w]`.
    """
    write_arrays(path, rows=rows, maps=maps[np.arange(len(rows)), logits[rows].argmax(1)].astype(np.float16))


def write_logits(path: Path, rows: Sequence[Row], sides: Sequence[str], labels: list[str], logits: Floats) -> None:
    """Write `logits.csv`, last: a fold that has its logits is done."""
    names = (*LOGIT_COLUMNS, *(f"logit:{label}" for label in labels))
    records = (
        dict(zip(names, (row.path, row.photo_group, side, row.label, *map(repr, own.tolist())), strict=True))
        for row, side, own in zip(rows, sides, logits, strict=True)
    )
    write_csv(path, names, records)
