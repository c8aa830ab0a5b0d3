"""Class names in figures: in fonts that have their letters, or as numbers that a legend in text explains."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

_OWN = "DejaVu Sans"
"""Comes with Matplotlib."""
_NOT = ("Last Resort", "LastResort", "Adobe Blank")
"""Fonts that have a box for everything."""
_SHAPES = (3, 11)
"""The version of Matplotlib that joins letters and writes from right to left."""


class Labels(NamedTuple):
    """What is drawn for each name, the font families to draw it in, and the names that numbers stand for."""

    drawn: list[str]
    families: list[str]
    legend: dict[str, str]


def labels(names: Sequence[str]) -> Labels:
    """Names as figures can show them; one that they can't becomes its number, counted from 1.

    No font may have its letters, or Matplotlib may be too old to join them.
    """
    missing = {letter for name in names for letter in name}
    families = []
    for family in _families():
        here = _has(family, missing)
        if here or family == _OWN:
            families.append(family)
        missing -= here
        if not missing:
            break
    legible = [not missing.intersection(name) and _drawable(name) for name in names]
    drawn = [name if shown else str(number) for number, (name, shown) in enumerate(zip(names, legible, strict=True), 1)]
    legend = {own: name for own, name, shown in zip(drawn, names, legible, strict=True) if not shown}
    return Labels(drawn, families, legend)


def _families() -> Iterator[str]:
    """The installed font families, first Matplotlib's own, then those made for many scripts."""
    yield _OWN
    installed = {font.name for font in fontManager.ttflist} - {_OWN}
    usable = [name for name in installed if not name.startswith((*_NOT, "."))]
    yield from sorted(usable, key=lambda name: (not name.startswith("Noto Sans"), "CJK" not in name, name))


def _has(family: str, letters: set[str]) -> set[str]:
    """Which of these letters a font has."""
    try:
        font = get_font(findfont(FontProperties(family=[family]), fallback_to_default=False))
        return {letter for letter in letters if font.get_char_index(ord(letter))}
    except (OSError, RuntimeError, ValueError):  # not installed any more, or damaged
        return set()


def _drawable(name: str) -> bool:
    """Whether letters can be drawn one after the other, from left to right; else Matplotlib must know how."""
    plain = all(
        unicodedata.bidirectional(c) not in ("R", "AL", "NSM") and unicodedata.category(c) != "Mc" for c in name
    )
    return plain or mpl.__version_info__[:2] >= _SHAPES
