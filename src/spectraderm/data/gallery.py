"""The copies of an audit, side by side, on one page that stands alone: `gallery.html`.

It holds thumbnails of the photos: share it only where the photos may be shared.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jinja2

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.data.copies import KINDS, Copy
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.manifest import Row, display_name
from spectraderm.images.thumbnails import data_url

SHOWN = {"leaks": 200, "conflicts": 50, "within": 50}
"""How many pairs of each section are shown at most; the others are counted."""
SIDE = 176
"""Longer side of a thumbnail in pixels."""


@dataclass(frozen=True)
class Pair:
    """A copy beside its twin, with both classes and both thumbnails (empty where a photo can't be read any more)."""

    copy: Copy
    label: str
    twin_label: str
    picture: str = ""
    twin_picture: str = ""


@dataclass(frozen=True)
class Section:
    """Pairs of one kind: those shown, and how many there are."""

    title: str
    meaning: str
    pairs: list[Pair]
    total: int


@dataclass(frozen=True)
class ClassCount:
    """One line of the table: files of a class, its test photos, and how many of them leak; disputes and copies."""

    name: str
    files: int
    tested: int
    leaked: int
    disputed: int
    within: int


def write(path: Path, root: Path, rows: Sequence[Row], copies: Sequence[Copy]) -> None:
    """Write `gallery.html`: a count by class, then leaks, label conflicts, and copies inside one given folder."""
    labels = {row.path: row.label for row in rows}
    pairs = [Pair(copy, labels[copy.path], labels[copy.twin]) for copy in copies]
    leaks = [pair for pair in pairs if pair.copy.path_split != pair.copy.twin_split]
    disputed = [pair for pair in pairs if pair.label != pair.twin_label]
    within = [pair for pair in pairs if pair.copy.path_split == pair.copy.twin_split and pair not in disputed]
    chosen = {"leaks": _spread(leaks), "conflicts": _spread(disputed), "within": _spread(within)}
    shown = {name: own[: SHOWN[name]] for name, own in chosen.items()}
    pictures = _pictures(root, {p for own in shown.values() for pair in own for p in (pair.copy.path, pair.copy.twin)})
    totals = {"leaks": len(leaks), "conflicts": len(disputed), "within": len(within)}
    sections = [
        Section(*TEXTS[name], _with_pictures(shown[name], pictures), totals[name]) for name in TEXTS if totals[name]
    ]
    tested, leaked = sum(row.given_split == "test" for row in rows), len(leaked_test_photos(rows))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spectraderm.data"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    html = environment.get_template("gallery.html.j2").render(
        classes=_classes(rows, pairs),
        sections=sections,
        tested=tested,
        leaked=leaked,
        share=f"{100 * leaked / tested:.1f} %" if tested else "",
        kinds={kind: sum(copy.kind == kind for copy in copies) for kind in KINDS},
        side=SIDE,
    )
    artifacts.write_bytes(path, html.encode())


TEXTS = {
    "leaks": (
        "Leaks",
        "The photo on the left is tested on, its twin on the right is in another folder, mostly training.",
    ),
    "conflicts": ("Label conflicts", "One photo, two classes: at least one of them is wrong."),
    "within": ("Copies inside one folder", "They add nothing to learn from and count twice when tested."),
}


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair of each class in turn, so that the first few show every class."""
    by_class: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_class[pair.label].append(pair)
    turns = [(turn, label, pair) for label, own in by_class.items() for turn, pair in enumerate(own)]
    return [pair for _, _, pair in sorted(turns, key=lambda entry: entry[:2])]


def _with_pictures(pairs: Sequence[Pair], pictures: dict[str, str]) -> list[Pair]:
    """The same pairs by class and path, with their thumbnails."""
    ordered = sorted(pairs, key=lambda pair: (pair.label, pair.copy.path))
    return [
        Pair(
            own.copy,
            display_name(own.label),
            display_name(own.twin_label),
            pictures[own.copy.path],
            pictures[own.copy.twin],
        )
        for own in ordered
    ]


def _pictures(root: Path, paths: set[str]) -> dict[str, str]:
    def picture(path: str) -> str:
        try:
            return data_url((root / path).read_bytes(), SIDE)
        except (OSError, SpectraDermError):
            return ""

    with ThreadPoolExecutor() as pool:
        return dict(zip(sorted(paths), pool.map(picture, sorted(paths)), strict=True))


def _classes(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[ClassCount]:
    files = Counter(row.label for row in rows)
    tested = Counter(row.label for row in rows if row.given_split == "test")
    leaked = Counter(row.label for row in leaked_test_photos(rows))
    disputed = Counter(pair.label for pair in pairs if pair.label != pair.twin_label)
    within = Counter(pair.label for pair in pairs if pair.copy.path_split == pair.copy.twin_split)
    return [
        ClassCount(display_name(own), files[own], tested[own], leaked[own], disputed[own], within[own])
        for own in sorted(files)
    ]
