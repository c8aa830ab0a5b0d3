"""Photos of a manifest -> arrays to train on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectraderm.core.files import being_written, sha256
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.core.roots import Root
from spectraderm.data.manifest import Row, open_photo
from spectraderm.images.preprocessing import Pixels, Preprocessing

BATCH = 32
AHEAD = 2
"""Batches that a thread beside the network's makes ahead."""
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Decoded:
    """Pixels `uint8[n, size, size, 3]` of all photos: indexed by row numbers or by a slice, as an array is.

    Photos are decoded when they are indexed, by any thread. Once as many were as there are, or an eighth of that where
    each will be indexed `often`, or when `store` is called, all are decoded into one memory-mapped file, which may be
    larger than memory and serves later trainings, too: it lies in the folder `cache`.

    Raises:
        DatasetError: a photo that is indexed vanished or changed since the audit.
        WriteError: the file can't be written.
    """

    def __init__(
        self, root: Root, rows: Sequence[Row], preprocessing: Preprocessing, cache: Path, *, often: bool = False
    ) -> None:
        self._root, self._rows, self._preprocessing = root, rows, preprocessing
        names = [*(row.sha256 for row in rows), preprocessing.to_hub()]
        self._path = cache / f"pixels-{sha256(json.dumps(names).encode())[:16]}.npy"
        self._shape = (len(rows), preprocessing.size, preprocessing.size, 3)
        self._stored = self._open()
        self._decoded, self._most, self._lock = 0, len(rows) // 8 if often else len(rows), Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: Integers | slice) -> Pixels:
        rows = np.arange(len(self))[places]
        with self._lock:
            self._decoded += len(rows)
            if self._stored is None and self._decoded > self._most:
                self.store()
        if self._stored is not None:
            return self._stored[places]
        photos = [pixels for _, pixels in in_order(self._decode, rows.tolist(), cores())]
        return np.array(photos, np.uint8).reshape(len(rows), *self._shape[1:])

    def store(self, track: Track = no_track) -> None:
        """Decode all photos into the file, unless it is there: it is written whole or not at all."""
        self._stored = self._open()
        if self._stored is None:
            made = in_order(self._decode, range(len(self)), cores())
            with being_written(self._path) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
                np.lib.format.write_array_header_1_0(file, header)
                for _, pixels in track(made, "Decoding photos", len(self)):
                    file.write(pixels.tobytes())
            self._stored = self._open()

    def _open(self) -> Pixels | None:
        """The file, memory-mapped; None where there is none of this size."""
        try:
            pixels: Pixels = np.load(self._path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return pixels if pixels.shape == self._shape and pixels.dtype == np.uint8 else None

    def _decode(self, row: int) -> Pixels:
        return self._preprocessing(open_photo(self._root, self._rows[row]))


Inputs = Pixels | Floats | Decoded
"""Pixels or features of all photos."""


def in_batches(
    inputs: Inputs, network: Callable[[Tensor], Tensor], batch: int = BATCH, rows: Integers | None = None
) -> Floats:
    """Run a network over all rows of an array, or over some, without gradients: `float32[n, ...]`."""
    rows = np.arange(len(inputs)) if rows is None else rows
    chosen = (rows[start : start + batch] for start in range(0, len(rows), batch))
    with torch.inference_mode():
        parts = [network(torch.from_numpy(np.array(inputs[some]))).float().cpu().numpy() for some in chosen]
    result: Floats = np.concatenate(parts)
    return result


def epoch_order(groups: Integers, grouped: bool, seed: int, epoch: int) -> Integers:
    """The order in which an epoch shows its photos: every one, or one at random of every photo group."""
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(groups))
    if grouped:
        _, first = np.unique(groups[order], return_index=True)
        order = order[np.sort(first)]
    return order.astype(np.int64)
