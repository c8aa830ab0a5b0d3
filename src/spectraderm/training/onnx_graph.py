"""A network -> ONNX: normalised photos in, first the logits out. torch's exporter's door."""

import copy
import logging
import warnings
from itertools import pairwise

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from spectraderm.core.errors import BackboneError
from spectraderm.inference.engine import INPUT, OUTPUTS
from spectraderm.training.augmentation import transformed
from spectraderm.training.onnx_head import PREFIX, SEAM, put_head
from spectraderm.training.pooling import SkinNetwork

_SMALL = 1024
"""Tensors of up to so many numbers are never stored in 16 bits."""


class Deployable(nn.Module):
    """The network as it is exported: photos in; features and maps out, and where its head is not linear the answer."""

    def __init__(self, network: SkinNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        """Normalised `float[n, 3, s, s]` -> see `onnx_head`; or else see `spectraderm.inference.engine.Answer`."""
        network = self.network
        maps = network.feature_maps(transformed(photos, network.test_transforms))
        features, own = network.averaged(maps, photos.shape[0]), maps[: photos.shape[0]]
        if network.linear_head is not None:
            return features, own
        return network.classifier(features), features, network.evidence(own)


def to_onnx(network: SkinNetwork, size: int) -> bytes:
    """One ONNX file with a free batch size: `pixel_values: float32[n, 3, size, size]` -> `logits`, `features`, `maps`.

    A linear head is written by `onnx_head`, so that `adapt` can put another in its place.

    Raises:
        BackboneError: torch can't write this backbone.
    """
    linear = network.linear_head
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets, four times, that torchvision is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch about its own code
        try:
            program = torch.onnx.export(
                Deployable(network).eval(),
                (torch.zeros(2, 3, size, size),),
                input_names=[INPUT],
                output_names=list(OUTPUTS if linear is None else SEAM),
                dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            problem = "torch can't write this backbone as ONNX"
            raise BackboneError(problem, "Train again with another --backbone") from error
    assert program is not None
    model = program.model_proto
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        del noted.metadata_props[:]  # the exporter notes stack traces, paths of this machine among them
    for node in graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    if linear is None:
        return data
    weight, bias = (part.detach().numpy() for part in (linear.weight, linear.bias))
    return put_head(data, weight, bias, network.feature_layout)


def halved(graph: bytes) -> bytes:
    """The same graph with large weights stored as 16-bit floats, cast back when the model is loaded; not a head's."""
    model = onnx.load_from_string(graph)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size > _SMALL and not tensor.name.startswith(PREFIX):
            stored = f"{tensor.name}.half"
            casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    data: bytes = model.SerializeToString()
    return data


@torch.no_grad()
def rounded(network: SkinNetwork) -> SkinNetwork:
    """A copy of a network that computes, in 32 bits, what its `halved` graph does.

    That graph has batch norms folded into the convolutions before them, and the products rounded. Here the weights are
    what such products come from.
    """
    network = copy.deepcopy(network)
    norms = {
        convolution.weight: norm
        for layer in network.modules()
        for convolution, norm in pairwise(layer.children())
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    }
    kept = set(network.classifier.parameters()) if network.linear_head is not None else set()
    for weight in set(network.parameters()) - kept:
        if weight.numel() <= _SMALL:
            continue
        scale = torch.ones(1)
        if norm := norms.get(weight):
            assert norm.running_var is not None
            scale = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]
        weight.copy_(torch.where(scale == 0, weight, (weight * scale).half().float() / scale))
    return network
