"""A classifier of photos for transformers, as SpectraDerm trained it: `trust_remote_code=True` runs this file.

`export` copies it into model folders whose heads plain transformers doesn't know: on means and deviations of maps, of
two layers, or averaged over transforms of the photo. It needs torch and transformers alone. The logits are those of the
folder's ONNX graph; verdicts, sets and calibrated probabilities come from SpectraDerm itself.
"""

from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

HIDDEN = 512
ZOOMED = 0.7


class SpectraDermForImageClassification(PreTrainedModel):
    """A backbone that gives maps or tokens, and a head on their means and deviations."""

    config_class = CONFIG_MAPPING["resnet"]
    main_input_name = "pixel_values"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        layers = AutoModel.from_config(config)
        if config.without_pooler:
            layers.pooler = None
        if getattr(config, "pool_padding", "both") == "end":
            layers.embedder.pooler = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.layers_name = layers.base_model_prefix or "model"
        self.add_module(self.layers_name, layers)
        inner = [nn.Linear(config.feature_width, HIDDEN), nn.ReLU()] if config.head == "mlp" else []
        width = HIDDEN if inner else config.feature_width
        self.classifier = nn.Sequential(nn.Flatten(), *inner, nn.Linear(width, config.num_labels))
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        return_dict: bool = True,
        **_: Any,
    ) -> Any:
        """Photos `float[n, 3, s, s]`, normalised as `preprocessor_config.json` says -> logits `float[n, classes]`."""
        transforms = self.config.test_transforms
        maps, constant = self.maps(torch.cat([transformed(pixel_values, name) for name in transforms]))
        features = maps.mean((2, 3))
        if self.config.pooling == "statistics":
            varying = maps.shape[1] - constant
            apart = maps[:, :varying] - features[:, :varying, None, None]
            features = torch.cat([features, (apart**2).mean((2, 3)).clamp(min=1e-8).sqrt()], 1)
        logits = self.classifier(features.reshape(len(transforms), pixel_values.shape[0], -1).mean(0))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def maps(self, photos: Tensor) -> tuple[Tensor, int]:
        """Maps `float[n, channels, h, w]`, and how many of them, the last ones, have one value for all places."""
        layers, config = getattr(self, self.layers_name), self.config
        if config.model_type == "resnet":
            *_, before, last = layers(photos, output_hidden_states=True).hidden_states
            if config.pooling != "statistics":
                return last, 0
            return torch.cat([before, functional.interpolate(last, before.shape[2:], mode="nearest")], 1), 0
        interpolate = {"interpolate_pos_encoding": True} if config.interpolate_positions else {}
        hidden = layers(pixel_values=photos, **interpolate).last_hidden_state
        if hidden.ndim == 4:
            return hidden, 0
        patches = hidden[:, config.tokens_before_patches :].transpose(1, 2)
        channels, side = patches.shape[1], isqrt(patches.shape[2])
        maps = patches.reshape(-1, channels, side, side)
        if not config.tokens_before_patches:
            return maps, 0
        return torch.cat([maps, hidden[:, 0, :, None, None].expand(-1, -1, side, side)], 1), channels


def transformed(photos: Tensor, name: str) -> Tensor:
    """Photos as they are, mirrored, their middle zoomed, or both."""
    if name.startswith("zoomed"):
        side = photos.shape[-1]
        edge = round(side * (1 - ZOOMED) / 2)
        middle = photos[:, :, edge : side - edge, edge : side - edge]
        photos = functional.interpolate(middle, (side, side), mode="bilinear", align_corners=False)
    return photos.flip(3) if name.endswith("mirrored") else photos
