"""Numbers and names as people read them, and the templates of the report and the card. Jinja's door."""

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard

import jinja2

from spectraderm.core.printable import in_template, json_text, markdown

DASH = "–"
"""Stands where a number is not defined."""
_HUB_ID = r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@[\w.-]+)?"

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
    "source": "who took the photo",
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

Metric = Mapping[str, Any] | None


def defined(value: float | None) -> TypeGuard[float]:
    """Whether a number is there at all."""
    return value is not None and math.isfinite(value)


def percent(value: float | None) -> str:
    """A share as people read it: `0.8732` -> `87.3 %`."""
    return f"{100 * value:.1f} %" if defined(value) else DASH


def number(value: float | None, digits: int = 3) -> str:
    """A plain number: `0.035`."""
    return f"{value:.{digits}f}" if defined(value) else DASH


def points(value: float | None, unit: str = " points") -> str:
    """A difference of shares: `-0.252` -> `−25.2 points`."""
    return f"{100 * value:+.1f}{unit}".replace("-", "−") if defined(value) else DASH


def bounds(metric: Metric) -> str:
    """The interval of a share: `84.9–89.6`; nothing where there is none."""
    return _range(metric, lambda value: f"{100 * value:.1f}")


def span(metric: Metric) -> str:
    """The interval of a plain number: `0.849–0.896`."""
    return _range(metric, number)


def score(metric: Metric) -> str:
    """A share with its interval: `87.3 % (84.9–89.6)`."""
    return f"{percent((metric or {}).get('value'))} ({bounds(metric)})".removesuffix(" ()")


def decimal(metric: Metric) -> str:
    """A number with its interval: `0.037 (0.000–0.063)`."""
    return f"{number((metric or {}).get('value'))} ({span(metric)})".removesuffix(" ()")


def spaced(name: str) -> str:
    """`out_of_scope` -> `out of scope`."""
    return name.replace("_", " ")


def times(count: int, what: str) -> str:
    """`1 time`, `2 times`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def pathless(name: str) -> str:
    """A backbone's name; of a path only the last part, for reports and cards are passed on."""
    return name if re.fullmatch(_HUB_ID, name) else Path(name).name


def hub_id(name: str, source: str) -> str | None:
    """The `owner/name` of a backbone that is named by its id on the Hugging Face Hub: its `source` begins so."""
    match = re.fullmatch(_HUB_ID, name)
    return match[1] if match and source.partition("@")[0] == match[1] else None


@cache
def template(name: str) -> jinja2.Template:
    """One of `templates/`, or of the data room's: in `*.html.j2` every text is escaped; in Markdown names go through
    `plain`, and what is JSON in its front matter through `yaml`.
    """
    templates = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(f"spectraderm.{room}") for room in ("evaluation", "data")]),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        finalize=in_template,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (percent, number, points, bounds, span, score, decimal, spaced, times)
    templates.filters |= {function.__name__: function for function in filters}
    templates.filters |= {"plain": markdown, "yaml": json_text}  # JSON is YAML, too
    templates.globals |= {"BASELINES": BASELINES, "SHORTCUTS": SHORTCUTS, "KINDS": KINDS}
    return templates.get_template(name)


def _range(metric: Metric, shown: Callable[[float], str]) -> str:
    low, high = (metric.get("low"), metric.get("high")) if metric else (None, None)
    return f"{shown(low)}–{shown(high)}" if defined(low) and defined(high) else ""
