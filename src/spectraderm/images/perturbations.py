"""Ways in which a photo comes out another while the skin in it stays the same: saved smaller, turned, framed."""

import io
from collections.abc import Callable

from PIL import Image

SIDE, QUALITY = 128, 60
"""Of `re-encoded`: pixels of the longer side, and JPEG quality on libjpeg's scale."""
BORDER = 0.1
"""Share of width and of height that `border blanked` paints over on each side."""
GREY = (128, 128, 128)


def _re_encoded(image: Image.Image) -> Image.Image:
    """Scaled down, never up, and through JPEG, as messengers and data sets do."""
    small, stream = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(stream, "JPEG", quality=QUALITY)
    return Image.open(stream, formats=("JPEG",)).convert("RGB")


def _border_blanked(image: Image.Image) -> Image.Image:
    width, height = image.size
    left, top = round(BORDER * width), round(BORDER * height)
    blanked = Image.new("RGB", image.size, GREY)
    blanked.paste(image.crop((left, top, width - left, height - top)), (left, top))
    return blanked


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": _re_encoded,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "border blanked": _border_blanked,
}
"""Each gives a new upright RGB image and leaves the one it got alone; `turned` is by 90 degrees, to the left."""
