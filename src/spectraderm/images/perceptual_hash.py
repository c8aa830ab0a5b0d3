"""Perceptual hashes: photos that look alike differ in few of 64 bits. Pure NumPy and Pillow, for serving asks, too.

Method: the DCT hash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), as the library
imagehash computes it, but in whole numbers: every processor, and the browser, decides each bit alike.
"""

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_DISTANCE = 6
"""Two photos are copies where at most this many of the 64 bits differ, in any turn."""

_SIDE, _KEPT = 32, 8
_COSINES = np.array(
    [
        [round(2**20 * math.cos(math.pi / (2 * _SIDE) * wave * (2 * place + 1))) for place in range(_SIDE)]
        for wave in range(_KEPT)
    ]
)
"""In units of 2^-20, `int64[8, 32]`: twice multiplied with grey levels and summed, they stay below 2^59."""
_SIGNS = np.tile((1, -1), _KEPT // 2)
_ENOUGH = 512
"""A photo is first averaged over blocks where that leaves its shorter side at least so long: a tenth of the time."""
TURNS = 8

Hashes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


def turned_hashes(image: Image.Image) -> Hashes:
    """The hashes of a photo as it is and in the seven other turns and flips: `uint8[8, 8]`, the first as it is.

    A flip turns the sign of every second frequency, and a transposed photo has transposed frequencies: one transform
    is enough for all.
    """
    factor = max(1, min(image.size) // _ENOUGH)
    averaged = image.reduce(factor) if factor > 1 else image
    small = averaged.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = _COSINES @ np.asarray(small, np.int64) @ _COSINES.T
    across, down = low * _SIGNS, low * _SIGNS[:, None]
    both = across * _SIGNS[:, None]
    turned = np.stack((low, across, down, across.T, both, down.T, low.T, both.T)).reshape(TURNS, -1)
    twice_median = np.sort(turned, axis=1)[:, 31:33].sum(axis=1, keepdims=True)
    return np.packbits(2 * turned > twice_median, axis=1)


def from_hex(hashes: Iterable[str]) -> Hashes:
    """Hashes as the manifest writes them, 16 hexadecimal digits each, as `uint8[n, 8]`."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 8)


def nearest(hashes: Hashes, known: Hashes) -> int:
    """How many bits a photo in its best turn differs from the nearest of some known photos; 65 where there are none.

    `hashes` are `uint8[8, 8]` of `turned_hashes`, `known` `uint8[n, 8]`, each a photo's hash as it is.
    """
    return int(distances(words(hashes)[:, None], words(known)).min(initial=65))


def nearest_of(hashes: Hashes, known: Hashes) -> npt.NDArray[np.int64]:
    """Which known photo, `uint8[m, 8]`, each of n photos, `uint8[n, 8, 8]`, is nearest to in its best turn."""
    found = [distances(words(photo)[:, None], words(known)).min(axis=0).argmin() for photo in hashes]
    return np.array(found, np.int64)


def words(hashes: Hashes) -> Words:
    """Hashes `uint8[n, 8]`, each as one number of 64 bits, `uint64[n]`."""
    return np.ascontiguousarray(hashes).view(np.uint64).ravel()


def distances(one: Words, other: Words) -> Words:
    """In how many bits `words` differ, one by one: counted in pairs, in fours, in bytes, then summed by a product."""
    pairs, fours, bytes_, ones = (np.uint64(int(digits * 8, 16)) for digits in ("55", "33", "0f", "01"))
    bits = one ^ other
    bits = bits - (bits >> np.uint64(1) & pairs)
    bits = (bits & fours) + (bits >> np.uint64(2) & fours)
    bits = bits + (bits >> np.uint64(4)) & bytes_
    return bits * ones >> np.uint64(56)
