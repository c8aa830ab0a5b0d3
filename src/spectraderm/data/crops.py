"""Which photos are crops, zooms or turned pieces of others, which a hash of the whole photo misses. faiss's door.

Knows nothing of folders or labels. Candidates are neighbours in the features of the model that comes with the package;
a pair counts where keypoints and pixels agree (`keypoints`).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import faiss
import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm.core.progress import Track, no_track
from spectraderm.data.keypoints import agree, describe, grey, placement
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import open_model
from spectraderm.inference.runtimes import ONNXRUNTIME

NEIGHBOURS = 10
"""How many neighbours of a photo are looked at."""

_EXACT = 20_000  # photos up to which all are compared with all
_CACHED = 8192  # photos whose keypoints are remembered, 33 kB each
_BATCH, _THREADS = 16, 4

Floats = npt.NDArray[np.float32]
Pairs = npt.NDArray[np.int64]
Read = Callable[[int], Image.Image]
"""Opens a photo by its number, upright RGB; called from several threads."""


def find_crops(read: Read, copies: Pairs, track: Track = no_track) -> Pairs:
    """Pairs of photos of which one is a crop or zoom of the other, `int64[m, 2]`; one photo a group is looked at.

    Args:
        read: opens a photo by its number.
        copies: `int64[n]`, the photo's group of known copies, numbered from 0, as `photo_groups` gives it.
        track: told of the photos read and the pairs compared.
    """
    _, photos = np.unique(copies, return_index=True)
    features = embed(lambda number: read(int(photos[number])), len(photos), track)
    pairs = crop_pairs(lambda number: read(int(photos[number])), candidates(features), track)
    return np.sort(photos[pairs], axis=1).astype(np.int64).reshape(-1, 2)


def embed(read: Read, count: int, track: Track = no_track) -> Floats:
    """Features of `count` photos by the model that comes with the package, `float32[count, c]`, each of length 1."""
    folder = open_model()
    engine = Engine(folder.network, runtime=ONNXRUNTIME)
    prepare = folder.preprocessing
    found: list[Floats] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in track(range(0, count, _BATCH), "Embedding photos", -(-count // _BATCH)):
            batch = range(start, min(start + _BATCH, count))
            found.append(engine(np.stack(list(pool.map(lambda number: prepare(read(number)), batch)))).features)
    features = np.concatenate(found) if found else np.empty((0, 1), np.float32)
    unit: Floats = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return unit


def candidates(features: Floats, neighbours: int = NEIGHBOURS) -> Pairs:
    """Each of n photos with its nearest neighbours by cosine: `int64[m, 2]`, smaller number first, sorted.

    Exact up to 20,000 photos; above, a graph (Malkov & Yashunin 2016, HNSW).
    """
    count, width = features.shape
    if count < 2:
        return np.empty((0, 2), np.int64)
    index = faiss.IndexFlatIP(width) if count <= _EXACT else faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
    index.add(features)
    _, near = index.search(features, min(neighbours + 1, count))
    pairs = np.stack([np.repeat(np.arange(count), near.shape[1]), near.reshape(-1)], axis=1)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] >= 0)]
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)


def crop_pairs(read: Read, pairs: Pairs, track: Track = no_track) -> Pairs:
    """Of candidate pairs `int64[m, 2]` those of which one photo is a crop or zoom of the other.

    Photos are opened when their first pair comes; 8,192 are remembered by their keypoints.
    """
    keypoints = lru_cache(_CACHED)(lambda number: describe(grey(read(number))))

    def same(pair: tuple[int, int]) -> bool:
        placed = placement(keypoints(pair[0]), keypoints(pair[1]))
        return placed is not None and agree(grey(read(pair[0])), grey(read(pair[1])), placed)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(same, [(int(a), int(b)) for a, b in pairs])
        kept = np.array(list(track(found, "Looking for crops", len(pairs))), bool)
    found_pairs: Pairs = pairs[kept]
    return found_pairs
