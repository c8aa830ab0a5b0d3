"""Which photos are crops, zooms or turned pieces of others, which a hash of the whole photo misses.

The door of faiss and OpenCV. Candidates are neighbours in a model's features; a pair counts where keypoints and pixels
agree. Keypoints are SIFT (Lowe 2004, "Distinctive image features from scale-invariant keypoints") and must agree on one
turn, scale, shear and shift, also mirrored; then the pixels laid over each other must agree, too. Tuned to take no two
photos for one wrongly rather than to find all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import faiss
import numpy as np
import numpy.typing as npt

from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.data.measurements import Floats, Grey, Store
from spectraderm.images.quality import deviation

NEIGHBOURS = 10
"""How many neighbours of a photo are looked at."""

_EXACT = 20_000  # photos up to which all are compared with all
_CACHED = 256  # photos whose keypoints are kept in memory, 34 kB each
_THREADS = 4
_KEYPOINTS = 250  # kept of a photo
_CONTRAST = 0.015  # below which a place is no keypoint: less than OpenCV's 0.04, for skin has little
_RATIO = 0.8  # Lowe's: the best match must be that much nearer than the second best
_MATCHES, _SHARE = 12, 0.4  # that agree on one placement: how many at least, and of all matches which share
_ZOOM, _STRETCH = 4.0, 1.6  # a crop is at most so much larger or smaller, and one way more than the other
_OVERLAP, _SPREAD = 0.35, 0.1  # of the smaller photo; how far the agreeing points spread, in sides of the overlap
_WHOLE, _TILE, _TILES = 0.9, 0.6, 0.8  # correlation of the overlap, of a tile of it, and how many tiles reach that
_UNIT = 2.0**24  # of which root SIFT is whole multiples
_GRID, _FLAT = 5, 2.0  # tiles a side of the overlap; deviation below which a tile shows nothing to compare

Pairs = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]
GreyOf = Callable[[int], Grey]
"""A photo by its number, grey, `uint8[h, w]`; called from several threads."""

cv2.setNumThreads(1)  # photos are what is done side by side


@dataclass(frozen=True)
class Keypoints:
    """Places of a photo of 320 pixels: `points` float32[n, 2] (x, y), `descriptors` uint8[n, 128], its `size`."""

    points: Floats
    descriptors: npt.NDArray[np.uint8]
    size: tuple[int, int]

    def to_bytes(self) -> bytes:
        """What `from_bytes` makes them of."""
        return np.array(self.size, np.int32).tobytes() + self.points.tobytes() + self.descriptors.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Keypoints":
        """What `to_bytes` gave."""
        width, height = np.frombuffer(data, np.int32, 2).tolist()
        count = (len(data) - 8) // (8 + 128)
        points = np.frombuffer(data, np.float32, 2 * count, 8).reshape(-1, 2)
        return cls(points, np.frombuffer(data, np.uint8, offset=8 + 8 * count).reshape(-1, 128), (width, height))

    def mirrored(self) -> "Keypoints":
        """Those of the mirrored photo; its descriptors have the same histograms, in rows from below."""
        turned = self.descriptors.reshape(-1, 4, 4, 8)[:, ::-1][..., -np.arange(8) % 8]
        return Keypoints(self.points * (-1, 1) + (self.size[0] - 1, 0), turned.reshape(-1, 128), self.size)


def find_crops(features: Floats, grey: GreyOf, copies: Pairs, store: Store, track: Track = no_track) -> Pairs:
    """Pairs of photos of which one is a crop or zoom of the other, `int64[m, 2]`; one photo a group is looked at.

    `features` are a model's, `float32[n, c]`; `copies` are the groups of known copies, `int64[n]`, of `photo_groups`;
    the `store` is for keypoints.
    """
    _, photos = np.unique(copies, return_index=True)
    unit = features[photos]
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    pairs = crop_pairs(grey, np.sort(photos[candidates(unit)], axis=1), store, track)
    return pairs.astype(np.int64).reshape(-1, 2)


def candidates(features: Floats) -> Pairs:
    """Each of n photos with its nearest neighbours by cosine: `int64[m, 2]`, smaller number first, sorted.

    Exact up to 20,000 photos; above, a graph (Malkov & Yashunin 2016, HNSW).
    """
    count, width = features.shape
    if count < 2:
        return np.empty((0, 2), np.int64)
    index = faiss.IndexFlatIP(width) if count <= _EXACT else faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
    index.add(features)
    _, near = index.search(features, min(NEIGHBOURS + 1, count))
    pairs = np.stack([np.repeat(np.arange(count), near.shape[1]), near.reshape(-1)], axis=1)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] >= 0)]
    return np.unique(np.sort(pairs, axis=1), axis=0).astype(np.int64)


def crop_pairs(grey: GreyOf, pairs: Pairs, store: Store, track: Track = no_track) -> Pairs:
    """Of candidate pairs `int64[m, 2]` those of which one photo is a crop or zoom of the other.

    Keypoints take longest to find: each photo's are found once, and then lie in the `store`.
    """
    places: dict[int, int] = {}

    @lru_cache(_CACHED)
    def keypoints(number: int) -> Keypoints:
        if number in places:
            return Keypoints.from_bytes(store[places[number]])
        found = describe(grey(number))
        places[number] = store.append(found.to_bytes())
        return found

    def same(pair: tuple[int, int]) -> bool:
        placed = placement(keypoints(pair[0]), keypoints(pair[1]))
        return placed is not None and agree(grey(pair[0]), grey(pair[1]), placed)

    results = in_order(same, ((int(a), int(b)) for a, b in pairs), _THREADS)
    kept = [found for _, found in track(results, "Looking for crops", len(pairs))]
    crops: Pairs = pairs[np.array(kept, bool)]
    return crops


def describe(photo: Grey) -> Keypoints:
    """The strongest keypoints of a photo `uint8[h, w]`."""
    sift = cv2.SIFT.create(nfeatures=_KEYPOINTS, contrastThreshold=_CONTRAST)
    places, descriptors = sift.detectAndCompute(photo, None)
    points = np.array([place.pt for place in places], np.float32).reshape(-1, 2)
    histograms = np.empty((0, 128), np.uint8) if descriptors is None else descriptors.astype(np.uint8)
    return Keypoints(points, histograms, (photo.shape[1], photo.shape[0]))


def placement(one: Keypoints, other: Keypoints) -> Matrix | None:
    """Where the other photo lies on the one, `float64[2, 3]` from its (x, y); `None` where keypoints don't say so."""
    plain = _place(one, other)
    if plain is not None:
        return plain
    mirrored = _place(one, other.mirrored())
    return None if mirrored is None else mirrored @ np.array([[-1.0, 0, other.size[0] - 1], [0, 1, 0], [0, 0, 1]])


