"""A network whose layers don't change (any more): their maps as fast as this machine gives them exactly.

On a CPU ONNX Runtime does it, in 32 bits: a quarter more photos a second than torch for open-nsfw-thin, a seventh for a
full ResNet-50. Only convolutions round otherwise than torch's do, and a photo's maps have the same bytes alone, in any
batch and by one thread or two.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import ResNetModel

from spectraderm.inference.remembering import machine
from spectraderm.inference.with_onnxruntime import OnnxRuntime
from spectraderm.training.backbone_graph import backbone_graph
from spectraderm.training.network import SkinResNet

_BATCH, _BATCH_BY_TORCH = 8, 32
"""Photos that go through at once; on a processor, the maps of more don't fit into its caches."""


@dataclass(frozen=True)
class Frozen:
    """The layers of a network as they were when it was frozen.

    Attributes:
        stages: normalised photos `float[n, 3, s, s]` -> the maps of the last two stages.
        made_by: all that the bits of these maps depend on: weights, library, processor.
        batch: how many photos go through at once.
    """

    stages: Callable[[Tensor], tuple[Tensor, Tensor]]
    made_by: tuple[str, ...]
    batch: int

    def maps(self, network: SkinResNet, photos: Tensor) -> Tensor:
        """What `network.feature_maps` says of normalised photos, for a network with these layers."""
        return _together(network, *self.stages(photos))

    def pooled(self, network: SkinResNet, photos: Tensor) -> Tensor:
        """What `network.pooled` says of their maps `float[n, width]`; the last stage's are not made larger for it."""
        before, last = self.stages(photos)
        if not network.with_statistics or before.shape[2:] != (2 * last.shape[2], 2 * last.shape[3]):
            return network.pooled(_together(network, before, last))
        means, deviations = zip(*(network.pooled(maps).tensor_split(2, 1) for maps in (before, last)), strict=True)
        return torch.cat([*means, *deviations], 1)


def freeze(network: SkinResNet) -> Frozen:
    """Take a network's layers as they are now; by torch on a GPU, or where their activation is an unusual one."""
    resnet = network.resnet
    device = next(resnet.parameters()).device
    if device.type == "cpu" and resnet.config.hidden_act == "relu":
        library = f"onnxruntime {metadata.version('onnxruntime')}"
        return Frozen(_by_onnxruntime(resnet), (_digest(resnet), library, machine()["processor"]), _BATCH)
    by = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} of {machine()['processor']}"
    return Frozen(_by_torch(resnet), (_digest(resnet), f"torch {torch.__version__}", by), _BATCH_BY_TORCH)


def _together(network: SkinResNet, before: Tensor, last: Tensor) -> Tensor:
    if not network.with_statistics:
        return last
    return torch.cat([before, functional.interpolate(last, before.shape[2:], mode="nearest")], 1)


def _by_onnxruntime(resnet: ResNetModel) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    run: Callable[[Any], list[Any]] = OnnxRuntime(backbone_graph(resnet), torch.get_num_threads())

    def stages(photos: Tensor) -> tuple[Tensor, Tensor]:
        before, last = run(np.ascontiguousarray(photos.numpy()))
        return torch.from_numpy(before), torch.from_numpy(last)

    return stages


def _by_torch(resnet: ResNetModel) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def stages(photos: Tensor) -> tuple[Tensor, Tensor]:
        *_, before, last = resnet.encoder(resnet.embedder(photos), output_hidden_states=True).hidden_states
        return before, last

    return stages


def _digest(resnet: ResNetModel) -> str:
    """SHA-256 of the layers' settings and weights, whatever head stands on them."""
    total = hashlib.sha256(repr(resnet).encode())
    for name, value in resnet.state_dict().items():
        total.update(name.encode())
        total.update(np.ascontiguousarray(value.cpu().numpy()).data)
    return total.hexdigest()
