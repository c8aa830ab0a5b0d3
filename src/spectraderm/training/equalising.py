"""The same network with channels of more equal size, so that one scale for all of a layer's activations fits each.

Cross-layer equalisation (Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction")
by the square root of each channel's largest activation, as in SmoothQuant (Xiao et al. 2023): what a layer divides a
channel by, the layers that read it multiply it by, and ReLU between them does not mind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spectraderm.training.network import SkinResNet

_SMALLEST = 1 / 16  # of the largest channel; below it a channel is not made larger


@dataclass
class _Channels:
    """Channels that some convolutions write, by adding to each other, and others read; `shown` after the last ReLU."""

    writers: list[nn.Conv2d] = field(default_factory=list)
    readers: list[nn.Conv2d] = field(default_factory=list)
    shown: list[nn.Module] = field(default_factory=list)


@torch.no_grad()
def equalise(network: SkinResNet, photos: Tensor) -> None:
    """Scale the channels of a network without batch norms, in place; what it says stays the same.

    Args:
        network: `rounding.folded`, in eval mode.
        photos: normalised `float[n, 3, s, s]`, like those it will see.
    """
    found = _inside(network)
    peaks = _peaks(network, photos, [module for channels in found for module in channels.shown])
    for channels in found:
        peak = torch.stack([peaks[module] for module in channels.shown]).amax(0)
        scale = (peak / peak.max().clamp(min=1e-9)).clamp(min=_SMALLEST).sqrt()
        for writer in channels.writers:
            writer.weight.div_(scale[:, None, None, None])
            if writer.bias is not None:
                writer.bias.div_(scale)
        for reader in channels.readers:
            reader.weight.mul_(scale[None, :, None, None])


def _inside(network: SkinResNet) -> list[_Channels]:
    """All channels but those of the last two stages' outputs, which the head sees."""
    embedder: Any = network.resnet.embedder.embedder
    stream = _Channels([embedder.convolution], shown=[embedder])
    streams, found = [stream], []
    stages: Any = network.resnet.encoder.stages
    for stage in stages:
        for block in stage.layers:
            first, *others = block.layer
            stream.readers.append(first.convolution)
            if not isinstance(block.shortcut, nn.Identity):
                stream.readers.append(block.shortcut.convolution)
                stream = _Channels([block.shortcut.convolution])
                streams.append(stream)
            stream.writers.append(block.layer[-1].convolution)
            stream.shown.append(block)
            for writer, reader in zip(block.layer, others, strict=False):
                found.append(_Channels([writer.convolution], [reader.convolution], [writer]))
    seen = {id(block) for stage in stages[-2:] for block in stage.layers}
    return found + [one for one in streams if not any(id(module) in seen for module in one.shown)]


def _peaks(network: SkinResNet, photos: Tensor, modules: Sequence[nn.Module]) -> dict[nn.Module, Tensor]:
    """The largest activation of every channel of what modules give, `float[channels]`."""
    found: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        peak = output.amax((0, 2, 3))
        found[module] = torch.maximum(found.get(module, peak), peak)

    hooks = [module.register_forward_hook(note) for module in modules]
    for start in range(0, len(photos), 4):
        network.feature_maps(photos[start : start + 4])
    for hook in hooks:
        hook.remove()
    return found
