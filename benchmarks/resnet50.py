"""Writes a full ResNet-50 without any download, in the layout of the Hugging Face Hub, for comparisons of speed.

    python benchmarks/resnet50.py FOLDER

It is `open-nsfw-thin` made twice as wide: every channel stands there twice, and whatever reads it gives each half the
weight (Net2WiderNet, Chen et al. 2016), so that it computes the same features at the cost of the full shape, and both
sides of a comparison reach an accuracy that means something. The shape is the one that Keras' `ResNet50` has: strides
in the first 1x1 convolutions, max-pooling padded at all sides. (The half-width network pads at two, so that its
features are near, not equal.) It expects what Keras' `preprocess_input` gives: 0 to 255, less the means of ImageNet.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import ResNetConfig, ResNetModel

from spectraderm.training.backbones import open_nsfw

MEAN = (123.68, 116.779, 103.939)
WIDTHS = [256, 512, 1024, 2048]
TINY = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="bottleneck")


def main() -> None:
    """Write it, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print(write(parser.parse_args().folder))


def write(folder: Path, tiny: bool = False) -> Path:
    """Write the network into `folder` unless it is there; a `tiny` random one only tries scripts out."""
    if (folder / "preprocessor_config.json").is_file():
        return folder
    torch.manual_seed(0)
    model = ResNetModel(TINY) if tiny else widened(open_nsfw())
    model.save_pretrained(folder)
    colours = {"image_mean": [value / 255 for value in MEAN], "image_std": [1 / 255] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(colours))
    return folder


def widened(thin: ResNetModel) -> ResNetModel:
    """The same function with twice the channels in every stage; max-pooling is padded at all sides."""
    model = ResNetModel(ResNetConfig(hidden_sizes=WIDTHS, layer_type="bottleneck", downsample_in_bottleneck=True))
    narrow = thin.state_dict()
    model.load_state_dict({name: stretched(narrow[name], wide) for name, wide in model.state_dict().items()})
    return model


def stretched(narrow: Tensor, wide: Tensor) -> Tensor:
    """A tensor repeated to the shape of another; a convolution's weights shared among the inputs that now are equal."""
    if narrow.ndim == 0:
        return narrow
    times = [new // old for old, new in zip(narrow.shape, wide.shape, strict=True)]
    return narrow.repeat(times) / (times[1] if narrow.ndim > 1 else 1)


if __name__ == "__main__":
    main()
