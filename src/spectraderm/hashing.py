"""Perceptual hashes: photos that look alike differ in few of 64 bits. Pure NumPy and Pillow, for serving asks, too.

Method: the DCT hash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"), bit for bit
as the library imagehash computes it, which serving would have to install SciPy and more for.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_DISTANCE = 6
"""Two photos are copies where at most this many of the 64 bits differ, in any turn."""

_SIDE, _KEPT = 32, 8
_ANGLES = np.pi / (2 * _SIDE) * (2 * np.arange(_SIDE) + 1)
_COSINES = 2 * np.cos(np.arange(_KEPT)[:, None] * _ANGLES)
_TURNS: tuple[Image.Transpose | None, ...] = (None, *Image.Transpose)
TURNS = len(_TURNS)

Hashes = npt.NDArray[np.uint8]


def turned_hashes(image: Image.Image) -> Hashes:
    """The hashes of a photo as it is and in the seven other turns and flips: `uint8[8, 8]`, the first as it is."""
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    turned = np.stack([np.asarray(small if turn is None else small.transpose(turn), np.float64) for turn in _TURNS])
    low = np.round(_COSINES @ turned @ _COSINES.T, 6).reshape(TURNS, -1)  # rounding errors are no pattern
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)


def from_hex(hashes: Iterable[str]) -> Hashes:
    """Hashes as the manifest writes them, 16 hexadecimal digits each, as `uint8[n, 8]`."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(-1, 8)


def nearest(hashes: Hashes, known: Hashes) -> int:
    """How many bits a photo in its best turn differs from the nearest of some known photos; 65 where there are none.

    Args:
        hashes: `uint8[8, 8]`, of `turned_hashes`.
        known: `uint8[n, 8]`, each a photo's hash as it is.
    """
    if not len(known):
        return 65
    return int(np.unpackbits(hashes[:, None] ^ known[None], axis=2).sum(axis=2, dtype=np.int64).min())


def nearest_of(hashes: Hashes, known: Hashes) -> npt.NDArray[np.int64]:
    """Which known photo, `uint8[m, 8]`, each of n photos, `uint8[n, 8, 8]`, is nearest to in its best turn."""
    bits = np.unpackbits(known, axis=1).astype(np.float32) * 2 - 1
    found = [_alike(photo, bits).argmax() for photo in hashes]
    return np.array(found, np.int64)


def _alike(photo: Hashes, bits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """How many bits of each known photo agree with a photo in its best turn, less those that don't: `float32[m]`."""
    turns = np.unpackbits(photo, axis=1).astype(np.float32) * 2 - 1
    best: npt.NDArray[np.float32] = (bits @ turns.T).max(axis=1)
    return best
