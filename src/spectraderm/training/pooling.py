"""What every network here does with a backbone's maps: pools them, and says how much each place counts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spectraderm.training.augmentation import transformed
from spectraderm.training.onnx_head import FeatureLayout
from spectraderm.training.photo_augmentation import Transform

HIDDEN = 512
"""Width of the `mlp` head's inner layer."""


class SkinNetwork(nn.Module):
    """A backbone that gives maps, and a head on their means, with `statistics` on their standard deviations, too.

    Attributes:
        config: what `config.json` of a model folder says.
        classifier: the head; its layers are `nn.Linear` and what stands between.
        constant: how many of the maps, the last ones, have one value for all places, a class token's; they have no
            standard deviation.
        with_statistics, test_transforms: `pooling` and `test_transforms` of the recipe.
    """

    config: Any
    classifier: nn.Sequential
    with_statistics: bool
    constant: int = 0
    test_transforms: Sequence[Transform]

    @property
    def layers(self) -> Any:  # noqa: ANN401
        """The backbone."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """How many features a head sees."""
        return next(layer.in_features for layer in self.classifier if isinstance(layer, nn.Linear))

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head's only layer; None where it has more."""
        layers = [layer for layer in self.classifier if isinstance(layer, nn.Linear)]
        return layers[0] if len(layers) == 1 else None

    @property
    def feature_layout(self) -> FeatureLayout:
        """Which features are means over all places, and which deviations."""
        if not self.with_statistics:
            return FeatureLayout((0, self.width))
        channels = (self.width + self.constant) // 2
        return FeatureLayout((0, channels), (channels, self.width))

    @property
    def last_means(self) -> slice:
        """Which of the features with `statistics` are those without."""
        raise NotImplementedError

    def stages(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Normalised photos `float[n, 3, s, s]` -> maps of the stages that a head sees."""
        raise NotImplementedError

    def joined(self, *stages: Tensor) -> Tensor:
        """The maps of stages -> those that a head sees."""
        raise NotImplementedError

    def feature_maps(self, inputs: Tensor) -> Tensor:
        """Normalised photos `float[n, 3, s, s]` -> maps `float[n, channels, h, w]` that a head sees averaged."""
        return self.joined(*self.stages(inputs))

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps -> features `float[n, width]`: means over all places, with `statistics` standard deviations, too."""
        mean = maps.mean((2, 3))
        return torch.cat([mean, _deviation(*self._spread(maps, mean))], 1) if self.with_statistics else mean

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
        distance from the mean, divided by the deviation; what a class token counts is the same at all places.
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
            maps, mean = self._spread(maps, maps.mean((2, 3)))
            # weights of deviations, each divided by the photo's deviation: [n, classes, c]
            spread = (weights[..., channels:] / _deviation(maps, mean)[:, None, :]).expand(maps.shape[0], -1, -1)
            places = places + spread @ (maps - mean[:, :, None, None]).flatten(2) ** 2
        return places.reshape(-1, places.shape[1], *maps.shape[2:])

    def _spread(self, maps: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Of maps and their means those that have a standard deviation."""
        if not self.constant:
            return maps, mean
        return maps[:, : -self.constant], mean[:, : -self.constant]


def head(kind: str, width: int, classes: int) -> nn.Sequential:
    """A head on so many features: `linear`, or `mlp`."""
    if kind != "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(width, classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))


def _deviation(maps: Tensor, mean: Tensor) -> Tensor:
    """Standard deviations over all places, `float[n, channels]`, at least 1e-4, so that they divide."""
    return ((maps - mean[:, :, None, None]) ** 2).mean((2, 3)).clamp(min=1e-8).sqrt()
