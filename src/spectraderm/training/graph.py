"""A trained network -> one ONNX file: pixels in; logits, features and class activation maps out."""

import logging
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.engine import INPUT, OUTPUTS
from spectraderm.training.augmentation import transformed
from spectraderm.training.network import Normalise, SkinResNet


class Deployable(nn.Module):
    """The network as it is exported: pixels in; logits, features and class activation maps out."""

    def __init__(self, network: SkinResNet, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(preprocessing)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels `uint8[n, s, s, 3]` -> see `spectraderm.inference.engine.Answer`."""
        photos = self.normalise(pixels)
        maps = self.network.feature_maps(transformed(photos, self.network.test_transforms))
        features = self.network.averaged(maps, photos.shape[0])
        return self.network.classifier(features), features, self.network.evidence(maps[: photos.shape[0]])


def to_onnx(network: SkinResNet, preprocessing: Preprocessing, half: bool = False) -> bytes:
    """One ONNX file with a free batch size: `pixels: uint8[n, s, s, 3]` -> `logits`, `features`, `maps`."""
    example = torch.zeros(2, preprocessing.size, preprocessing.size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets, four times, that torchvision is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch about its own code
        program = torch.onnx.export(
            Deployable(network, preprocessing).eval(),
            (example,),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:  # the exporter notes stack traces, paths of this machine among them
        del node.metadata_props[:]
        node.doc_string = ""
    if half:
        _halve(model)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _halve(model: onnx.ModelProto) -> None:
    """Store large weights as 16-bit floats, cast back when the model is loaded."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size > 1024:
            stored = f"{tensor.name}.half"
            casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
