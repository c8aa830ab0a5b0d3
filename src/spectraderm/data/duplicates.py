"""Which files show the same photo, by perceptual hashes in all eight turns and flips.

Near hashes are looked up in tables; pairs of copies become groups, and each file but the first of a group gets a twin.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from spectraderm.data.manifest import Row
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Words, distances, nearest_of

Kind = Literal["exact", "near", "crop"]
KINDS: tuple[Kind, ...] = ("exact", "near", "crop")
RANKS = {"train": 0, "": 0, "val": 1, "test": 2}
"""A copy is one of what stands before it: in training first, then in validation, then in the test folder."""

Integers = npt.NDArray[np.int64]

_COMPARED = 256  # at most so many candidates are compared with a file for the twin that is most alike
_PARTS = MAX_DISTANCE + 3
_BLOCK = 1 << 20  # how many hashes are compared at once: what bounds the memory
_SHORT = 8  # rows up to which all are compared, even those joined already

_MIXER = np.uint64(0x9E3779B97F4A7C15)


def near_pairs(hashes: npt.NDArray[np.uint8]) -> Integers:
    """Pairs of photos whose hashes are within `MAX_DISTANCE` bits in some turn; they join what all such pairs join.

    Of 9 parts of a hash, 6 different bits leave 3 untouched: two hashes that near are equal in one of the 84 choices
    of 3 parts, and each choice is looked up in a table (Manku et al. 2007, "Detecting near-duplicates for web
    crawling"). Photos already joined are not compared again, so that thousands of nearly equal photos cost little.

    Of hashes `uint8[n, 8, 8]`, a row of `turned_hashes` per photo, `int64[m, 2]`, the smaller index first, sorted; a
    forest: m is less than n.
    """
    if len(hashes) == 0:
        return np.empty((0, 2), np.int64)
    words = np.ascontiguousarray(hashes).view(np.uint64)[..., 0]
    forest = _Forest(len(words))
    chain = np.argsort(words[:, 0], kind="stable")
    forest.join(np.stack([chain[:-1], chain[1:]], axis=1)[words[chain[:-1], 0] == words[chain[1:], 0]])
    rows = min(len(words).bit_length() + 3, 24)
    # part p of a hash holds every ninth bit from p on, so that parts vary alike
    places = [list(enumerate(range(part, 64, _PARTS))) for part in range(_PARTS)]
    parts = [
        np.bitwise_or.reduce([(words >> np.uint64(bit) & np.uint64(1)) << np.uint64(place) for place, bit in part])
        for part in places
    ]
    for chosen in combinations(parts, _PARTS - MAX_DISTANCE):
        _join_equal_rows(words, _rows(chosen, rows), forest)
    return forest.pairs


def photo_groups(count: int, pairs: Integers, keys: Sequence[Sequence[Hashable]] = ()) -> Integers:
    """Join photos that are copies, or that share a key, into groups numbered from 0 in order of first appearance.

    Of so many photos, `pairs` `int64[m, 2]` are copies; `keys` are what else joins each, as a patient or a lesion.
    """
    joined = [pairs]
    holder: dict[Hashable, int] = {}
    for number, own in enumerate(keys):
        joined.extend(np.array([[holder.setdefault(key, number), number]]) for key in own)
    edges = np.concatenate(joined).astype(np.int32)  # SciPy's oldest graphs take no others
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, which = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int64)


@dataclass(frozen=True)
class Copy:
    """A file and the one it is a copy of. `exact`: the same bytes; `near`: by hash; `crop`: a part or turn of it."""

    path: str
    twin: str
    kind: Kind
    path_split: str
    twin_split: str


def pair(rows: Sequence[Row], hashes: npt.NDArray[np.uint8], near: Integers) -> list[Copy]:
    """Give each file but the first of every copy group its twin, in order of path.

    A file that has copies in a folder that ranks before its own gets the most similar one there: a leaked test photo
    its training twin. Any other gets the most similar before it in its own folder. Hashes are `uint8[n, 8, 8]` of
    `turned_hashes`, and `near` `int64[n]`, the same number for files that are copies by hash alone.
    """
    groups: defaultdict[int | None, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row.copy_group].append(number)
    copies = []
    for members in (group for group in groups.values() if len(group) > 1):
        order = sorted(members, key=lambda i: (RANKS[rows[i].given_split], rows[i].path))
        for number, twin, kind in _twins(order, rows, hashes, near):
            sides = rows[number].given_split, rows[twin].given_split
            copies.append(Copy(rows[number].path, rows[twin].path, kind, *sides))
    return sorted(copies, key=lambda copy: copy.path)


def within_splits(rows: Sequence[Row], near: Integers) -> dict[Kind, list[str]]:
    """Files beyond the first of their kind inside one given folder (`train`, `val`, `test`), by how they are copies."""
    met: set[tuple[Kind, object, str]] = set()
    copies: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for row, number in zip(rows, near.tolist(), strict=True):
        marks = (row.sha256, number, row.copy_group)
        keys = [(kind, mark, row.given_split) for kind, mark in zip(KINDS, marks, strict=True)]
        kind = next((key[0] for key in keys if key in met), None)
        if kind:
            copies[kind].append(row.path)
        met.update(keys)
    return copies


def _twins(
    order: Sequence[int], rows: Sequence[Row], hashes: npt.NDArray[np.uint8], near: Integers
) -> Iterator[tuple[int, int, Kind]]:
    """Each file of a group but the first, and one before it in the folder that ranks first: with the same bytes, or
    else near by hash, or else any, of the first of these the one with the fewest bits changed.
    """
    same: dict[str, int] = {}
    likely: defaultdict[int, list[int]] = defaultdict(list)
    others: list[int] = []
    for number in order:
        digest, alike = rows[number].sha256, likely[int(near[number])]
        if digest in same:
            yield number, same[digest], "exact"
        elif others:
            chosen = alike or others
            nearest = nearest_of(hashes[number][None], hashes[chosen, 0])[0]
            yield number, chosen[nearest], "near" if alike else "crop"
        if RANKS[rows[number].given_split] == RANKS[rows[order[0]].given_split]:
            same.setdefault(digest, number)
            for met in (alike, others):
                if len(met) < _COMPARED:
                    met.append(number)


class _Forest:
    """Which photos are joined so far: `pairs` int64[m, 2] without a cycle, `tree` int64[n] the same for joined ones."""

    def __init__(self, count: int) -> None:
        self.pairs: Integers = np.empty((0, 2), np.int64)
        self.tree: Integers = np.arange(count)

    def join(self, pairs: Integers) -> None:
        if len(pairs) == 0:
            return
        edges, count = np.concatenate([self.pairs, np.sort(pairs, axis=1)]).astype(np.int32), len(self.tree)
        graph = coo_array((np.ones(len(edges), np.int32), (edges[:, 0], edges[:, 1])), shape=(count, count))
        tree = minimum_spanning_tree(graph.tocsr()).tocoo()
        self.pairs = np.stack([tree.row, tree.col], axis=1).astype(np.int64)
        self.pairs = self.pairs[np.lexsort((tree.col, tree.row))]
        self.tree = connected_components(tree, directed=False)[1].astype(np.int64)


def _rows(chosen: Sequence[Words], bits: int) -> Integers:
    """Where parts are looked up: equal parts in the same of `2**bits` rows, others spread evenly."""
    mixed = np.zeros_like(chosen[0])
    for part in chosen:
        mixed = (mixed ^ part) * _MIXER
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)


def _join_equal_rows(words: Words, rows: Integers, forest: _Forest) -> None:
    """Join photos that are near and in one row.

    `words` and `rows` are [n, 8]: a photo's hash in each turn, and where the table has it. The table holds only hashes
    as they are, [:, 0]; every turn of every photo is a query.
    """
    flat, plain, count = rows.reshape(-1), np.ascontiguousarray(rows[:, 0]), len(words)
    # [rows + 1]: where each row of the table ends, its photos being sorted by row
    ends = np.concatenate([[0], np.cumsum(np.bincount(plain, minlength=int(flat.max()) + 1))])
    queries = np.flatnonzero(ends[flat] < ends[flat + 1])  # [q], of 8 n: those whose row holds anything
    while len(queries):
        # [n]: photos by row, and in a row by tree, so that the photos of one tree stand together
        keys = plain * count + forest.tree
        order = np.argsort(keys)
        first, last = ends[flat[queries]], ends[flat[queries] + 1]
        # [q]: of a long row, the stretch from left to right is the query's own tree, and is left out
        left, right = first.copy(), first.copy()
        long = last - first > _SHORT
        own = flat[queries[long]] * count + forest.tree[queries[long] // 8]
        left[long], right[long] = np.searchsorted(keys[order], own, "left"), np.searchsorted(keys[order], own, "right")
        compared = last - first - (right - left)
        # as many queries as make a block of comparisons, at least one: [comparisons], each its query and its photo
        taken = max(1, int(np.searchsorted(np.cumsum(compared), _BLOCK, "right")))
        which = np.repeat(np.arange(taken), compared[:taken])
        place = np.arange(len(which)) - (np.cumsum(compared[:taken]) - compared[:taken])[which] + first[which]
        place += (place >= left[which]) * (right - left)[which]
        query, photo = queries[which], order[place]
        # those not joined already, and near enough
        apart = forest.tree[query // 8] != forest.tree[photo]
        query, photo = query[apart], photo[apart]
        near = distances(words.reshape(-1)[query], words[photo, 0]) <= MAX_DISTANCE
        forest.join(np.stack([query[near] // 8, photo[near]], axis=1))
        queries = queries[taken:][compared[taken:] > 0]
