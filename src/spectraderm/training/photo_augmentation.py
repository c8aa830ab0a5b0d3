"""Augmentations of a photo that an LDA head is fitted on; Pillow and NumPy alone.

The differences between a photo's augmented versions say which features depend on the camera rather than on the skin.
"""

import io
from typing import Literal, get_args

import numpy as np
from PIL import Image

from spectraderm.images.preprocessing import Pixels

Augmentation = Literal["whole", "mirrored", "turned", "centred", "zoomed", "bordered"]
Transform = Literal["whole", "mirrored", "zoomed", "zoomed mirrored"]
"""Of a photo, that a network averages its features over; see `augmentation`."""
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
Kind = tuple[Augmentation, bool]
"""An augmentation, and whether the photo is made coarse, too."""
KINDS: tuple[Kind, ...] = tuple((augmentation, coarse) for coarse in (False, True) for augmentation in AUGMENTATIONS)
"""What an LDA head is fitted on in training."""
CENTRED, ZOOMED = 0.875, 0.7
"""Share of each side that is kept."""
COARSE_SIDE, COARSE_QUALITY = 128, 60
"""Pixels and JPEG quality that a coarse version went through."""
WIDEST_BORDER = 0.15
"""Share of a side that `bordered` may paint over at either end."""


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
        # in a width and a colour that its pixels decide
        random = np.random.default_rng(int(pixels.sum(dtype=np.int64)))
        width = int(side * random.uniform(0, WIDEST_BORDER)) + 1
        framed = np.full_like(pixels, random.integers(0, 256, 3))
        framed[width:-width, width:-width] = pixels[width:-width, width:-width]
        photo = Image.fromarray(framed)
    if coarse:
        small, data = photo.resize((COARSE_SIDE, COARSE_SIDE), Image.Resampling.BILINEAR), io.BytesIO()
        small.save(data, "JPEG", quality=COARSE_QUALITY)
        photo = Image.open(data).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(photo)
