"""What moves weights: the optimizer, the rate at a point in time, and the average of the weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spectraderm.training.recipe import Precision, Recipe


def optimizer_of(parameters: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    """A recipe's optimizer of parameter groups that have their peak `lr`."""
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


def rate_at(recipe: Recipe, epoch: float) -> float:
    """The share of the peak learning rate at a point in time, counted in epochs."""
    if epoch < recipe.warmup_epochs:
        return (epoch + 0.1) / (recipe.warmup_epochs + 0.1)
    if recipe.schedule == "constant":
        return 1.0
    done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * done))


def move_average(average: dict[str, Tensor], module: nn.Module, keep: float, step: int) -> None:
    """Move averaged weights towards a module's; the first steps move them further."""
    keep = min(keep, (1 + step) / (10 + step))
    for name, value in module.state_dict().items():
        if name in average and value.is_floating_point():
            average[name].lerp_(value, 1 - keep)


def swap(module: nn.Module, average: dict[str, Tensor]) -> None:
    """Exchange a module's weights for the averaged ones, and these for the module's."""
    own = module.state_dict()
    for name, value in list(average.items()):
        average[name] = own[name].clone()
        own[name].copy_(value)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are now, which no step changes."""
    return {name: value.clone() for name, value in weights.items()}


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """In what layers compute: by `auto` in bfloat16 on a GPU that has it, else in float32."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    chosen = ("bf16" if has_bf16 else "fp32") if precision == "auto" else precision
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[chosen]
