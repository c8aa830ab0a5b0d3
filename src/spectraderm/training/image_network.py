"""A head on any other image model of transformers than a ResNet: ConvNeXt V2, DINOv2, ViT, Swin, MobileNet and others.

What such a model gives for a photo is a grid of maps, or tokens: one for each patch of the photo, row by row, and
before them a class token and others that stand for no place. A head sees the means of the last layer's maps or patches,
and the class token; with `statistics` the standard deviations of maps or patches, too. These layers are never trained.
"""

import inspect
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from spectraderm.core.errors import BackboneError
from spectraderm.training.backbones import Backbone
from spectraderm.training.pooling import SkinNetwork, head

_INTERPOLATE = "interpolate_pos_encoding"
_TOKENS = "Use a model whose last_hidden_state is maps, or tokens with one for each patch of the photo"


class SkinImageNetwork(SkinNetwork):
    """The layers of `backbone`, which are not copied, and a head.

    Args:
        backbone: not a ResNet.
        config: its own with `head`, `pooling`, `test_transforms` and `id2label`.
        size: side of the photos, in pixels.

    Raises:
        BackboneError: the model does not take photos of this size, or does not give maps or a grid of tokens for them,
            the same each time.
    """

    def __init__(self, backbone: Backbone, config: Any, size: int) -> None:  # noqa: ANN401
        super().__init__()
        # the name that its weights have before them in Hub layout
        self._name = backbone.model.base_model_prefix or "model"
        self.add_module(self._name, backbone.model)
        self.config = config
        self.config.architectures = [type(backbone.model).__name__]  # which opens its layers alone
        self.with_statistics = config.pooling == "statistics"
        self.test_transforms = tuple(config.test_transforms)
        self._parameters_of_call = frozenset(inspect.signature(backbone.model.forward).parameters)
        hidden = self._tried(backbone.name, size)
        self._before = 0 if hidden.ndim == 4 else _tokens_before_patches(config, hidden.shape[1])
        self.config.tokens_before_patches = self._before  # `modeling_spectraderm` needs to be told
        self.config.interpolate_positions = self._interpolates(size)
        if hidden.ndim == 3 and not _is_grid(config, hidden.shape[1] - self._before, size):
            problem = f"{backbone.name} gives {hidden.shape[1]} tokens, which are no grid of patches"
            raise BackboneError(problem, _TOKENS)
        channels = hidden.shape[1] if hidden.ndim == 4 else hidden.shape[2]
        self.constant = channels if self._before else 0
        self._means = channels + self.constant
        width = self._means + (channels if self.with_statistics else 0)
        self.classifier = head(config.head, width, len(config.id2label))

    @property
    def layers(self) -> Any:  # noqa: ANN401
        """The backbone."""
        return getattr(self, self._name)

    @property
    def last_means(self) -> slice:
        """Which of the features with `statistics` are those without."""
        return slice(self._means)

    def stages(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Normalised photos `float[n, 3, s, s]` -> the last layer's maps, and a class token at each of their places."""
        hidden = self._last_hidden(inputs)
        if hidden.ndim == 4:
            return (hidden,)
        patches = hidden[:, self._before :].transpose(1, 2)
        side = isqrt(patches.shape[2])
        maps = patches.reshape(-1, patches.shape[1], side, side)
        if self._before:
            maps = torch.cat([maps, hidden[:, 0, :, None, None].expand(-1, -1, side, side)], 1)
        return (maps,)

    def joined(self, *stages: Tensor) -> Tensor:
        """The maps as they are."""
        return stages[0]

    def _last_hidden(self, inputs: Tensor) -> Tensor:
        interpolate = {_INTERPOLATE: True} if self._interpolates(inputs.shape[-1]) else {}
        hidden: Tensor = self.layers(pixel_values=inputs, **interpolate).last_hidden_state
        return hidden

    def _interpolates(self, size: int) -> bool:
        return size != _trained_size(self.config) and _INTERPOLATE in self._parameters_of_call

    def _tried(self, name: str, size: int) -> Tensor:
        """What the layers give for noise: maps `float[1, channels, h, h]` or tokens `float[1, tokens, channels]`."""
        patch, own = getattr(self.config, "patch_size", 1), _trained_size(self.config)
        if isinstance(patch, int) and size % patch:
            nearest = max(patch, round(size / patch) * patch)
            remedy = f"Set image_size = {nearest} in a recipe file, and give that as --recipe"
            raise BackboneError(f"{name} reads patches of {patch} pixels, and photos have {size}", remedy)
        photo = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        photo = photo.to(next(self.layers.parameters()).device)
        try:
            with torch.inference_mode():
                first, second = self._last_hidden(photo), self._last_hidden(photo)
        except Exception as error:  # models raise what they like
            what = (str(error).strip().splitlines() or [repr(error)])[0]
            remedy = f"Set image_size = {own} in a recipe file, and give that as --recipe" if own else _TOKENS
            raise BackboneError(f"{name} does not take photos of {size} pixels alone ({what})", remedy) from error
        maps = first.ndim == 4 and first.shape[2] == first.shape[3] <= size
        if not maps and first.ndim != 3:
            raise BackboneError(f"{name} gives {list(first.shape)} for a photo, which are no maps", _TOKENS)
        if not torch.allclose(first, second, atol=1e-4):
            raise BackboneError(f"{name} gives something else for the same photo each time", "Use another --backbone")
        return first


def _trained_size(config: Any) -> int:  # noqa: ANN401
    """The size of photos that a model's position embeddings are for, or 0."""
    size = getattr(config, "image_size", 0)
    return size if isinstance(size, int) else 0


def _tokens_before_patches(config: Any, tokens: int) -> int:  # noqa: ANN401
    """How many tokens stand for no place: none, or a class token and registers or, of DeiT, one for distillation."""
    registers = getattr(config, "num_register_tokens", 0)
    kinds = [1 + registers] if registers else [0, 1, 2]
    return next((kind for kind in kinds if tokens > kind and isqrt(tokens - kind) ** 2 == tokens - kind), 0)


def _is_grid(config: Any, patches: int, size: int) -> bool:  # noqa: ANN401
    """Whether so many tokens are a square of patches, each as wide as the model's own times a power of two."""
    side, patch = isqrt(patches), getattr(config, "patch_size", 1)
    step = side * (patch if isinstance(patch, int) else 1)  # some have a patch size for each stage
    if side * side != patches or not step or size % step or hasattr(config, "num_queries"):
        return False
    merged = size // step
    return merged & (merged - 1) == 0
