"""Which files show the same photo: perceptual hashes over the eight turns and flips, searched in tables.

Knows nothing of folders or labels; the hashes are those of `spectraderm.images.perceptual_hash`.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from spectraderm.images.perceptual_hash import MAX_DISTANCE

_PARTS = MAX_DISTANCE + 3
_BLOCK = 1 << 20
"""How many hashes are compared at once: what bounds the memory."""

_SHORT = 8
"""Rows up to which all are compared, even those joined already."""

_ONE = np.uint64(1)
_MIXER = np.uint64(0x9E3779B97F4A7C15)
_BITS_SET = (
    np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint8)
)


def near_pairs(hashes: npt.NDArray[np.uint8], max_distance: int = MAX_DISTANCE) -> npt.NDArray[np.int64]:
    """Pairs of photos whose hashes are within `max_distance` bits in some turn; they join what all such pairs join.

    Of 9 parts of a hash, 6 different bits leave 3 untouched: two hashes that near are equal in one of the 84 choices
    of 3 parts, and each choice is looked up in a table (Manku et al. 2007, "Detecting near-duplicates for web
    crawling"). Photos already joined are not compared again, so that thousands of nearly equal photos cost little.

    Args:
        hashes: `uint8[n, 8, 8]`, one row of `turned_hashes` per photo.
        max_distance: how many of the 64 bits may differ, at most `MAX_DISTANCE`.

    Returns:
        `int64[m, 2]`, the smaller index first, sorted; a forest: m is less than n.
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(f"max_distance is {max_distance}, not between 0 and {MAX_DISTANCE}")
    if len(hashes) == 0:
        return np.empty((0, 2), np.int64)
    words = np.ascontiguousarray(hashes).view(np.uint64)[..., 0]
    forest = _Forest(len(words))
    chain = np.argsort(words[:, 0], kind="stable")
    forest.join(np.stack([chain[:-1], chain[1:]], axis=1)[words[chain[:-1], 0] == words[chain[1:], 0]])
    rows = min(len(words).bit_length() + 3, 24)
    for chosen in combinations(_parts(words), _PARTS - MAX_DISTANCE):
        _join_equal_rows(words, _rows(chosen, rows), max_distance, forest)
    return forest.pairs


def photo_groups(
    count: int, pairs: npt.NDArray[np.int64], keys: Sequence[Sequence[Hashable]] = ()
) -> npt.NDArray[np.int64]:
    """Join photos that are copies, or that share a key, into groups numbered from 0 in order of first appearance.

    Args:
        count: how many photos there are.
        pairs: `int64[m, 2]`, photos that are copies.
        keys: per photo, what else joins it (a patient, a lesion); empty where nothing does.
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


class _Forest:
    """Which photos are joined so far: `pairs` int64[m, 2] without a cycle, `tree` int64[n] the same for joined ones."""

    def __init__(self, count: int) -> None:
        self.pairs: npt.NDArray[np.int64] = np.empty((0, 2), np.int64)
        self.tree: npt.NDArray[np.int64] = np.arange(count)

    def join(self, pairs: npt.NDArray[np.int64]) -> None:
        if len(pairs) == 0:
            return
        edges, count = np.concatenate([self.pairs, np.sort(pairs, axis=1)]).astype(np.int32), len(self.tree)
        graph = coo_array((np.ones(len(edges), np.int32), (edges[:, 0], edges[:, 1])), shape=(count, count))
        tree = minimum_spanning_tree(graph.tocsr()).tocoo()
        self.pairs = np.stack([tree.row, tree.col], axis=1).astype(np.int64)
        self.pairs = self.pairs[np.lexsort((tree.col, tree.row))]
        self.tree = connected_components(tree, directed=False)[1].astype(np.int64)


def _parts(words: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.uint64]]:
    """The parts of each hash as numbers; part p holds every ninth bit from p on, so that parts vary alike."""
    parts = []
    for part in range(_PARTS):
        bits = [
            (words >> np.uint64(bit) & _ONE) << np.uint64(place) for place, bit in enumerate(range(part, 64, _PARTS))
        ]
        parts.append(np.bitwise_or.reduce(bits))
    return parts


def _rows(chosen: Sequence[npt.NDArray[np.uint64]], bits: int) -> npt.NDArray[np.int64]:
    """Where parts are looked up: equal parts in the same of `2**bits` rows, others spread evenly."""
    mixed = np.zeros_like(chosen[0])
    for part in chosen:
        mixed = (mixed ^ part) * _MIXER
    return (mixed >> np.uint64(64 - bits)).astype(np.int64)


def _join_equal_rows(
    words: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64], max_distance: int, forest: _Forest
) -> None:
    """Join photos that are near and in one row; `words` and `rows` are [n, 8], of which [:, 0] is looked up."""
    flat, plain = rows.reshape(-1), np.ascontiguousarray(rows[:, 0])
    ends = np.concatenate([[0], np.cumsum(np.bincount(plain, minlength=int(flat.max()) + 1))])
    queries = np.flatnonzero(ends[flat] < ends[flat + 1])
    while len(queries):
        tree = forest.tree
        order = np.argsort(plain * len(plain) + tree)
        first, last = ends[flat[queries]], ends[flat[queries] + 1]
        left, right = first.copy(), first.copy()  # of those in the query's own tree, where the row is long
        long = last - first > _SHORT
        places, own = (plain * len(plain) + tree)[order], (flat * len(plain))[queries[long]] + tree[queries[long] // 8]
        left[long], right[long] = np.searchsorted(places, own, "left"), np.searchsorted(places, own, "right")
        compared = last - first - (right - left)
        taken = max(1, int(np.searchsorted(np.cumsum(compared), _BLOCK, "right")))
        which = np.repeat(np.arange(taken), compared[:taken])
        place = np.arange(len(which)) - (np.cumsum(compared[:taken]) - compared[:taken])[which] + first[which]
        place += (place >= left[which]) * (right - left)[which]
        asked, met = queries[which], order[place]
        strange = tree[asked // 8] != tree[met]
        asked, met = asked[strange], met[strange]
        near = _distances(words.reshape(-1)[asked], words[met, 0]) <= max_distance
        forest.join(np.stack([asked[near] // 8, met[near]], axis=1))
        queries = queries[taken:][compared[taken:] > 0]


def _distances(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    bits: npt.NDArray[np.int64] = _BITS_SET[(a ^ b).view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64)
    return bits
