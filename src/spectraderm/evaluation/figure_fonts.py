"""Class names in figures: in fonts that have their letters, or as numbers that a legend in text explains."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.font_manager import fontManager, get_font

_OWN = "DejaVu Sans"
"""Comes with Matplotlib."""
_NOT = ("Last Resort", "LastResort", "Adobe Blank", "STIXSize", "STIXNonUnicode", "cm", ".")
"""Fonts that have a box for everything, or something else than Unicode says."""
_WEIGHTS = (400, "normal", "regular", "book")
_LONGEST = 40
"""Letters of a name that leave room for the figure itself."""
_SHAPES = (3, 11)
"""The version of Matplotlib that joins letters and writes from right to left."""


class Labels(NamedTuple):
    """What is drawn for each name, the font families to draw it in, and the names that numbers stand for."""

    drawn: list[str]
    families: list[str]
    legend: dict[str, str]


def labels(names: Sequence[str]) -> Labels:
    """Names as figures can show them; one that they can't becomes its number, counted from 1.

    It may be too long, no font may have its letters, or Matplotlib may be too old to join them.
    """
    missing = {letter for name in names for letter in name}
    families = []
    for family, path in _fonts():
        here = _has(path, missing)
        if here or family == _OWN:
            families.append(family)
        missing -= here
        if not missing:
            break
    legible = [len(name) <= _LONGEST and not missing.intersection(name) and _drawable(name) for name in names]
    drawn = [name if shown else str(number) for number, (name, shown) in enumerate(zip(names, legible, strict=True), 1)]
    legend = {own: name for own, name, shown in zip(drawn, names, legible, strict=True) if not shown}
    return Labels(drawn, families, legend)


def _fonts() -> Iterator[tuple[str, str]]:
    """Families and files of the upright fonts of usual weight: Matplotlib's own, then those made for many scripts."""
    upright = [font for font in fontManager.ttflist if font.style == "normal" and font.weight in _WEIGHTS]
    files = {font.name: font.fname for font in upright if not font.name.startswith(_NOT)}
    yield _OWN, files.pop(_OWN)
    yield from sorted(files.items(), key=lambda font: (not font[0].startswith("Noto"), "CJK" not in font[0], font))


def _has(path: str, letters: set[str]) -> set[str]:
    """Which of these letters a font has."""
    try:
        font = get_font(path)
        return {letter for letter in letters if font.get_char_index(ord(letter))}
    except (OSError, RuntimeError):  # not installed any more, or damaged
        return set()


def _drawable(name: str) -> bool:
    """Whether letters can be drawn one after the other, from left to right; else Matplotlib must know how."""
    plain = all(
        unicodedata.bidirectional(c) not in ("R", "AL", "NSM") and unicodedata.category(c) != "Mc" for c in name
    )
    return plain or mpl.__version_info__[:2] >= _SHAPES
