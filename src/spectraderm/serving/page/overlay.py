"""A photo and where its evidence lies, as small pictures for a page. Nothing of the file but pixels goes along."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from spectraderm.images.preprocessing import Preprocessing, decode
from spectraderm.images.thumbnails import data_url

_SIDE = 720
_HEAT_SIDE = 192
_FAINT, _STRONG = (33, 102, 255), (120, 255, 240)
"""Blue to cyan, red first: what no skin has."""


@dataclass(frozen=True)
class Picture:
    """A photo as a data URL, and over which part of it what else lies.

    Attributes:
        photo: `data:image/jpeg;base64,...`
        heat: `data:image/webp;base64,...`, transparent where there is no evidence; empty where there is none at all.
        box: left, top, width and height of the heat, in percent of the photo's.
    """

    photo: str
    heat: str = ""
    box: tuple[float, float, float, float] = (0.0, 0.0, 100.0, 100.0)


def picture(data: bytes, heatmap: Sequence[Sequence[float]], preprocessing: Preprocessing) -> Picture:
    """A photo's bytes and a prediction's heatmap (may be empty) -> what a page shows of them.

    Raises `UnreadablePhoto` where `preprocessing.decode` does.
    """
    image = decode(data).image
    box = _seen(image.width, image.height, preprocessing)
    return Picture(data_url(image, _SIDE), _heat(heatmap) if heatmap else "", box)


def _heat(heatmap: Sequence[Sequence[float]]) -> str:
    rows = Image.fromarray(np.array(heatmap, np.float32))
    smooth = np.asarray(rows.resize((_HEAT_SIDE, _HEAT_SIDE), Image.Resampling.BICUBIC)).clip(0, 1)
    colour = np.array(_FAINT) + smooth[..., None] * (np.array(_STRONG) - np.array(_FAINT))
    pixels = np.dstack([colour, 255 * smooth]).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _seen(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """The part of a photo that the model's input shows, in percent."""
    if preprocessing.resize == "squash":
        return 0.0, 0.0, 100.0, 100.0
    side = preprocessing.crop_fraction * min(width, height)
    across, down = 100 * side / width, 100 * side / height
    return (100 - across) / 2, (100 - down) / 2, across, down
