"""An upright photo -> a few numbers, and what they say against using it. Asked before any model; knows of none.

Everything is measured on the photo squashed to one small size, so that the same scene gives the same numbers at any
resolution. The limits of what is unusable lie outside of all photos of the reference data set. Sums are of whole
numbers, so that every processor, and the browser, comes to the same bits.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128
"""Working size in pixels: a photo is measured at 128 x 128."""

_SKIM = 1024  # larger photos are first thinned out to this, which costs a tenth of averaging them
_SMOOTHED = 256  # what `_smooth` multiplies grey levels by: both sums of its weights

_LEVELS = np.arange(256)

Integers = npt.NDArray[np.int32]
Planes = npt.NDArray[np.uint8]
"""Red, green and blue, `uint8[3, h, w]`."""


@dataclass(frozen=True)
class Quality:
    """What a photo is like at the working size; grey levels are 0..255, shares 0..1.

    Attributes:
        brightness: mean grey level.
        shadows, highlights: the grey levels below which 2 % and 98 % of the photo lie.
        dark: share of nearly black pixels (grey below 16).
        blown: share of pixels at the upper end in all three colours (above 250).
        contrast: standard deviation of the colour that varies most.
        sharpness: standard deviation of the Laplacian after smoothing over a pixel, which takes out noise and JPEG's
            blocks (Marr & Hildreth 1980, "Theory of edge detection"; as a measure of focus: Pertuz et al. 2013).
        grain: standard deviation of the Laplacian as it is.
        roughness: `grain` in units of the standard deviation of the grey levels; 4.5 is pure noise.
        flat: share of pixels that have the very grey level of their right and lower neighbours.
        few_colours: share of the photo in its eight commonest colours, of 16 levels per channel.
    """

    brightness: float
    shadows: float
    highlights: float
    dark: float
    blown: float
    contrast: float
    sharpness: float
    grain: float
    roughness: float
    flat: float
    few_colours: float


@dataclass(frozen=True)
class Flaw:
    """One thing against a photo, worded for whoever took it; `unusable` says that no model should be asked."""

    id: str
    reason: str
    remedy: str
    unusable: bool


def measure(image: Image.Image) -> Quality:
    """Measure an upright RGB photo of any size."""
    small = _working(image)
    planes = np.ascontiguousarray(np.moveaxis(np.asarray(small), -1, 0))  # a colour at a time takes half the time
    grey = _luma(planes)
    levels = np.bincount(grey.ravel(), minlength=256)
    rising = levels.cumsum()
    grain = deviation(_laplacian(grey))
    return Quality(
        brightness=int(levels @ _LEVELS) / grey.size,
        shadows=_percentile(rising, 2),
        highlights=_percentile(rising, 98),
        dark=int(rising[15]) / grey.size,
        blown=int(np.count_nonzero(planes.min(axis=0) > 250)) / grey.size,
        contrast=max(map(_deviation_of_levels, np.array(small.histogram()).reshape(3, 256))),
        sharpness=deviation(_laplacian(_smooth(_smooth(grey).T))) / _SMOOTHED,
        grain=grain,
        roughness=grain / max(_deviation_of_levels(levels), 0.1),
        flat=_flatness(grey),
        few_colours=_share_of_commonest(planes, 8),
    )


def deviation(values: npt.NDArray[np.integer]) -> float:
    """The standard deviation of whole numbers; only its root is rounded, so that no order of summing shows."""
    wide = values.astype(np.int64).ravel()
    return _deviation(wide.size, int(wide.sum()), int(wide @ wide))


def flaws(quality: Quality, width: int, height: int) -> tuple[Flaw, ...]:
    """What speaks against a photo of that size: what makes it unusable or, failing that, what is worth a look."""
    short = min(width, height)
    found = [("too_small", short < 64)] if short < 128 else []
    # of what makes it unusable, the one thing that explains best why nothing can be seen
    unusable = [(name, True) for name, holds in _unusable(quality).items() if holds][:1]
    found += unusable or [(name, False) for name, holds in _doubtful(quality).items() if holds]
    found.sort(key=lambda flaw: not flaw[1])
    size = f"{width}x{height}"
    return tuple(Flaw(name, _WORDS[name][0].format(size=size), _WORDS[name][1], hard) for name, hard in found)


def _working(image: Image.Image) -> Image.Image:
    """The photo at the working size."""
    if max(image.size) > _SKIM:
        width, height = (min(side, _SKIM) for side in image.size)
        image = image.resize((width, height), Image.Resampling.NEAREST)
    enlarging = min(image.size) < SIDE
    method = Image.Resampling.BILINEAR if enlarging else Image.Resampling.BOX
    return image.resize((SIDE, SIDE), method, reducing_gap=2.0)


def _deviation(count: int, total: int, squares: int) -> float:
    return math.sqrt(count * squares - total * total) / count


def _deviation_of_levels(counts: npt.NDArray[np.int64]) -> float:
    """The standard deviation of grey levels, given how many pixels have each of the 256."""
    return _deviation(int(counts.sum()), int(counts @ _LEVELS), int(counts @ (_LEVELS * _LEVELS)))


def _percentile(rising: npt.NDArray[np.int64], percent: float) -> float:
    """Between the two nearest grey levels, given how many pixels have at most each of the 256."""
    place = percent / 100 * (int(rising[-1]) - 1)
    below, above = (int(rising.searchsorted(at, "right")) for at in (int(place), math.ceil(place)))
    return below + (above - below) * (place - int(place))


def _luma(planes: Planes) -> Integers:
    """Grey levels `int32[h, w]`, 0..255, of red, green and blue: the weights of ITU-R BT.601, rounded."""
    red, green, blue = planes.astype(np.int32)
    return (299 * red + 587 * green + 114 * blue + 500) // 1000  # type: ignore[no-any-return]


def _flatness(grey: Integers) -> float:
    corner = grey[:-1, :-1]
    flat = (grey[:-1, 1:] == corner) & (grey[1:, :-1] == corner)
    return float(flat.sum() / flat.size)


def _laplacian(grey: Integers) -> Integers:
    beside: Integers = grey[1:-1, 2:] + grey[1:-1, :-2] + grey[2:, 1:-1] + grey[:-2, 1:-1]
    return beside - 4 * grey[1:-1, 1:-1]


def _smooth(rows: Integers) -> Integers:
    """Down the columns, by the binomial weights 1, 4, 6, 4, 1: a Gaussian of one pixel, times 16."""
    smooth: Integers = rows[:-4] + rows[4:] + 4 * (rows[1:-3] + rows[3:-1]) + 6 * rows[2:-2]
    return smooth


def _share_of_commonest(planes: Planes, count: int) -> float:
    """Share of the pixels in the commonest of the 16^3 coarse colours."""
    red, green, blue = planes >> 4
    coarse = red.astype(np.uint16) << 8 | green << 4 | blue
    held = np.bincount(coarse.ravel())
    held = held[held > 0]
    commonest = np.partition(held, -count)[-count:] if len(held) > count else held
    return float(commonest.sum() / coarse.size)


def _unusable(quality: Quality) -> dict[str, bool]:
    drawn = quality.few_colours > 0.95 and quality.flat > 0.75
    text = quality.grain > 75 and quality.roughness > 2 and quality.few_colours > 0.85
    return {
        "too_dark": quality.highlights < 36,
        "blown_out": quality.shadows > 235 or quality.blown > 0.9,
        "blank": quality.contrast < 4,
        "not_a_photo": drawn or text or quality.roughness > 3.5,
        "blurred": quality.sharpness < 0.65,
    }


def _doubtful(quality: Quality) -> dict[str, bool]:
    return {
        "too_dark": quality.highlights < 80 or quality.dark > 0.7,
        "blown_out": quality.shadows > 160 or quality.blown > 0.6,
        "blurred": quality.sharpness < 1.75,
        "not_a_photo": quality.flat > 0.6 and quality.few_colours > 0.8,
    }


_WORDS = {
    "too_small": ("The photo is too small: {size} pixels.", "Send the photo as the camera took it, not a thumbnail."),
    "too_dark": ("The photo is too dark.", "Take it again in daylight, without flash."),
    "blown_out": ("The photo is too bright.", "Take it again without flash, out of direct sun."),
    "blank": ("The photo shows one colour only.", "Take a photo of the skin."),
    "blurred": (
        "The photo is blurred.",
        "Hold the camera still, a hand's breadth away, and wait until it has focused.",
    ),
    "not_a_photo": (
        "This does not look like a photo.",
        "Send a photo of the skin: no drawing, screenshot or page of text.",
    ),
}
"""Of each flaw, what is wrong, and what to do about it."""
