"""Numbers and names as people read them, in the report and in the card."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
DASH = "–"
"""Stands where a number is not defined."""

BASELINES = {
    "majority_class": "the most frequent class",
    "hash_look_up": "the most similar training photo, by hash",
    "metadata": "file size, format, dimensions, quality",
    "pixels_8x8": "the photo shrunk to 8×8 pixels",
}
SHORTCUTS = {
    "file_size": "size of the file",
    "format": "format of the file",
    "dimensions": "width and height",
    "jpeg_quality": "JPEG quality",
    "metadata": "all of these together",
    "mean_colour": "mean colour",
    "border": "the outer tenth of the photo",
    "pixels_8x8": "the photo shrunk to 8×8 pixels",
}
SETS = {
    "lac": "by probability (LAC)",
    "lac_per_class": "by probability, each class by itself",
    "raps": "by rank (RAPS)",
    "raps_per_class": "by rank, each class by itself",
}
KINDS = {"exact": "same bytes", "near": "same photo, turned, mirrored, scaled or saved again", "crop": "crop or zoom"}


def known(value: float | None) -> bool:
    """Whether a number is there at all."""
    return value is not None and math.isfinite(value)


def percent(value: float | None) -> str:
    """A share as people read it: `0.8732` -> `87.3 %`."""
    return f"{100 * value:.1f} %" if value is not None and math.isfinite(value) else DASH


def bounds(metric: Mapping[str, Any] | None) -> str:
    """The interval of a share: `84.9–89.6`; nothing where there is none."""
    return _range(metric, lambda value: f"{100 * value:.1f}")


def span(metric: Mapping[str, Any] | None) -> str:
    """The interval of a plain number: `0.849–0.896`."""
    return _range(metric, number)


def score(metric: Mapping[str, Any] | None) -> str:
    """A share with its interval: `87.3 % (84.9–89.6)`."""
    if not metric or not known(metric.get("value")):
        return DASH
    interval = bounds(metric)
    return percent(metric["value"]) + (f" ({interval})" if interval else "")


def number(value: float | None, digits: int = 3) -> str:
    """A plain number: `0.035`."""
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else DASH


def measure(metric: Mapping[str, Any] | None) -> str:
    """A number with its interval: `0.037 (0.000–0.063)`."""
    if not metric or not known(metric.get("value")):
        return DASH
    interval = span(metric)
    return number(metric["value"]) + (f" ({interval})" if interval else "")


def points(value: float | None) -> str:
    """A difference of shares: `-0.252` -> `−25.2 points`."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{100 * value:+.1f} points".replace("-", "−")


def spaced(name: str) -> str:
    """`out_of_scope` -> `out of scope`."""
    return name.replace("_", " ")


def plain(text: str) -> str:
    """A name in one line of Markdown that means nothing but itself."""
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", " ".join(text.split()))


def pathless(name: str) -> str:
    """A backbone's name; of a path only the last part, for reports and cards are passed on."""
    return name if re.fullmatch(_HUB_ID, name) else Path(name).name


def hub_id(name: str, source: str) -> str | None:
    """A backbone's name where it is an id of the Hugging Face Hub, `owner/name`, not a folder; `source` tells."""
    return name if re.fullmatch(_HUB_ID, name) and source.partition("@")[0] == name else None


def times(count: int, what: str) -> str:
    """`1 time`, `2 times`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _range(metric: Mapping[str, Any] | None, told: Callable[[float], str]) -> str:
    if not metric or not known(metric.get("low")) or not known(metric.get("high")):
        return ""
    return f"{told(metric['low'])}–{told(metric['high'])}"
