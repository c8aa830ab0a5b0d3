"""Backbones and heads: the network as torch sees it, and how it is taken from the Hub, a folder or a package."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import kornia.augmentation as kornia
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from spectraderm.core.errors import BackboneError
from spectraderm.core.files import sha256
from spectraderm.images.preprocessing import Preprocessing, rgb_values
from spectraderm.training import open_nsfw
from spectraderm.training.augmentation import Transform, transformed
from spectraderm.training.recipe import Recipe

DEFAULT_BACKBONE = "microsoft/resnet-50"
HIDDEN = 512
"""Width of the `mlp` head's inner layer."""

_OFFLINE = f"Connect to the internet, give a local folder in the same layout, or use --backbone {open_nsfw.NAME}"


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


class SkinResNet(ResNetForImageClassification):  # type: ignore[no-untyped-call]
    """`ResNetForImageClassification` with other heads, and with the pooling of either backbone.

    `config.head` is `linear` (what transformers itself builds) or `mlp`; `config.pool_padding` is `both` (what
    transformers itself does) or `end`; `config.pooling` and `config.test_transforms` are as in `Recipe`.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        _set_pooling(self.resnet, getattr(config, "pool_padding", "both"))
        self.with_statistics = getattr(config, "pooling", "mean") == "statistics"
        self.test_transforms: tuple[Transform, ...] = tuple(getattr(config, "test_transforms", ("whole",)))
        width, classes = feature_width(config), len(config.id2label or ())
        if self.with_statistics:
            self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(width, classes))
        if getattr(config, "head", "linear") == "mlp":
            self.classifier = nn.Sequential(
                nn.Flatten(), nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes)
            )

    def feature_maps(self, inputs: Tensor) -> Tensor:
        """Normalised photos `float[n, 3, s, s]` -> maps `float[n, channels, h, w]` that a head sees averaged.

        They are the last stage's; with `statistics` the last two stages', the last at the size of the one before.
        """
        *_, before, last = self.resnet.encoder(self.resnet.embedder(inputs), output_hidden_states=True).hidden_states
        if not self.with_statistics:
            return cast("Tensor", last)
        return torch.cat([before, functional.interpolate(last, before.shape[2:], mode="nearest")], 1)

    def pooled(self, maps: Tensor) -> Tensor:
        """Maps -> features `float[n, width]`: means over all places, with `statistics` standard deviations, too."""
        mean = maps.mean((2, 3))
        return torch.cat([mean, _deviation(maps, mean)], 1) if self.with_statistics else mean

    def features(self, inputs: Tensor) -> Tensor:
        """Normalised photos `float[n, 3, s, s]` -> features `float[n, width]`, averaged over the network's views."""
        return self.averaged(self.feature_maps(transformed(inputs, self.test_transforms)), inputs.shape[0])

    def averaged(self, maps: Tensor, photos: int) -> Tensor:
        """Maps of all views of so many photos, view by view -> features `float[photos, width]`."""
        seen = self.pooled(maps)
        return seen.reshape(len(self.test_transforms), photos, seen.shape[1]).mean(0)

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
        places = weights[..., :channels] @ maps.flatten(2)
        if self.with_statistics:
            mean = maps.mean((2, 3))
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


class Augment(nn.Module):
    """Random changes of pixels `uint8[n, s, s, 3]`, by the library kornia, which also bring them to `size`.

    Crops, turns and flips (skin has no up), resolution, exposure, contrast, colour temperature, blur, blanked patches.

    Args:
        strength: 0 (crop and turns only) to 1.
        size: side of the result `float[n, size, size, 3]`, in 0..255.
    """

    def __init__(self, strength: float, size: int) -> None:
        super().__init__()
        spread = 0.4 * strength
        self.change = nn.Sequential(
            kornia.RandomResizedCrop((size, size), scale=(1 - 0.65 * strength, 1.0), ratio=(3 / 4, 4 / 3)),
            kornia.RandomHorizontalFlip(p=0.5),
            kornia.RandomRotation90(times=(0, 3), p=1.0),
            _Coarsen(0.6 * strength**0.5),
            kornia.RandomBrightness((1 - spread, 1 + spread), p=0.8),
            kornia.RandomContrast((1 - spread, 1 + spread), p=0.8),
            kornia.RandomPlanckianJitter(mode="blackbody", p=0.8 * strength),
            kornia.RandomGaussianBlur((5, 5), (0.1, 2.0), p=spread),
            kornia.RandomErasing(scale=(0.02, 0.15), p=spread),
        )

    def forward(self, pixels: Tensor, places: slice | None = None, of: int = 0) -> Tensor:
        """Change photos; where they are at some `places` of a batch `of` so many, as they would be changed in it."""
        photos = pixels.permute(0, 3, 1, 2).float() / 255
        places, of = places or slice(0, len(photos)), of or len(photos)
        for module in self.change:
            change = cast("Any", module)
            drawn = change.forward_parameters(torch.Size((of, *photos.shape[1:])))
            photos = change(photos, _at(places, of, drawn))
        return photos.permute(0, 2, 3, 1) * 255


