"""A photo -> a proxy of the tone of the healthy skin in it, or none. Knows nothing of labels.

The tone is the individual typology angle, ITA = arctan((L* - 50) / b*) in degrees (Chardon et al. 1991, "Skin colour
typology and suntanning pathways"), in the groups by which Kinyanjui et al. 2019 ("Estimating skin tone and effects on
classification performance in dermatology datasets") counted lesion photos. It is read off pixels, not measured on
skin: light, flash and white balance move it by a group or more. It can show that a data set lacks dark skin, not what
tone one person has.

Colours are kept as whole numbers, so that no processor's rounding or order of summing decides what a photo shows.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

GROUPS = {"very light": 55.0, "light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -90.0}
"""From which angle on, in degrees, a group's name holds; from light to dark."""

Integers = npt.NDArray[np.int64]

_SIDE = 96  # working size
_DARKEST, _PALEST = 15, 8  # L* and chroma: below, a background
_WINDOW = 10  # degrees to either side of the commonest angle that still count as that skin
_TO_XYZ = np.array([[4124564, 3575761, 1804375], [2126729, 7151522, 721750], [193339, 1191920, 9503041]])  # times 10^7
_WHITE = np.array([0.95047, 1, 1.08883])  # D65, 2 degrees
_LINEAR = np.array(
    [round(2**24 * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)) for v in np.arange(256) / 255]
)
"""The light of each of 256 levels of sRGB (IEC 61966-2-1), in units of 2^-24."""
_UNIT = 10**6
"""CIELAB and angles are kept in millionths: far coarser than what processors round differently."""


class SkinTone(NamedTuple):
    """The individual typology angle in degrees, and the name of its group in `GROUPS`."""

    ita: float
    group: str


def estimate(image: Image.Image) -> SkinTone | None:
    """The tone of the commonest skin in an upright RGB photo, leaving out what is redder or darker: the lesion.

    None where no tone can be told: too little has the colour of skin, or the skin is over-exposed, is lit unevenly or
    shows several tones, or is red all over, as under a colour cast.
    """
    pixels = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)).reshape(-1, 3)
    skin = pixels[_skin_coloured(pixels)]
    lab = to_lab(skin)
    chroma = lab[:, 1] ** 2 + lab[:, 2] ** 2
    coloured = (lab[:, 0] >= _DARKEST * _UNIT) & (chroma >= (_PALEST * _UNIT) ** 2)
    skin, lab = skin[coloured], lab[coloured]
    if 10 * len(skin) < len(pixels) or 3 * int((skin[:, 0] > 250).sum()) > len(skin):
        return None
    # without the reddest third, and without the darkest and the lightest tenth: lesion, shadow and gloss
    darkest, lightest = np.percentile(lab[:, 0], (10, 90))
    calm = (lab[:, 0] >= darkest) & (lab[:, 0] <= lightest) & (lab[:, 1] <= np.percentile(lab[:, 1], 67))
    lab = lab[calm] if calm.any() else lab
    angles = _angle(lab)
    kept = np.abs(angles - _commonest(angles)) <= _WINDOW * _UNIT
    if 3 * int(kept.sum()) < len(kept):
        return None
    tone = lab[kept].sum(0) // kept.sum()
    if not 40 < math.degrees(math.atan2(tone[2], tone[1])) < 80 or tone[2] < 4 * _UNIT:
        return None
    angle = float(_angle(tone)) / _UNIT
    return SkinTone(angle, group_of(angle))


def group_of(ita: float) -> str:
    """The name in `GROUPS` of an angle in degrees."""
    return next(name for name, least in GROUPS.items() if ita > least or name == "dark")


def to_lab(pixels: npt.NDArray[np.uint8]) -> Integers:
    """CIELAB `int64[..., 3]` (D65), in millionths, of sRGB pixels `uint8[..., 3]`."""
    xyz = _LINEAR[pixels] @ _TO_XYZ.T  # exact, below 2^49
    ratio = xyz / (10**7 * 2**24 * _WHITE)
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(np.rint(_UNIT * root).astype(np.int64), -1, 0)
    return np.stack([116 * y - 16 * _UNIT, 500 * (x - y), 200 * (y - z)], -1)


def _skin_coloured(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """By chroma alone, which holds from light to dark (Chai & Ngan 1999, "Face segmentation using skin-color map")."""
    red, green, blue = pixels.T.astype(np.int64)
    cb = 128_000_000 - 168_736 * red - 331_264 * green + 500_000 * blue  # in millionths
    cr = 128_000_000 + 500_000 * red - 418_688 * green - 81_312 * blue
    inside: npt.NDArray[np.bool_] = (cb >= 77 * _UNIT) & (cb <= 127 * _UNIT) & (cr >= 133 * _UNIT) & (cr <= 173 * _UNIT)
    return inside


def _angle(lab: Integers) -> Integers:
    """The typology angle of colours `int64[..., 3]`, in millionths of a degree."""
    angle = np.degrees(np.arctan2(lab[..., 0] - 50 * _UNIT, np.maximum(lab[..., 2], _UNIT // 100)))
    return np.rint(_UNIT * angle).astype(np.int64)  # type: ignore[no-any-return]


def _commonest(angles: Integers) -> int:
    """The middle of the window that holds the most of the angles, in millionths of a degree."""
    counts = np.bincount(np.minimum(angles // _UNIT + 90, 179), minlength=180)  # by whole degrees from -90 to 90
    held = np.convolve(counts, np.ones(2 * _WINDOW, np.int64), "same")
    return int(held.argmax() - 90) * _UNIT + _UNIT // 2
