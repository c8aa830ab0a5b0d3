"""Which file is a copy of which: one twin for each, across the given folders and inside them, and `copies.csv`."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.data.manifest import Row

Kind = Literal["exact", "near", "crop"]
KINDS: tuple[Kind, ...] = ("exact", "near", "crop")
RANKS = {"train": 0, "": 0, "val": 1, "test": 2}
"""A copy is one of what stands before it: in training first, then in validation, then in the test folder."""
_COMPARED = 256  # at most so many candidates are compared with a file for the twin that is most alike


@dataclass(frozen=True)
class Copy:
    """A file and the one it is a copy of. `exact`: the same bytes; `near`: by hash; `crop`: a part or turn of it."""

    path: str
    twin: str
    kind: Kind
    path_split: str
    twin_split: str


def pair(rows: Sequence[Row], hashes: npt.NDArray[np.uint8], near: npt.NDArray[np.int64]) -> list[Copy]:
    """Give each file but the first of every copy group its twin, in order of path.

    A file that has copies in a folder that ranks before its own gets the most similar one there: a leaked test photo
    its training twin. Any other gets the most similar before it in its own folder.

    Args:
        rows: the manifest.
        hashes: `uint8[n, 8, 8]`, of `turned_hashes`.
        near: `int64[n]`, the same number for files that are copies by hash alone.
    """
    copies = []
    for members in _groups(rows):
        order = sorted(members, key=lambda i: (RANKS[rows[i].given_split], rows[i].path))
        first = RANKS[rows[order[0]].given_split]
        for place, own in enumerate(order[1:], start=1):
            leaks = RANKS[rows[own].given_split] > first
            before = [i for i in order[:place] if not leaks or RANKS[rows[i].given_split] == first]
            twin = _most_similar(own, before, rows, hashes, near)
            kind = _kind(own, twin, rows, near)
            sides = rows[own].given_split, rows[twin].given_split
            copies.append(Copy(rows[own].path, rows[twin].path, kind, *sides))
    return sorted(copies, key=lambda copy: copy.path)


def within_splits(rows: Sequence[Row], near: npt.NDArray[np.int64]) -> dict[Kind, list[str]]:
    """Files beyond the first of their kind inside one given folder (`train`, `val`, `test`), by how they are copies."""
    seen: set[tuple[str, object, str]] = set()
    found: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for row, number in zip(rows, near.tolist(), strict=True):
        marks = zip(KINDS, (row.sha256, number, row.copy_group), strict=True)
        keys: list[tuple[Kind, tuple[str, object, str]]] = [(k, (k, mark, row.given_split)) for k, mark in marks]
        met = next((kind for kind, key in keys if key in seen), None)
        if met:
            found[met].append(row.path)
        seen.update(key for _, key in keys)
    return found


def write(path: Path, copies: Sequence[Copy]) -> None:
    """Write `copies.csv`."""
    artifacts.write_csv(path, [field.name for field in fields(Copy)], (asdict(copy) for copy in copies))


def _groups(rows: Sequence[Row]) -> Iterator[list[int]]:
    members: defaultdict[int | None, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        members[row.copy_group].append(number)
    return (own for own in members.values() if len(own) > 1)


def _most_similar(
    own: int,
    others: Sequence[int],
    rows: Sequence[Row],
    hashes: npt.NDArray[np.uint8],
    near: npt.NDArray[np.int64],
) -> int:
    """Of `others`, the one with the same bytes, or else near by hash, or else any: with the fewest bits changed."""
    for other in others:
        if rows[other].sha256 == rows[own].sha256:
            return other
    likely = [i for i in others if near[i] == near[own]] or others
    chosen = np.array(likely[:_COMPARED])
    differing = np.unpackbits(hashes[own] ^ hashes[chosen, :1], axis=-1).sum(-1).min(-1)
    return int(chosen[differing.argmin()])


def _kind(own: int, twin: int, rows: Sequence[Row], near: npt.NDArray[np.int64]) -> Kind:
    if rows[own].sha256 == rows[twin].sha256:
        return "exact"
    return "near" if near[own] == near[twin] else "crop"
