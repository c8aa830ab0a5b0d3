"""Transforms of a photo that a network averages over at test time, and random changes that layers are trained on.

A transform is part of the network and of its ONNX graph. What an LDA head is fitted on is in `photo_augmentation`.
"""

from collections.abc import Callable, Sequence

import kornia.augmentation as kornia
import torch
from torch import Tensor, nn
from torch.nn import functional

from spectraderm.training.photo_augmentation import ZOOMED, Transform


def transformed(photos: Tensor, transforms: Sequence[Transform]) -> Tensor:
    """Photos `float[n, 3, s, s]` -> all of them by the first transform, then by the next: `float[t * n, 3, s, s]`."""
    return torch.cat([_TRANSFORMS[transform](photos) for transform in transforms])


def _middle(photos: Tensor, share: float) -> Tensor:
    side = photos.shape[-1]
    edge = round(side * (1 - share) / 2)
    middle = photos[:, :, edge : side - edge, edge : side - edge]
    return functional.interpolate(middle, (side, side), mode="bilinear", align_corners=False)


_TRANSFORMS: dict[Transform, Callable[[Tensor], Tensor]] = {
    "whole": lambda photos: photos,
    "mirrored": lambda photos: photos.flip(3),
    "zoomed": lambda photos: _middle(photos, ZOOMED),
    "zoomed mirrored": lambda photos: _middle(photos, ZOOMED).flip(3),
}


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

    def forward(self, pixels: Tensor) -> Tensor:
        """Change every photo in its own way, as torch's random numbers decide."""
        photos: Tensor = self.change(pixels.permute(0, 3, 1, 2).float() / 255)
        return photos.permute(0, 2, 3, 1) * 255


class _Coarsen(nn.Module):
    """Scale a random share of a batch down to between a third of its side and all of it, and up again."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, photos: Tensor) -> Tensor:
        chosen, side = torch.rand(len(photos)) < self.share, photos.shape[-1]
        small = int(side * torch.empty(1).uniform_(1 / 3, 1).item())
        if not chosen.any():
            return photos
        fewer = functional.interpolate(photos[chosen], (small, small), mode="bilinear", antialias=True)
        photos = photos.clone()
        photos[chosen] = functional.interpolate(fewer, (side, side), mode="bilinear")
        return photos
