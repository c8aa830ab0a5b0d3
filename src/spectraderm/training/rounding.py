"""A network's weights on a grid of 129 levels, rounded so that each rounding makes up for those before it.

GPTQ (Frantar et al. 2022, "Accurate post-training quantization for generative pre-trained transformers"), which is
Optimal Brain Surgeon (Hassibi & Stork 1993) weight by weight: what rounding changes in a layer's outputs, on photos, is
put right by the weights that are not rounded yet.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spectraderm.training.network import SkinResNet

LEVELS = 64
"""The largest weight of a channel, in steps of its grid. Processors without VNNI add products of 8 bits in pairs in 16
bits, which 2 * 255 * 64 just fits into, so that every processor gets the same sums."""

_PLACES = 200  # of a photo, that a layer is looked at
_DAMPING = 0.01  # of the mean second moment, so that dead inputs don't make it singular
_BLOCK = 64


def folded(network: SkinResNet) -> SkinResNet:
    """The same function without batch norms: a copy whose convolutions scale and shift by themselves."""
    network = copy.deepcopy(network)
    for layer in network.modules():
        if isinstance(norm := getattr(layer, "normalization", None), nn.BatchNorm2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            convolution, scale = (
                cast("nn.Conv2d", layer.convolution),
                norm.weight / torch.sqrt(norm.running_var + norm.eps),
            )
            convolution.weight = nn.Parameter((convolution.weight * scale[:, None, None, None]).detach())
            convolution.bias = nn.Parameter((norm.bias - norm.running_mean * scale).detach())
            layer.normalization = nn.Identity()
    return network


@torch.no_grad()
def round_weights(network: SkinResNet, photos: Tensor) -> dict[str, Tensor]:
    """Round the weights of all convolutions of a `folded` network, in place.

    Args:
        network: in eval mode.
        photos: normalised `float[n, 3, s, s]`, like those it will see.

    Returns:
        For each convolution, by its name, the step of every output channel's grid: `float[channels]`.
    """
    steps = {}
    moments = _moments(network, photos)
    for name, layer in _convolutions(network).items():
        weights = layer.weight.flatten(1).double()
        step = weights.abs().amax(1).clamp(min=1e-9).float() / LEVELS
        rounded = _rounded(weights, moments.pop(name).double(), step.double()[:, None])
        layer.weight.copy_(rounded.reshape(layer.weight.shape))
        steps[name] = step
    return steps


def _convolutions(network: SkinResNet) -> dict[str, nn.Conv2d]:
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}


def _moments(network: SkinResNet, photos: Tensor) -> dict[str, Tensor]:
    """Second moments of every convolution's inputs, `float[k, k]`, at some random places of each photo."""
    random = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def note(name: str, layer: nn.Conv2d, inputs: Tensor) -> None:
        patches = functional.unfold(inputs, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # type: ignore[arg-type]
        patches = patches.transpose(0, 1).flatten(1)
        chosen = torch.randperm(patches.shape[1], generator=random)[: _PLACES * len(inputs)]
        patches = patches[:, chosen]
        found[name] = found.get(name, 0) + patches @ patches.T

    hooks = [
        layer.register_forward_pre_hook(lambda layer, given, name=name: note(name, layer, given[0]))
        for name, layer in _convolutions(network).items()
    ]
    for start in range(0, len(photos), 4):
        network.feature_maps(photos[start : start + 4])
    for hook in hooks:
        hook.remove()
    return found


def _rounded(weights: Tensor, moments: Tensor, step: Tensor) -> Tensor:
    """Weights `double[channels, k]` on grids of steps `double[channels, 1]`, the inputs that vary most first."""
    order = torch.argsort(moments.diagonal(), descending=True)
    moments = moments[order][:, order]
    moments.diagonal().add_(_DAMPING * moments.diagonal().mean() + 1e-12)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)
    weights, result = weights[:, order], torch.empty_like(weights)
    width = weights.shape[1]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = torch.empty_like(weights[:, start:end])
        for column in range(start, end):
            own = weights[:, column : column + 1]
            result[:, column : column + 1] = step * torch.round(own / step).clamp(-LEVELS, LEVELS)
            error = (own - result[:, column : column + 1]) / inverse[column, column]
            errors[:, column - start : column - start + 1] = error
            weights[:, column:end] -= error * inverse[column, column:end]
        weights[:, end:] -= errors @ inverse[start:end, end:]
    return result[:, torch.argsort(order)]
