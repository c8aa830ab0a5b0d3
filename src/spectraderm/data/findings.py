"""What an audit measured -> findings: what is wrong, how bad it is, in which files, and what to do about it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import OTHER
from spectraderm.core.errors import SpectraDermError
from spectraderm.core.names import ONE_FOLDER
from spectraderm.data import shortcuts
from spectraderm.data.beside import EXAMPLES, SEVERITIES, Finding, Severity, finding, of_folders, worst_first
from spectraderm.data.duplicates import KINDS, RANKS, within_splits
from spectraderm.data.layouts import Listing
from spectraderm.data.manifest import Row
from spectraderm.data.metadata import NOTES, Metadata
from spectraderm.data.shortcuts import Shortcut
from spectraderm.data.split import label_conflicts
from spectraderm.images.quality import Flaw

IMBALANCE = 4.0
"""A class of fewer photo groups than the largest one's divided by this is a finding."""
ASPECT = 3.0
"""A photo longer than this many times its width is odd: squashed into a square, little is left of it."""
USUAL = 0.8
"""Share of photos of one size from which on the other sizes are odd."""
ABOVE_CHANCE = 0.1
"""A shortcut is a finding where even the low end of its interval is this far above chance."""
QUALITY = ("too_small", "too_dark", "blown_out", "blank", "blurred", "not_a_photo")
KNOWN = (
    "leakage", "leakage_by_crop", "class_all_leaked", "label_conflict", "unreadable", "look_alike_classes",
    "size_gives_class_away",
    *(f"shortcut_{name}" for name in (*shortcuts.NAMES, "source")), *(f"{kind}_copy" for kind in KINDS),
    "class_of_one_source", "class_imbalance",
    *QUALITY, "extreme_aspect", "minority_size", "nested_folder", "link_outside",
    "empty_class", "unread_type", "debris", "own_output", "other_files",
    "copy_across_sources", "joined_classes", *NOTES,
)  # fmt: skip
"""Every finding there is, by id."""


@dataclass(frozen=True)
class Evidence:
    """What findings are made of: the manifest's rows, and per row its flaws and its groups without crops.

    `near` is the group of files that are copies by hash alone, `whole` that with patients and lesions, too.
    """

    rows: Sequence[Row]
    near: npt.NDArray[np.int64]
    whole: npt.NDArray[np.int64]
    flaws: Sequence[Sequence[Flaw]]
    shortcuts: Sequence[Shortcut]
    unreadable: list[dict[str, str]]
    listing: Listing
    metadata: Metadata

    @property
    def labels(self) -> list[str]:
        """The classes, in the order that shortcuts number them by."""
        return sorted({row.label for row in self.rows})


def collect(evidence: Evidence) -> list[Finding]:
    """All findings, the worst first."""
    kinds = (_copies, _sizes, _shortcuts, _classes, _sources, _quality, _files)
    return worst_first(one for kind in kinds for one in kind(evidence))


def leaked_test_photos(rows: Sequence[Row], groups: Iterable[int] | None = None) -> list[Row]:
    """Photos of the given test split whose photo group (or other group, by row) is in the given training split, too."""
    numbered = list(zip(rows, [row.photo_group for row in rows] if groups is None else groups, strict=True))
    trained = {number for row, number in numbered if row.given_split == "train"}
    return [row for row, number in numbered if row.given_split == "test" and number in trained]