class _Coarsen(nn.Module):
    """Scale a random share of a batch down to between a third of its side and all of it, and up again."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward_parameters(self, shape: torch.Size) -> dict[str, Tensor]:
        """Which photos of a batch, and to what share of its side."""
        return {"batch_prob": (torch.rand(shape[0]) < self.share).float(), "side": torch.empty(1).uniform_(1 / 3, 1)[0]}

    def forward(self, photos: Tensor, drawn: dict[str, Tensor] | None = None) -> Tensor:
        drawn = drawn or self.forward_parameters(photos.shape)
        chosen, side = drawn["batch_prob"] > 0.5, photos.shape[-1]
        small = int(side * drawn["side"].item())
        if not chosen.any():
            return photos
        fewer = functional.interpolate(photos[chosen], (small, small), mode="bilinear", antialias=True)
        photos = photos.clone()
        photos[chosen] = functional.interpolate(fewer, (side, side), mode="bilinear")
        return photos


def _at(places: slice, of: int, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """What kornia drew for a batch `of` so many photos (before 0.9: for those it changes) -> for some of its places."""
    chosen = drawn["batch_prob"] > 0.5
    before, own = int(chosen[: places.start].sum()), int(chosen[places].sum())

    def cut(name: str, value: Tensor) -> Tensor:
        if name == "forward_input_shape":
            return torch.cat([value.new_tensor([len(chosen[places])]), value[1:]])
        if value.ndim == 0:
            return value
        return value[places] if len(value) == of else value[before : before + own]

    return {name: cut(name, value) for name, value in drawn.items()}


def feature_width(config: ResNetConfig) -> int:
    """How many features the network has after pooling."""
    *_, before, last = config.hidden_sizes or [0, 0]
    return 2 * (before + last) if getattr(config, "pooling", "mean") == "statistics" else int(last)


def load_backbone(name: str) -> Backbone:
    """Load pretrained weights.

    Args:
        name: `open-nsfw-thin`, a local folder in Hub layout, or the Hub id of a ResNet.

    Raises:
        BackboneError: the folder is not such a model, or the Hub does not answer; says what to do.
    """
    if name == open_nsfw.NAME:
        model = open_nsfw.load()
        return _ready(Backbone(name, model, open_nsfw.MEAN, open_nsfw.STD, open_nsfw.version(), "BSD-2-Clause"))
    path = Path(name)
    if path.exists() or name.startswith((".", "/")) or name.count("/") > 1:
        if not (path / "config.json").is_file():
            raise BackboneError(f"{name} is not a model folder: it has no config.json", _OFFLINE)
        return _from_hub_layout(str(path.resolve()), path.resolve())
    return _from_hub_layout(name, None)


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
        revision = getattr(config, "_commit_hash", None)
        source = f"{folder.name}@{_digest(folder)}" if folder else f"{name}@{revision}" if revision else name
        return _ready(
            Backbone(
                name,
                model,
                rgb_values(colours["image_mean"]),
                rgb_values(colours["image_std"]),
                source,
                "see its model card",
            )
        )
    except (OSError, HfHubHTTPError) as error:
        what = f"{name} can't be loaded" if folder else f"{name} can't be had from the Hugging Face Hub"
        raise BackboneError(f"{what} ({str(error).strip().splitlines()[0]})", _OFFLINE) from error
    except (KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise BackboneError(f"{name} is not a ResNet in Hub layout ({error!r})", _OFFLINE) from error


def _digest(folder: Path) -> str:
    """A short name for a local folder's weights, which says nothing of where it lies."""
    return sha256(b"".join(file.read_bytes() for file in sorted(folder.glob("*.safetensors"))))[:12]


def _ready(backbone: Backbone) -> Backbone:
    _set_pooling(backbone.model, getattr(backbone.model.config, "pool_padding", "both"))
    return backbone


def _deviation(maps: Tensor, mean: Tensor) -> Tensor:
    """Standard deviations over all places, `float[n, channels]`, at least 1e-4, so that they divide."""
    return ((maps - mean[:, :, None, None]) ** 2).mean((2, 3)).clamp(min=1e-8).sqrt()


def _set_pooling(model: ResNetModel, padding: str) -> None:
    if padding == "end":  # what lies beyond the edge is left out
        model.embedder.pooler = nn.MaxPool2d(3, 2, ceil_mode=True)
