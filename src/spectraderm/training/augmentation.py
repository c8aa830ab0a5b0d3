"""Transforms of a photo that a network averages over at test time, and augmentations that an LDA head is fitted on.

A transform is part of the network and of its ONNX graph. An augmentation is made only in training: the differences
between a photo's augmented versions say which features depend on the camera rather than on the skin.
"""

import io
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor, cat
from torch.nn import functional

from spectraderm.images.preprocessing import Pixels

Transform = Literal["whole", "mirrored", "zoomed", "zoomed mirrored"]
Augmentation = Literal["whole", "mirrored", "turned", "centred", "zoomed", "bordered"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
CENTRED, ZOOMED = 0.875, 0.7
"""Share of each side that is kept."""
COARSE_SIDE, COARSE_QUALITY = 128, 60
"""Pixels and JPEG quality that a coarse version went through."""
WIDEST_BORDER = 0.15
"""Share of a side that `bordered` may paint over at either end."""


def transformed(photos: Tensor, transforms: Sequence[Transform]) -> Tensor:
    """Photos `float[n, 3, s, s]` -> all of them by the first transform, then by the next: `float[t * n, 3, s, s]`."""
    return cat([_TRANSFORMS[transform](photos) for transform in transforms])


def augmented(pixels: Pixels, augmentation: Augmentation, coarse: bool) -> Pixels:
    """A photo `uint8[s, s, 3]`, augmented, of the same size; a coarse one went through 128 pixels and JPEG 60."""
    side = len(pixels)
    photo = Image.fromarray(pixels)
    if augmentation == "mirrored":
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif augmentation == "turned":
        photo = photo.transpose(Image.Transpose.ROTATE_90)
    elif augmentation in ("centred", "zoomed"):
        edge = side * (1 - (CENTRED if augmentation == "centred" else ZOOMED)) / 2
        photo = photo.resize((side, side), Image.Resampling.BILINEAR, (edge, edge, side - edge, side - edge))
    elif augmentation == "bordered":
        photo = Image.fromarray(_bordered(pixels))
    if coarse:
        small, data = photo.resize((COARSE_SIDE, COARSE_SIDE), Image.Resampling.BILINEAR), io.BytesIO()
        small.save(data, "JPEG", quality=COARSE_QUALITY)
        photo = Image.open(data).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(photo)


def _bordered(pixels: Pixels) -> Pixels:
    """Painted over at its edges, in a width and a colour that its pixels decide."""
    random = np.random.default_rng(int(pixels.sum(dtype=np.int64)))
    width = int(len(pixels) * random.uniform(0, WIDEST_BORDER)) + 1
    framed = np.empty_like(pixels)
    framed[:] = random.integers(0, 256, 3)
    framed[width:-width, width:-width] = pixels[width:-width, width:-width]
    return framed


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
