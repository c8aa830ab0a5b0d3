"""Photos of a manifest -> arrays to train on; every photo is decoded once."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from spectraderm.core.artifacts import sha256
from spectraderm.core.errors import DatasetError
from spectraderm.core.progress import Track
from spectraderm.data.manifest import Row
from spectraderm.images.preprocessing import Pixels, Preprocessing, decode
from spectraderm.training.blocks import Blocks

BATCH = 32
AHEAD = 2
"""Batches that a thread of its own makes while a network is at one."""
Floats = npt.NDArray[np.float32]


class Decoded:
    """Pixels `uint8[n, size, size, 3]` of all photos, each decoded when it is asked for first.

    They are kept in a memory-mapped file in `cache`, which may be larger than memory, in blocks with checksums: what a
    killed process had decoded need not be decoded again, and what is damaged is. May be asked by several threads at
    once. Give it row numbers, or a slice, as to an array.

    Args:
        root: where the photos are.
        rows: of the manifest, which photos.
        preprocessing: what makes them pixels.
        cache: where the file is kept.
        writes: whether this process may write it; of several processes at one file only one may.

    Raises:
        DatasetError: when asked for a photo that vanished or changed since the audit.
    """

    def __init__(
        self, root: Path, rows: Sequence[Row], preprocessing: Preprocessing, cache: Path, writes: bool = True
    ) -> None:
        self._root, self._rows, self._preprocessing = root, rows, preprocessing
        path = cache / f"pixels-{digest([row.sha256 for row in rows], preprocessing)}.npy"
        self._blocks = Blocks(path, (len(rows), preprocessing.size, preprocessing.size, 3), writes)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, asked: npt.NDArray[np.int64] | slice) -> Pixels:
        with self._lock:
            rows = np.arange(*asked.indices(len(self))) if isinstance(asked, slice) else asked
            lacking = self._blocks.lacking(rows).tolist()
            if lacking:
                self._decode(lacking)
            return self._blocks.pixels[asked]

    def all(self, track: Track) -> "Decoded":
        """Decode what was not asked for yet."""
        lacking = self._blocks.lacking(np.arange(len(self)))
        starts = (np.unique(lacking // BATCH) * BATCH).tolist()
        for start in track(starts, "Decoding photos", len(starts)) if starts else ():
            self.__getitem__(slice(start, start + BATCH))
        return self

    def close(self) -> None:
        """Let go of the file, and delete it where it is not whole."""
        self._blocks.close()

    def _decode(self, rows: list[int]) -> None:
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda row: read_photo(self._root, self._rows[row], self._preprocessing), rows)
            for row, own in zip(rows, read, strict=True):
                self._blocks.put(row, own)
        self._blocks.close_whole(np.array(rows))


Inputs = Pixels | Floats | Decoded
"""Pixels or features of all photos."""


def in_batches(
    inputs: Inputs,
    network: Callable[[Tensor], Tensor],
    batch: int = BATCH,
    rows: npt.NDArray[np.int64] | None = None,
) -> Floats:
    """Run a network over all rows of an array, or over some, without gradients: `float32[n, ...]`."""
    starts = range(0, len(inputs) if rows is None else len(rows), batch)
    asked = (slice(start, start + batch) if rows is None else rows[start : start + batch] for start in starts)
    with torch.inference_mode():
        parts = [network(torch.from_numpy(np.array(inputs[own]))).float().cpu().numpy() for own in asked]
    result: Floats = np.concatenate(parts)
    return result


def epoch_order(groups: npt.NDArray[np.int64], grouped: bool, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch shows its photos: every one, or one at random of every photo group."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(groups))
    if grouped:
        _, first = np.unique(groups[order], return_index=True)
        order = order[np.sort(first)]
    return order.astype(np.int64)


def read_photo(root: Path, row: Row, preprocessing: Preprocessing) -> Pixels:
    """A photo as the network sees it. Raises `DatasetError` where it vanished or changed since the audit."""
    return preprocessing(open_photo(root, row))


def open_photo(root: Path, row: Row) -> Image.Image:
    """Decode one photo. Raises `DatasetError` where it vanished or changed since the audit."""
    try:
        data = (root / row.path).read_bytes()
    except OSError as error:
        raise DatasetError(f"{row.path} can't be read any more ({error.strerror})", "Run `audit` again") from error
    if sha256(data) != row.sha256:
        raise DatasetError(f"{row.path} was changed since the audit", "Run `audit` again, into a new run folder")
    return decode(data, row.path).image


def digest(names: Sequence[str], preprocessing: Preprocessing) -> str:
    """A short name for what is computed from these photos or weights with this preprocessing."""
    return sha256(json.dumps([*names, preprocessing.to_hub()]).encode())[:16]