def agree(one: Grey, other: Grey, placed: Matrix) -> bool:
    """Whether the pixels of two photos agree where they lie over each other: as a whole, and tile by tile."""
    zoom = float(np.sqrt(abs(placed[0, 0] * placed[1, 1] - placed[0, 1] * placed[1, 0])))
    size = (one.shape[1], one.shape[0])
    # the other photo laid over the one, both as sharp as the less sharp of them, and where it covers it: all [h, w]
    smooth = cv2.GaussianBlur(other, (0, 0), max(0.3, 0.5 / zoom))
    laid = cv2.GaussianBlur(cv2.warpAffine(smooth, placed, size, borderMode=cv2.BORDER_REPLICATE), (0, 0), 1.5)
    base = np.asarray(cv2.GaussianBlur(one, (0, 0), 1.5 * max(1.0, zoom)), np.uint8)
    inside = cv2.warpAffine(np.full(other.shape, 255, np.uint8), placed, size) == 255
    if _correlation(base[inside], laid[inside]) < _WHOLE:
        return False
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    tiles = [
        _correlation(base[place][inside[place]], laid[place][inside[place]])
        for top in np.array_split(rows, _GRID)
        for left in np.array_split(columns, _GRID)
        for place in [np.ix_(top, left)]
        if inside[place].mean() > 0.6 and deviation(base[place]) > _FLAT
    ]
    return len(tiles) >= _GRID and sum(tile >= _TILE for tile in tiles) >= _TILES * len(tiles)


