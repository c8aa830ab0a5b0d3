"""All that the steps of a training change, as tensors with names."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Moving:
    """All that steps and epochs change.

    Attributes:
        module: whose weights are trained.
        optimizer: has sums of its own.
        scaler: of losses in 16 bits.
        average: of the weights; empty where the recipe does not average.
        kept: weights of the best epoch; empty before there is one, or where the recipe keeps the last.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, Tensor]
    kept: dict[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, on the CPU."""
        found = {f"module/{name}": value for name, value in self.module.state_dict().items()}
        for group, own in (("average", self.average), ("kept", self.kept)):
            found |= {f"{group}/{name}": value for name, value in own.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer/{number}/{name}": value for name, value in values.items() if value is not None}
        return {name: value.detach().cpu().contiguous() for name, value in found.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take what `tensors` gave. Raises, as torch does, what is another network's."""
        own = self.module.state_dict()
        self.module.load_state_dict(_below("module", tensors))
        for name, value in _below("average", tensors).items():
            self.average[name].copy_(value)
        self.kept.update({name: value.to(own[name].device) for name, value in _below("kept", tensors).items()})
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer", tensors).items():
            number, key = name.split("/")
            weight = weights[int(number)]
            laid = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
            state.setdefault(int(number), {})[key] = laid.detach()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _below(group: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}/"): value for name, value in tensors.items() if name.startswith(f"{group}/")}
