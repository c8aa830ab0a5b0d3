"""An upright photo -> the pixels a model reads. The one implementation: training, export and serving call it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm.core.errors import RecipeError

MAX_INPUT_SIDE = 1024
SHORTEST_SIDE = 672
"""A JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 of its size that leaves its shorter side so many pixels:
three times the usual input, beyond which detail does not reach the model."""

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Resize = Literal["squash", "crop"]


@dataclass(frozen=True)
class Preprocessing:
    """How an upright RGB photo becomes the input of one model; it travels with that model.

    Attributes:
        size: side of the square input, in pixels.
        resize: `squash` stretches the whole photo into the square; `crop` keeps the aspect ratio and takes the
            middle, after scaling the shorter side to `size / crop_fraction`.
        crop_fraction: share of the shorter side that `crop` keeps.
        mean, std: per channel (red, green, blue), on pixels scaled to [0, 1].
    """

    size: int = 224
    resize: Resize = "squash"
    crop_fraction: float = 0.875
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def shortest_side(self) -> int:
        """What `decode` has to leave of a large JPEG's shorter side for this input."""
        return max(SHORTEST_SIDE, 3 * self.size)

    def __call__(self, image: Image.Image) -> Pixels:
        """Resize an upright RGB image to `uint8[size, size, 3]`, red first. Bilinear, antialiased."""
        if self.resize == "squash":
            return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        short, shortest = int(self.size / self.crop_fraction), min(image.size)
        width, height = (short * side // shortest for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized.crop((left, top, left + self.size, top + self.size)))

    def normalised(self, pixels: Pixels) -> Floats:
        """Pixels `uint8[n, size, size, 3]` -> input `float32[n, 3, size, size]`, as training's `Normalise`.

        Every step is rounded to 32 bits as IEEE 754 says, so that all processors and browsers get the same bits.
        """
        mean, std = (
            np.asarray(values, np.float32)[:, None, None] * np.float32(255) for values in (self.mean, self.std)
        )
        photos = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)
        photos -= mean
        photos /= std
        return photos

    def to_hub(self) -> dict[str, Any]:
        """The same settings as Hugging Face's `preprocessor_config.json`."""
        kind, size = "ConvNext", {"shortest_edge": self.size}
        if self.resize == "squash":
            kind, size = "ViT", {"height": self.size, "width": self.size}
        crop = {"crop_pct": self.crop_fraction} if self.resize == "crop" else {}
        return {
            "image_processor_type": f"{kind}ImageProcessor",
            "size": size,
            **crop,
            "do_resize": True,
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @classmethod
    def from_hub(cls, config: dict[str, Any]) -> "Preprocessing":
        """Read a `preprocessor_config.json`. Raises `RecipeError` where a key is missing or of the wrong kind."""
        try:
            size = config["size"]
            squash = "height" in size
            preprocessing = cls(
                size=int(size["height"] if squash else size["shortest_edge"]),
                resize="squash" if squash else "crop",
                crop_fraction=float(config.get("crop_pct", cls.crop_fraction)),
                mean=rgb_values(config["image_mean"]),
                std=rgb_values(config["image_std"]),
            )
            numbers = (*preprocessing.mean, *preprocessing.std)
            if not 0 < preprocessing.size <= MAX_INPUT_SIDE or not 0.5 <= preprocessing.crop_fraction <= 1:
                raise ValueError("a size or crop out of range")
            if min(preprocessing.std) <= 0 or not np.isfinite(numbers).all():
                raise ValueError("a mean or deviation out of range")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RecipeError(f"preprocessor_config.json: {error!r} is missing or not understood") from error
        return preprocessing


def rgb_values(values: list[float]) -> tuple[float, float, float]:
    """A configuration's three numbers, red first. Raises `ValueError` or `TypeError` where they are not three."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
