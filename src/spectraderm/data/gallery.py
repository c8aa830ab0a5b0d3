"""The copies of an audit, side by side, on one page that stands alone: `gallery.html`.

It holds thumbnails of the photos: share it only where the photos may be shared.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jinja2

from spectraderm.core.files import write_bytes
from spectraderm.core.printable import in_template
from spectraderm.data.duplicates import KINDS, Copy
from spectraderm.data.findings import leaked_test_photos
from spectraderm.data.manifest import Row, display_names

T = TypeVar("T")

SHOWN = {"leaks": 200, "conflicts": 50, "within": 50}
"""How many pairs of each section are shown at most; the others are counted."""
TEXTS = {
    "leaks": (
        "Leaks",
        "The photo on the left is tested on, its twin on the right is in another folder, mostly training.",
    ),
    "conflicts": ("Label conflicts", "One photo, two classes: at least one of them is wrong."),
    "within": ("Copies inside one folder", "They add nothing to learn from and count twice when tested."),
}


class Pair(NamedTuple):
    """A copy beside its twin, with both classes."""

    copy: Copy
    label: str
    twin_label: str


def write(path: Path, rows: Sequence[Row], copies: Sequence[Copy], thumbnail: Callable[[int], str]) -> None:
    """Write `gallery.html`: a count by class, then leaks, label conflicts, and copies inside one given folder.

    `thumbnail` gives a photo as a data URL, by the number of its row.
    """
    labels, numbers = {row.path: row.label for row in rows}, {row.path: i for i, row in enumerate(rows)}
    pairs = [Pair(copy, labels[copy.path], labels[copy.twin]) for copy in copies]
    leaks = [pair for pair in pairs if pair.copy.path_split != pair.copy.twin_split]
    disputed = [pair for pair in pairs if pair.label != pair.twin_label]
    within = [pair for pair in pairs if pair.copy.path_split == pair.copy.twin_split and pair.label == pair.twin_label]
    kinds = {"leaks": leaks, "conflicts": disputed, "within": within}
    sections: list[dict[str, Any]] = []
    for name, own in kinds.items():
        taken = in_turn(own, lambda pair: pair.label)[: SHOWN[name]]  # so that every class is shown
        shown = sorted(taken, key=lambda pair: (pair.label, pair.copy.path))
        title, meaning = TEXTS[name]
        part = {"title": title, "meaning": meaning, "pairs": shown, "total": len(own)}
        sections += [part] if own else []
    tested, leaked = sum(row.given_split == "test" for row in rows), len(leaked_test_photos(rows))
    names = {name for own in sections for pair in own["pairs"] for name in (pair.copy.path, pair.copy.twin)}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("spectraderm.data"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=in_template,
    )
    environment.filters["display_name"] = display_names({row.label for row in rows}).__getitem__
    html = environment.get_template("gallery.html.j2").render(
        classes=_classes(rows, pairs),
        sections=sections,
        tested=tested,
        leaked=leaked,
        share=f"{100 * leaked / tested:.1f} %" if tested else "",
        kinds={kind: sum(copy.kind == kind for copy in copies) for kind in KINDS},
        pictures={name: thumbnail(numbers[name]) for name in names},
        script_hash=script_hash(),
    )
    write_bytes(path, html.encode())


def script_hash() -> str:
    """The SHA-256 of `page.js` as it stands within a page, by which the page's policy lets it run and no other."""
    text = (resources.files("spectraderm.data") / "templates" / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(text.removesuffix("\n").encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def in_turn(things: Iterable[T], kind: Callable[[T], Any]) -> list[T]:
    """The first of every kind, kinds sorted, then the second of every kind, and so on."""
    counted, ranked = Counter[Any](), []
    for thing in things:
        ranked.append((counted[kind(thing)], kind(thing), thing))
        counted[kind(thing)] += 1
    return [thing for *_, thing in sorted(ranked, key=lambda entry: entry[:2])]


def _classes(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[dict[str, int | str]]:
    """One line of the table each: files of a class, its test photos, how many of them leak; disputes and copies."""
    counts = {
        "files": Counter(row.label for row in rows),
        "tested": Counter(row.label for row in rows if row.given_split == "test"),
        "leaked": Counter(row.label for row in leaked_test_photos(rows)),
        "disputed": Counter(pair.label for pair in pairs if pair.label != pair.twin_label),
        "within": Counter(pair.label for pair in pairs if pair.copy.path_split == pair.copy.twin_split),
    }
    return [
        {"name": shown, **{name: count[label] for name, count in counts.items()}}
        for label, shown in display_names(sorted(counts["files"])).items()
    ]
