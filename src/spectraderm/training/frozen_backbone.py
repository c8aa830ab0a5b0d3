"""A backbone whose layers don't change (any more): its maps as fast as this machine gives them exactly.

On a CPU ONNX Runtime computes them, in 32 bits: a quarter more photos a second than torch for open-nsfw-thin, a seventh
for a full ResNet-50. Only convolutions round otherwise than torch's do, and a photo's maps have the same bytes alone,
in any batch and by one thread or two.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from spectraderm.inference.engine import OnnxRuntime
from spectraderm.training.network import SkinResNet
from spectraderm.training.pooling import SkinNetwork

_BATCH, _BATCH_BY_TORCH = 4, 32
"""Photos that go through at once; on a processor, the maps of more don't fit into its caches."""
_AHEAD_OF_GPU = 2  # threads: one makes a batch while the other's is computed
_OPSET, _IR = 17, 8


@dataclass(frozen=True)
class Frozen:
    """The layers of a network as they were when it was frozen.

    Attributes:
        stages: normalised photos `float[n, 3, s, s]` -> the maps of the stages that a head sees.
        digest: SHA-256 of the layers' settings and weights, whatever head stands on them.
        batch: how many photos go through at once.
        threads: how many threads call it at once, each with a batch of its own.
    """

    stages: Callable[[Tensor], tuple[Tensor, ...]]
    digest: str
    batch: int
    threads: int

    def maps(self, network: SkinNetwork, photos: Tensor) -> Tensor:
        """The maps that `network.feature_maps` gives of normalised photos, for a network with these layers."""
        return network.joined(*self.stages(photos))

    def pooled(self, network: SkinNetwork, photos: Tensor) -> Tensor:
        """Their features by `network.pooled`, `float[n, width]`; the last stage's maps are not made larger for it."""
        stages = self.stages(photos)
        before, last = stages[0], stages[-1]
        if not network.with_statistics or before.shape[2:] != (2 * last.shape[2], 2 * last.shape[3]):
            return network.pooled(network.joined(*stages))
        means, deviations = zip(*(network.pooled(maps).tensor_split(2, 1) for maps in (before, last)), strict=True)
        return torch.cat([*means, *deviations], 1)


def freeze(network: SkinNetwork) -> Frozen:
    """Take a network's layers as they are now; by torch on a GPU, or where `backbone_graph` can't write them."""
    layers, on_cpu = network.layers, next(network.layers.parameters()).device.type == "cpu"
    digest = hashlib.sha256(repr(layers).encode())
    if not isinstance(network, SkinResNet):  # what heads and patches there are, its print does not say
        digest.update(layers.config.to_json_string().encode())
    for name, value in layers.state_dict().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
    by_torch = Frozen(network.stages, digest.hexdigest(), _BATCH_BY_TORCH, 1 if on_cpu else _AHEAD_OF_GPU)
    if not isinstance(network, SkinResNet) and on_cpu:  # torch rounds a photo in a batch otherwise than alone
        return replace(by_torch, batch=1)
    if not isinstance(network, SkinResNet) or not on_cpu or layers.config.hidden_act != "relu":
        return by_torch
    # one thread a batch: several for one batch wait for each other after every layer
    run: Callable[[Any], list[Any]] = OnnxRuntime(backbone_graph(layers), 1)

    def stages(photos: Tensor) -> tuple[Tensor, ...]:
        before, last = run(np.ascontiguousarray(photos.numpy()))
        return torch.from_numpy(before), torch.from_numpy(last)

    return replace(by_torch, stages=stages, batch=_BATCH, threads=torch.get_num_threads())


def backbone_graph(resnet: Any) -> bytes:  # noqa: ANN401
    """A ResNet's layers as ONNX, written node by node, for torch's own exporter takes ten seconds and more.

    `photos: float[n, 3, s, s]`, normalised -> `before` and `last`, the maps of the last two stages. Every batch norm
    goes into the convolution before it; activations are ReLU.
    """
    draft, pooler = _Draft(), resnet.embedder.pooler
    maps = [
        draft.node(
            "MaxPool",
            [draft.layer("photos", resnet.embedder.embedder)],
            ceil_mode=int(pooler.ceil_mode),
            kernel_shape=[pooler.kernel_size] * 2,
            strides=[pooler.stride] * 2,
            pads=[pooler.padding] * 4,
        )
    ]
    for stage in resnet.encoder.stages:
        maps.append(maps[-1])
        for block in stage.layers:
            maps[-1] = draft.block(maps[-1], block)
    ends = ("before", "last")
    for name, end in zip(maps[-2:], ends, strict=True):
        draft.node("Identity", [name], end)
    graph = helper.make_graph(
        draft.nodes,
        "backbone",
        [helper.make_tensor_value_info("photos", TensorProto.FLOAT, ["n", 3, "s", "s"])],
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["n", None, None, None]) for end in ends],
        draft.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    data: bytes = model.SerializeToString()
    return data


class _Draft:
    """Nodes and weights of a graph, as far as they are written; each method writes some and gives its result's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], name: str = "", **settings: Any) -> str:  # noqa: ANN401
        name = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **settings))
        return name

    def block(self, above: str, block: Any) -> str:  # noqa: ANN401
        shortcut = above if isinstance(block.shortcut, nn.Identity) else self.layer(above, block.shortcut)
        for layer in block.layer:
            above = self.layer(above, layer)
        return self.node("Relu", [self.node("Add", [above, shortcut])])

    def layer(self, above: str, layer: Any) -> str:  # noqa: ANN401
        """A convolution with its batch norm and, where it has one, its activation."""
        inner, norm = layer.convolution, layer.normalization
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = inner.weight.detach().double() * scale[:, None, None, None]
        bias = norm.bias.detach().double() - norm.running_mean.double() * scale
        inputs = [above, self._weight(weight.numpy()), self._weight(bias.numpy())]
        convolved = self.node(
            "Conv",
            inputs,
            kernel_shape=inner.kernel_size,
            strides=inner.stride,
            pads=[*inner.padding, *inner.padding],
            dilations=inner.dilation,
            group=inner.groups,
        )
        linear = isinstance(getattr(layer, "activation", nn.Identity()), nn.Identity)
        return convolved if linear else self.node("Relu", [convolved])

    def _weight(self, values: Any) -> str:  # noqa: ANN401
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name
