"""A photo -> a proxy of the tone of the healthy skin in it, or why there is none. Knows nothing of labels.

The tone is the individual typology angle, ITA = arctan((L* - 50) / b*) in degrees (Chardon et al. 1991, "Skin colour
typology and suntanning pathways"), in the groups by which Kinyanjui et al. 2019 ("Estimating skin tone and effects on
classification performance in dermatology datasets") counted lesion photos. It is read off pixels, not measured on
skin: light, flash and white balance move it by a group or more. It can show that a data set lacks dark skin, not what
tone one person has.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

GROUPS = {"very light": 55.0, "light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -90.0}
"""From which angle on, in degrees, a group's name holds; from light to dark."""

Field = npt.NDArray[np.float64]

_SIDE = 96  # working size
_DARKEST, _PALEST = 15, 8  # L* and chroma: below, a background
_WINDOW = 10  # degrees to either side of the commonest angle that still count as that skin
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
_WHITE = np.array([0.95047, 1, 1.08883])  # D65, 2 degrees


@dataclass(frozen=True)
class SkinTone:
    """`ita` in degrees, its `group`, and the `share` of the photo it was read from."""

    ita: float
    group: str
    share: float


@dataclass(frozen=True)
class NoSkinTone:
    """Why no tone can be told, in words."""

    reason: str


def estimate(image: Image.Image) -> SkinTone | NoSkinTone:
    """The tone of the commonest skin in an upright RGB photo, leaving out what is redder or darker: the lesion."""
    pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0), np.float64).reshape(-1, 3)
    skin = pixels[_skin_coloured(pixels)]
    lab = to_lab(skin)
    coloured = (lab[:, 0] >= _DARKEST) & (np.hypot(lab[:, 1], lab[:, 2]) >= _PALEST)
    skin, lab = skin[coloured], lab[coloured]
    if len(skin) < 0.1 * len(pixels):
        return NoSkinTone("too little of the photo has the colour of skin")
    if (skin[:, 0] > 250).mean() > 1 / 3:
        return NoSkinTone("the skin is over-exposed")
    lab = _healthy(lab)
    angles = _angle(lab)
    kept = np.abs(angles - _commonest(angles)) <= _WINDOW
    if kept.mean() < 1 / 3:
        return NoSkinTone("the skin is lit too unevenly, or shows several tones")
    tone = lab[kept].mean(0)
    if not 40 < np.degrees(np.arctan2(tone[2], tone[1])) < 80 or tone[2] < 4:
        return NoSkinTone("the skin is red all over, or the photo has a colour cast")
    angle = float(_angle(tone))
    return SkinTone(angle, group_of(angle), float(kept.sum() / len(pixels)))


def group_of(ita: float) -> str:
    """The name in `GROUPS` of an angle in degrees."""
    return next(name for name, least in GROUPS.items() if ita > least or name == "dark")


def to_lab(pixels: npt.NDArray[np.float64]) -> Field:
    """CIELAB `float64[..., 3]` (D65) of sRGB in 0..255 (IEC 61966-2-1)."""
    encoded = pixels / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _skin_coloured(pixels: Field) -> npt.NDArray[np.bool_]:
    """By chroma alone, which holds from light to dark (Chai & Ngan 1999, "Face segmentation using skin-color map")."""
    red, green, blue = pixels.T
    cb = 128 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    inside: npt.NDArray[np.bool_] = (cb >= 77) & (cb <= 127) & (cr >= 133) & (cr <= 173)
    return inside


def _healthy(lab: Field) -> Field:
    """Without the reddest third, and without the darkest and the lightest tenth: lesion, shadow and gloss."""
    darkest, lightest = np.percentile(lab[:, 0], (10, 90))
    calm = (lab[:, 0] >= darkest) & (lab[:, 0] <= lightest) & (lab[:, 1] <= np.percentile(lab[:, 1], 67))
    return lab[calm] if calm.any() else lab


def _angle(lab: Field) -> Field:
    angle: Field = np.degrees(np.arctan2(lab[..., 0] - 50, np.maximum(lab[..., 2], 0.01)))
    return angle


def _commonest(angles: Field) -> float:
    """The middle of the window that holds the most of the angles."""
    edges = np.arange(-90, 91)
    counts = np.histogram(angles, edges)[0]
    held = np.convolve(counts, np.ones(2 * _WINDOW), "same")
    return float((edges[:-1] + 0.5)[held.argmax()])
