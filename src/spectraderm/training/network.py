"""The network as torch sees it: a backbone, its pooling, and a head."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from spectraderm.core.errors import RecipeError
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import recipe as recipes
from spectraderm.training.backbones import Backbone, load_backbone, set_pooling
from spectraderm.training.image_network import SkinImageNetwork
from spectraderm.training.photo_augmentation import Transform
from spectraderm.training.pooling import SkinNetwork, head
from spectraderm.training.recipe import Recipe


class SkinResNet(SkinNetwork, ResNetForImageClassification):  # type: ignore[no-untyped-call]
    """`ResNetForImageClassification` with other heads, and with the pooling of either backbone.

    `config.head` is `linear` (what transformers itself builds) or `mlp`; `config.pool_padding` is `both` (what
    transformers itself does) or `end`; `config.pooling` and `config.test_transforms` are as in `Recipe`.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        set_pooling(self.resnet, getattr(config, "pool_padding", "both"))
        self.with_statistics = getattr(config, "pooling", "mean") == "statistics"
        self.test_transforms: tuple[Transform, ...] = tuple(getattr(config, "test_transforms", ("whole",)))
        kind = getattr(config, "head", "linear")
        if self.with_statistics or kind == "mlp":
            self.classifier = head(kind, feature_width(config), len(config.id2label or ()))

    @property
    def layers(self) -> Any:  # noqa: ANN401
        return self.resnet

    @property
    def last_means(self) -> slice:
        *_, before, last = self.config.hidden_sizes
        return slice(before, before + last)

    def stages(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Normalised photos -> the maps of the last two stages."""
        *_, before, last = self.resnet.encoder(self.resnet.embedder(inputs), output_hidden_states=True).hidden_states
        return before, last

    def joined(self, *stages: Tensor) -> Tensor:
        """The last stage's maps; with `statistics` the last two stages', the last at the size of the one before."""
        before, last = stages
        if not self.with_statistics:
            return last
        return torch.cat([before, functional.interpolate(last, before.shape[2:], mode="nearest")], 1)


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


class FromPixels(nn.Module):
    """Pixels `[n, s, s, 3]` -> a network's logits `float[n, classes]`."""

    def __init__(self, network: SkinNetwork, normalise: Normalise) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, batch: Tensor) -> Tensor:
        network = self.network
        return cast("Tensor", network.classifier(network.pooled(network.feature_maps(self.normalise(batch)))))


def feature_width(config: ResNetConfig) -> int:
    """How many features a ResNet has after pooling."""
    *_, before, last = config.hidden_sizes or [0, 0]
    return 2 * (before + last) if getattr(config, "pooling", "mean") == "statistics" else int(last)


def build(backbone: Backbone, recipe: Recipe, labels: list[str]) -> SkinNetwork:
    """Put a recipe's head for `labels` onto a backbone; the head's weights come from torch's random generator.

    Raises:
        RecipeError: it trains layers, and these are not a ResNet's.
        BackboneError: the backbone does not take photos of the recipe's size, or gives no maps of them.
    """
    config: Any = copy.deepcopy(backbone.model.config)
    config.head = "mlp" if recipe.head == "mlp" else "linear"
    config.pooling, config.test_transforms = recipe.pooling, list(recipe.test_transforms)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    model: SkinNetwork
    if isinstance(backbone.model, ResNetModel):
        config.architectures = ["ResNetForImageClassification"]
        model = SkinResNet(config)
        model.resnet.load_state_dict(backbone.model.state_dict())
    elif recipe.train_backbone:
        raise RecipeError(f"recipe {recipe.name} trains the layers of ResNets only", "Use --recipe discriminant")
    else:
        model = SkinImageNetwork(backbone, config, recipe.image_size)
    for layer in model.classifier:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)  # Keras' default, so that the mission's head starts alike
            nn.init.zeros_(layer.bias)
    return model


def load_matching(recipe: str, changes: Mapping[str, Any] | None, backbone: str) -> tuple[Recipe, Backbone]:
    """A recipe and a backbone that go together; see `recipe.load`, `load_backbone` and `build` for what is raised."""
    settings, loaded = recipes.load(recipe, changes), load_backbone(backbone)
    if not isinstance(loaded.model, ResNetModel):
        build(loaded, settings, ["any"])
    return settings, loaded
