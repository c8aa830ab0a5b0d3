"""Photos of a manifest -> arrays to train on; every photo is decoded once."""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from spectraderm.artifacts import sha256
from spectraderm.data.manifest import Row
from spectraderm.errors import DatasetError
from spectraderm.preprocessing import Pixels, Preprocessing, decode
from spectraderm.progress import Track

BATCH = 32
AHEAD = 2
"""Batches that are made while a network is at one."""
A = TypeVar("A")
B = TypeVar("B")
Floats = npt.NDArray[np.float32]


class Decoded:
    """Pixels `uint8[n, size, size, 3]` of all photos, each decoded when it is asked for first.

    They are kept in a memory-mapped file in `cache`, which gets its name when every photo is in it. May be asked by
    several threads at once. Give it row numbers, as to an array.

    Raises:
        DatasetError: when asked for a photo that vanished or changed since the audit.
    """

    def __init__(self, root: Path, rows: Sequence[Row], preprocessing: Preprocessing, cache: Path) -> None:
        self._root, self._rows, self._preprocessing = root, rows, preprocessing
        self._path = cache / f"pixels-{digest([row.sha256 for row in rows], preprocessing)}.npy"
        self._shape = (len(rows), preprocessing.size, preprocessing.size, 3)
        self._lacking, self._lock = np.full(len(rows), not self._path.is_file()), Lock()
        self._pixels: Pixels | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, asked: npt.NDArray[np.int64] | slice) -> Pixels:
        with self._lock:
            pixels = self._opened()
            rows = np.arange(len(self))[asked]
            self._decode(np.unique(rows[self._lacking[rows]]), pixels)
            chosen: Pixels = pixels[asked]
        return chosen

    def all(self, track: Track) -> Pixels:
        """Decode what was not asked for yet, and give all."""
        if self._lacking.any():
            starts = range(0, len(self), BATCH)
            for start in track(starts, "Decoding photos", len(starts)):
                self.__getitem__(slice(start, start + BATCH))
        return self[:]

    def close(self) -> None:
        """Let go of the file, and delete it where it is not whole."""
        self._pixels = None
        if self._lacking.any():
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _opened(self) -> Pixels:
        if self._pixels is None and self._lacking.any():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._pixels = np.lib.format.open_memmap(self._temporary, mode="w+", dtype=np.uint8, shape=self._shape)
        if self._pixels is None:
            self._pixels = np.load(self._path, mmap_mode="r", allow_pickle=False)
        assert self._pixels is not None
        return self._pixels

    def _decode(self, rows: npt.NDArray[np.int64], pixels: Pixels) -> None:
        if not len(rows):
            return
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda row: read_photo(self._root, self._rows[row], self._preprocessing), rows)
            for row, own in zip(rows, read, strict=True):
                pixels[row] = own
        self._lacking[rows] = False
        if not self._lacking.any():
            cast("np.memmap[Any, Any]", pixels).flush()
            self._temporary.replace(self._path)

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(f".{self._path.name}")


Inputs = Pixels | Floats | Decoded
"""Pixels or features of all photos."""


def in_batches(inputs: Inputs, network: Callable[[Tensor], Tensor], batch: int = BATCH) -> Floats:
    """Run a network over all rows of an array, without gradients: `float32[n, ...]`."""
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(np.array(inputs[start : start + batch]))).float().cpu().numpy()
            for start in range(0, len(inputs), batch)
        ]
    result: Floats = np.concatenate(parts)
    return result


def ahead(items: Iterable[A], make: Callable[[A], B]) -> Iterator[B]:
    """Make one thing of each item, some of them before they are asked for, in a thread of its own."""
    coming: deque[Future[B]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for item in items:
            coming.append(pool.submit(make, item))
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def epoch_order(groups: npt.NDArray[np.int64], by_photo: bool, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch shows its photos: every one, or one at random of every photo group."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(groups))
    if by_photo:
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