def _correlation(a: Grey, b: Grey) -> float:
    """Pearson's, from sums of whole numbers, which no order of adding changes; 0 where nothing can be said."""
    if a.size < 16:
        return 0.0
    x, y, count = a.astype(np.int64), b.astype(np.int64), a.size
    total_x, total_y = int(x.sum()), int(y.sum())
    spread_x, spread_y = count * int((x * x).sum()) - total_x**2, count * int((y * y).sum()) - total_y**2
    return (count * int((x * y).sum()) - total_x * total_y) / max(1.0, math.sqrt(spread_x * spread_y))


def _place(one: Keypoints, other: Keypoints) -> Matrix | None:
    """Where the other photo lies on the one, by keypoints that match; None where too few agree on a likely place."""
    at, of = _matches(one, other)
    if len(at) < _MATCHES:
        return None
    affine, chosen = cv2.estimateAffine2D(of, at, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    if affine is None:
        return None
    placed, good = np.asarray(affine, np.float64), at[chosen.reshape(-1) == 1]
    long, short = np.linalg.svd(placed[:, :2], compute_uv=False).tolist()
    believable = 1 / _ZOOM <= short <= long <= min(_ZOOM, _STRETCH * short)
    many = len(good) >= max(_MATCHES, _SHARE * len(at))
    return placed if believable and many and _spread(one, other, placed, good) else None


def _spread(one: Keypoints, other: Keypoints, placed: Matrix, good: Floats) -> bool:
    """Whether the photos overlap enough, and the places that agree don't crowd in a corner of it, as a logo's do."""
    corners = [np.array([(0, 0), (w, 0), (w, h), (0, h)], np.float32) for w, h in (one.size, other.size)]
    corners[1] = (corners[1] @ placed[:, :2].T + placed[:, 2]).astype(np.float32)
    overlap, _ = cv2.intersectConvexConvex(corners[0], corners[1])
    narrow = float(np.linalg.eigvalsh(np.cov(good.T))[0])
    enough = overlap >= _OVERLAP * min(cv2.contourArea(corner) for corner in corners)
    return enough and narrow >= _SPREAD**2 * overlap


def _matches(one: Keypoints, other: Keypoints) -> tuple[Floats, Floats]:
    """Places in both, `float32[m, 2]`, that are each other's best match, and much better than the second best."""
    if min(len(one.points), len(other.points)) < _MATCHES:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    # root SIFT (Arandjelovic & Zisserman 2012): the root of a histogram that sums to 1, in whole units of 2^-24
    sums = [np.maximum(own.descriptors.sum(axis=1, keepdims=True, dtype=np.int64), 1) for own in (one, other)]
    a, b = (np.rint(_UNIT * np.sqrt(own.descriptors / whole)) for own, whole in zip((one, other), sums, strict=True))
    # sums of products of whole numbers, below 2^49: exact in any order; numpy's product has threads of its own
    alike = np.asarray(cv2.gemm(a, b, 1, np.empty((0, 0)), 0, flags=cv2.GEMM_2_T)) / _UNIT**2
    row, best, back = np.arange(len(a)), alike.argmax(axis=1), alike.argmax(axis=0)
    first = alike[row, best]
    alike[row, best] = -1
    good = (back[best] == row) & (1 - first < _RATIO**2 * (1 - alike.max(axis=1)))
    return one.points[good], other.points[best[good]]
