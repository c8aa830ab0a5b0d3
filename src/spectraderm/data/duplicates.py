"""Which files show the same photo: perceptual hashes over the eight turns and flips, searched with faiss.

Knows nothing of folders or labels. Method: 64-bit DCT hash (Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions"), as the library imagehash computes it.
"""

from collections.abc import Hashable, Sequence

import faiss
import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MAX_DISTANCE = 6
"""Two photos are copies where at most this many of the 64 bits differ, in any turn."""

_SIDE = 32  # imagehash's own: 8 bits a side, times its oversampling of 4
_TURNS: tuple[Image.Transpose | None, ...] = (None, *Image.Transpose)


def turned_hashes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The hashes of a photo as it is and in the seven other turns and flips: `uint8[8, 8]`, the first as it is."""
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.stack([_hash(small if turn is None else small.transpose(turn)) for turn in _TURNS])


def near_pairs(hashes: npt.NDArray[np.uint8], max_distance: int = MAX_DISTANCE) -> npt.NDArray[np.int64]:
    """All pairs of photos whose hashes are within `max_distance` bits in some turn.

    Args:
        hashes: `uint8[n, 8, 8]`, one row of `turned_hashes` per photo.
        max_distance: how many of the 64 bits may differ.

    Returns:
        `int64[m, 2]`, the smaller index first. Photos of equal hash are given as a chain, not as all their pairs.
    """
    if len(hashes) == 0:
        return np.empty((0, 2), np.int64)
    plain = np.ascontiguousarray(hashes[:, 0])
    _, first, which = np.unique(plain, axis=0, return_index=True, return_inverse=True)
    which = which.reshape(-1)
    chain = np.argsort(which, kind="stable")
    equal = np.stack([chain[:-1], chain[1:]], axis=1)[which[chain[:-1]] == which[chain[1:]]]

    index = faiss.IndexBinaryFlat(64)
    index.add(plain[first])
    queries = np.ascontiguousarray(hashes.reshape(-1, 8))  # of all photos: equal hashes may differ once turned
    limits, distances, neighbours = index.range_search(queries, max_distance + 1)
    ends = np.asarray(limits, np.int64)
    owners = np.repeat(np.arange(len(queries)) // len(_TURNS), ends[1:] - ends[:-1])
    near = (distances <= max_distance) & (which[owners] != neighbours)
    found = np.stack([owners[near], first[neighbours[near]]], axis=1)
    pairs = np.sort(np.concatenate([equal, found]), axis=1)
    return np.unique(pairs, axis=0).astype(np.int64)


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
    edges = np.concatenate(joined)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, which = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which].astype(np.int64)


def _hash(small: Image.Image) -> npt.NDArray[np.uint8]:
    return np.packbits(imagehash.phash(small).hash.reshape(-1))
