"""A ResNet's layers -> an ONNX graph, written node by node: torch's own exporters take ten seconds and more.

Every batch norm goes into the convolution before it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from transformers import ResNetModel

_OPSET, _IR = 17, 8


def backbone_graph(resnet: ResNetModel) -> bytes:
    """`photos: float[n, 3, s, s]`, normalised -> `before` and `last`, the maps of the last two stages.

    Its activations are ReLU.
    """
    draft = _Draft()
    maps = [draft.pooled(draft.layer("photos", resnet.embedder.embedder), resnet.embedder.pooler)]
    stages: Any = resnet.encoder.stages
    for stage in stages:
        maps.append(maps[-1])
        for block in stage.layers:
            maps[-1] = draft.block(maps[-1], block)
    ends = [
        draft.node("Identity", [name], name=output) for name, output in zip(maps[-2:], ("before", "last"), strict=True)
    ]
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
    """Nodes and weights, as far as they are written."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str = "", **settings: Any) -> str:  # noqa: ANN401
        name = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **settings))
        return name

    def block(self, above: str, block: Any) -> str:  # noqa: ANN401
        shortcut = above if isinstance(block.shortcut, nn.Identity) else self.layer(above, block.shortcut)
        own = above
        for layer in block.layer:
            own = self.layer(own, layer)
        return self.node("Relu", [self.node("Add", [own, shortcut])])

    def layer(self, above: str, layer: Any) -> str:  # noqa: ANN401
        """A convolution with its batch norm and, where it has one, its activation."""
        inner, norm = layer.convolution, layer.normalization
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = inner.weight.detach().double() * scale[:, None, None, None]
        bias = norm.bias.detach().double() - norm.running_mean.double() * scale
        inputs = [above, self._weight(weight.numpy()), self._weight(bias.numpy())]
        own = self.node(
            "Conv",
            inputs,
            kernel_shape=inner.kernel_size,
            strides=inner.stride,
            pads=[*inner.padding, *inner.padding],
            dilations=inner.dilation,
            group=inner.groups,
        )
        return own if isinstance(getattr(layer, "activation", nn.Identity()), nn.Identity) else self.node("Relu", [own])

    def pooled(self, above: str, pooler: Any) -> str:  # noqa: ANN401
        side, step, edge = pooler.kernel_size, pooler.stride, pooler.padding
        lengths: dict[str, Any] = {"kernel_shape": [side] * 2, "strides": [step] * 2, "pads": [edge] * 4}
        return self.node("MaxPool", [above], ceil_mode=int(pooler.ceil_mode), **lengths)

    def _weight(self, values: Any) -> str:  # noqa: ANN401
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name
