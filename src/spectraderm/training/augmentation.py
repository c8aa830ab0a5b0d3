"""Ways to look at one photo: the views a network averages over, and the copies its head learns to see through.

A view is part of the network and of its ONNX graph. A copy is made only in training: the differences between the
copies of a photo say which features tell of the camera rather than of the skin.
"""

import io
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor, cat
from torch.nn import functional

from spectraderm.images.preprocessing import Pixels

View = Literal["whole", "mirrored", "zoomed", "zoomed mirrored"]
Copy = Literal["whole", "mirrored", "turned", "centred", "zoomed", "bordered"]
COPIES: tuple[Copy, ...] = get_args(Copy)
CENTRED, ZOOMED = 0.875, 0.7
"""Share of each side that is kept."""
COARSE_SIDE, COARSE_QUALITY = 128, 60
"""Pixels and JPEG quality of a coarse copy."""
WIDEST_BORDER = 0.15
"""Share of a side that a bordered copy may lose at either end."""


def seen_as(photos: Tensor, views: Sequence[View]) -> Tensor:
    """Photos `float[n, 3, s, s]` -> their views, view by view: `float[views * n, 3, s, s]`."""
    return cat([_VIEWS[view](photos) for view in views])


def changed_copy(pixels: Pixels, copy: Copy, coarse: bool) -> Pixels:
    """One copy of a photo `uint8[s, s, 3]` of the same size; a coarse one went through 128 pixels and JPEG 60."""
    side = len(pixels)
    photo = Image.fromarray(pixels)
    if copy == "mirrored":
        photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    elif copy == "turned":
        photo = photo.transpose(Image.Transpose.ROTATE_90)
    elif copy in ("centred", "zoomed"):
        edge = side * (1 - (CENTRED if copy == "centred" else ZOOMED)) / 2
        photo = photo.resize((side, side), Image.Resampling.BILINEAR, (edge, edge, side - edge, side - edge))
    elif copy == "bordered":
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


_VIEWS: dict[View, Callable[[Tensor], Tensor]] = {
    "whole": lambda photos: photos,
    "mirrored": lambda photos: photos.flip(3),
    "zoomed": lambda photos: _middle(photos, ZOOMED),
    "zoomed mirrored": lambda photos: _middle(photos, ZOOMED).flip(3),
}