def parse_fail_on(text: str) -> list[str]:
    """`leakage,high` -> the ids and severities. Raises `SpectraDermError`, naming the known ones, for any other."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in (*SEVERITIES, *KNOWN):
            known = ", ".join((*SEVERITIES, *KNOWN))
            raise SpectraDermError(f"--fail-on: there is no finding {name!r}", f"Known: {known}")
    return names


def failing(findings: Iterable[Mapping[str, Any]], fail_on: Sequence[str]) -> list[str]:
    """Ids of the findings (as in `audit.json`) that are named in `fail_on`, or at least as bad as a severity there."""
    worst = max((SEVERITIES.index(name) for name in fail_on if name in SEVERITIES), default=-1)
    return [f["id"] for f in findings if f["id"] in fail_on or SEVERITIES.index(f["severity"]) <= worst]


def _copies(evidence: Evidence) -> Iterable[Finding]:
    """Leaks, label conflicts and copies inside one folder."""
    rows = evidence.rows
    crossing = _crossing(rows, evidence.whole.tolist())
    by_crop = [path for path in _crossing(rows, [row.photo_group for row in rows]) if path not in crossing]
    yield finding("leakage", "high", list(crossing), "Copies cross: use `--split grouped`")
    yield finding("leakage_by_crop", "high", by_crop, "Crops or turns by some degrees cross, too: the same remedy")
    tested = Counter(row.label for row in rows if row.given_split == "test")
    leaked = Counter(row.label for row in leaked_test_photos(rows))
    classes = [label for label, count in sorted(tested.items()) if leaked[label] == count]
    remedy = f"{', '.join(classes)}: no test photo is new to the model. Add new ones"
    yield finding("class_all_leaked", "high", classes, remedy)
    disputed = label_conflicts(rows)
    in_order = [row.path for row in rows if row.path in disputed]
    yield finding("label_conflict", "high", in_order, "One photo, two classes: keep the right one")
    copies = within_splits(rows, evidence.near)
    yield finding("exact_copy", "medium", copies["exact"], "The same bytes again: delete them")
    yield finding("near_copy", "medium", copies["near"], "They add nothing: keep the best of each")
    yield finding("crop_copy", "medium", copies["crop"], "Parts of other photos: keep the whole")


def _crossing(rows: Sequence[Row], groups: Sequence[int]) -> dict[str, None]:
    """Files that have one of their group in a given folder that ranks before theirs, in order."""
    first: dict[int, int] = {}
    for row, number in zip(rows, groups, strict=True):
        first[number] = min(first.get(number, RANKS["test"]), RANKS[row.given_split])
    numbered = zip(rows, groups, strict=True)
    return dict.fromkeys(row.path for row, number in numbered if RANKS[row.given_split] > first[number])


def _classes(evidence: Evidence) -> Iterable[Finding]:
    groups = Counter(
        label for label, _ in {(row.label, row.photo_group) for row in evidence.rows if row.label != OTHER}
    )
    order = sorted(groups, key=lambda label: (groups[label], label))
    most, fewest = groups[order[-1]], groups[order[0]]
    rare = [label for label in order if groups[label] * IMBALANCE < most]
    remedy = f"{most} photo groups of {order[-1]}, {fewest} of {order[0]}: {most / fewest:.1f} to 1"
    yield finding("class_imbalance", "medium", rare, remedy)
    remedy = f"Two classes, or one in two spellings? No model is trained on them: {ONE_FOLDER}"
    yield finding("look_alike_classes", "high", evidence.listing.alike, remedy)


def _sources(evidence: Evidence) -> Iterable[Finding]:
    of_class, of_group = defaultdict(set), defaultdict(set)
    for row in evidence.rows:
        of_class[row.label].add(row.source)
        of_group[row.photo_group].add(row.source)
    if len({row.source for row in evidence.rows}) < 2:
        return
    several = len({row.source for row in evidence.rows if row.label != OTHER}) > 1  # or that is no news of a disease
    single = [label for label in evidence.labels if len(of_class[label]) == 1 and (several or label == OTHER)]
    names = ", ".join(f"{label} only from {min(of_class[label]) or 'photos of no source'}" for label in single)
    remedy = f"{names}: the camera gives it away. Add photos of it from another source"
    yield finding("class_of_one_source", "medium", single, remedy)
    crossing = [row.path for row in evidence.rows if len(of_group[row.photo_group]) > 1]
    yield finding("copy_across_sources", "low", crossing, "Kept together by `grouped`, left out by `by-source`")


def _sizes(evidence: Evidence) -> Iterable[Finding]:
    rows = evidence.rows
    pairs = {(row.label, (row.width, row.height)) for row in rows}
    sizes, holders = (Counter(pair[part] for pair in pairs) for part in (0, 1))  # of a class; classes of a size
    given_away = {label: size for label, size in sorted(pairs) if sizes[label] == holders[size] == 1}
    always = "; ".join(f"{label} is always {w}x{h}" for label, (w, h) in given_away.items())
    remedy = f"{always}, and no other class is: a model can learn the size. Add photos of other sizes"
    yield finding("size_gives_class_away", "high", [r.path for r in rows if r.label in given_away], remedy)
    long = [row.path for row in rows if max(row.width, row.height) > ASPECT * min(row.width, row.height)]
    yield finding("extreme_aspect", "low", long, f"More than {ASPECT:g} times as long as wide: crop them to the skin")
    (width, height), usual = Counter((row.width, row.height) for row in rows).most_common(1)[0]
    odd = [row.path for row in rows if (row.width, row.height) != (width, height)]
    if usual >= USUAL * len(rows):
        yield finding("minority_size", "low", odd, f"All others are {width}x{height}: do these have another origin?")


def _quality(evidence: Evidence) -> Iterable[Finding]:
    photos: defaultdict[str, list[tuple[bool, str]]] = defaultdict(list)
    for row, flaws in zip(evidence.rows, evidence.flaws, strict=True):
        for flaw in flaws:
            photos[flaw.id].append((not flaw.unusable, row.path))
    for name, marked in sorted(photos.items()):
        unusable = sum(not usable for usable, _ in marked)
        remedy = f"{unusable} of them unusable: replace them" if unusable else "Worth a look, not unusable"
        yield finding(name, "medium" if unusable else "low", [path for _, path in sorted(marked)], remedy)


def _shortcuts(evidence: Evidence) -> Iterable[Finding]:
    for shortcut in sorted(evidence.shortcuts, key=_strength, reverse=True):
        if shortcut.low <= shortcut.chance + ABOVE_CHANCE:
            continue
        classes = [evidence.labels[number] for number in shortcut.gives_away]
        notable = _strength(shortcut) > 0.25 or len(classes) > 0
        severity: Severity = "high" if _strength(shortcut) > 0.5 else "medium" if notable else "low"
        names = f", gives away {', '.join(classes)}" if classes else ""
        remedy = f"Balanced accuracy {shortcut.balanced_accuracy:.0%} by this alone{names}. Mix cameras and sources"
        yield Finding(f"shortcut_{shortcut.name}", severity, max(1, len(classes)), classes[:EXAMPLES], remedy)


def _strength(shortcut: Shortcut) -> float:
    """How much of the way from chance to always right a shortcut goes at least."""
    return (shortcut.low - shortcut.chance) / (1 - shortcut.chance)


def _files(evidence: Evidence) -> Iterable[Finding]:
    listing = evidence.listing
    paths = [entry["path"] for entry in evidence.unreadable]
    yield finding("unreadable", "high", paths, "Replace or delete these files")
    nested = "Only <split>/<class>/* or <class>/* is read: move them up"
    yield finding("nested_folder", "medium", listing.nested, nested)
    yield finding("link_outside", "medium", listing.outside, "Links that lead out of the folder are not followed")
    read = {table["path"] for table in evidence.metadata.tables}
    others = [path for path in listing.other_files if path not in read]
    yield finding("other_files", "low", others, "Not photos in a class folder: they were passed over")
    yield from of_folders(listing.joined, list(listing.empty), listing.left_out, evidence.metadata.notes)
