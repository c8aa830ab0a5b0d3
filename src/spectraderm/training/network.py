"""The network as torch sees it: a backbone, its pooling, and a head."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification

from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training.augmentation import Transform, transformed
from spectraderm.training.backbones import Backbone, set_pooling
from spectraderm.training.onnx_head import FeatureLayout
from spectraderm.training.recipe import Recipe

HIDDEN = 512
"""Width of the `mlp` head's inner layer."""


class SkinResNet(ResNetForImageClassification):  # type: ignore[no-untyped-call]
    """`ResNetForImageClassification` with other heads, and with the pooling of either backbone.

    `config.head` is `linear` (what transformers itself builds) or `mlp`; `config.pool_padding` is `both` (what
    transformers itself does) or `end`; `config.pooling` and `config.test_transforms` are as in `Recipe`.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        set_pooling(self.resnet, getattr(config, "pool_padding", "both"))
        self.with_statistics = getattr(config, "pooling", "mean") == "statistics"
        self.test_transforms: tuple[Transform, ...] = tuple(getattr(config, "test_transforms", ("whole",)))
        width, classes = feature_width(config), len(config.id2label or ())
        if self.with_statistics:
            self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width, classes))
        if getattr(config, "head", "linear") == "mlp":
            layers = nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)
            self.classifier = nn.Sequential(nn.Flatten(), *layers)

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head's only layer; None where it has more."""
        layers = [layer for layer in self.classifier if isinstance(layer, nn.Linear)]
        return layers[0] if len(layers) == 1 else None

    @property
    def feature_layout(self) -> FeatureLayout:
        """Which features are means over all places, and which deviations."""
        width = feature_width(self.config)
        channels = width // 2 if self.with_statistics else width
        return FeatureLayout((0, channels), (channels, width) if self.with_statistics else None)

    def feature_maps(self, inputs: Tensor) -> Tensor:
        """Normalised photos `float[n, 3, s, s]` -> maps `float[n, channels, h, w]` that a head sees averaged.

        They are the last stage's; with `statistics` the last two stages', the last at the size of the one before.
        """
        return self.joined(*self.stages(inputs))

    def stages(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised photos -> the maps of the last two stages."""
        *_, before, last = self.resnet.encoder(self.resnet.embedder(inputs), output_hidden_states=True).hidden_states
        return before, last

    def joined(self, before: Tensor, last: Tensor) -> Tensor:
        """The maps of the last two stages -> those that a head sees."""
        if not self.with_statistics:
            return last
        return torch.cat([before, functional.interpolate(last, before.shape[2:], mode="nearest")], 1)

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps -> features `float[n, width]`: means over all places, with `statistics` standard deviations, too."""
        mean = maps.mean((2, 3))
        return torch.cat([mean, _deviation(maps, mean)], 1) if self.with_statistics else mean

    def features(self, inputs: Tensor) -> Tensor:
        """Normalised photos `float[n, 3, s, s]` -> features `float[n, width]`, averaged over the transforms."""
        return self.averaged(self.feature_maps(transformed(inputs, self.test_transforms)), inputs.shape[0])

    def averaged(self, maps: Tensor, photos: int) -> Tensor:
        """Maps of so many photos by all transforms, one after the other -> features `float[photos, width]`."""
        features = self.pooled(maps)
        return features.reshape(len(self.test_transforms), photos, features.shape[1]).mean(0)

    def evidence(self, maps: Tensor) -> Tensor:
        """Maps of the whole photo -> how much each place counts for each class, `float[n, classes, h, w]`.

        Their mean over all places is the logits less the bias. HiResCAM (Draelos & Carin 2020); for a linear head
        on means the class activation map of Zhou et al. 2016; a place's share of a standard deviation is its squared
        distance from the mean, divided by the deviation.
        """
        first, *rest = [layer for layer in self.classifier if isinstance(layer, nn.Linear)]
        weights = first.weight
        if rest:  # the head is linear around each photo: its second layer times those first-layer rows that fire
            fires = (first(self.pooled(maps)) > 0).float()
            weights = (rest[0].weight[None] * fires[:, None, :]) @ first.weight
        channels = maps.shape[1]
        # weights of means [classes, c] (or [n, classes, c]) times maps [n, c, h * w]: [n, classes, h * w]
        places = weights[..., :channels] @ maps.flatten(2)
        if self.with_statistics:
            mean = maps.mean((2, 3))
            # weights of deviations, each divided by the photo's deviation: [n, classes, c]
            spread = (weights[..., channels:] / _deviation(maps, mean)[:, None, :]).expand(maps.shape[0], -1, -1)
            places = places + spread @ (maps - mean[:, :, None, None]).flatten(2) ** 2
        return places.reshape(-1, places.shape[1], *maps.shape[2:])


class Normalise(nn.Module):
    """Pixels `uint8[n, s, s, 3]` (or float, 0..255) -> the network's input `float[n, 3, s, s]`, on its own device."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1) * 255)

    def forward(self, pixels: Tensor) -> Tensor:
        photos = pixels.to(self.mean.device).permute(0, 3, 1, 2).float()
        return (photos - self.mean) / self.std


def feature_width(config: ResNetConfig) -> int:
    """How many features the network has after pooling."""
    *_, before, last = config.hidden_sizes or [0, 0]
    return 2 * (before + last) if getattr(config, "pooling", "mean") == "statistics" else int(last)


def build(backbone: Backbone, recipe: Recipe, labels: list[str]) -> SkinResNet:
    """Put a recipe's head for `labels` onto a backbone; the head's weights come from torch's random generator."""
    config = copy.deepcopy(backbone.model.config)
    config.head = "mlp" if recipe.head == "mlp" else "linear"
    config.pooling, config.test_transforms = recipe.pooling, list(recipe.test_transforms)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.architectures = ["ResNetForImageClassification"]
    model = SkinResNet(config)
    model.resnet.load_state_dict(backbone.model.state_dict())
    for layer in model.classifier:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)  # Keras' default, so that the mission's head starts alike
            nn.init.zeros_(layer.bias)
    return model


def _deviation(maps: Tensor, mean: Tensor) -> Tensor:
    """Standard deviations over all places, `float[n, channels]`, at least 1e-4, so that they divide."""
    return ((maps - mean[:, :, None, None]) ** 2).mean((2, 3)).clamp(min=1e-8).sqrt()
