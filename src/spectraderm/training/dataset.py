"""Photos of a manifest -> arrays to train on: pixels decoded once, features of a frozen backbone computed once."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

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
T = TypeVar("T", bound=np.generic)

Floats = npt.NDArray[np.float32]


def read_pixels(root: Path, rows: Sequence[Row], preprocessing: Preprocessing, cache: Path, track: Track) -> Pixels:
    """Decode every photo once into `uint8[n, size, size, 3]`, kept as a memory-mapped file in `cache`.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
    """

    def fill(array: npt.NDArray[np.uint8]) -> None:
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda row: read_photo(root, row, preprocessing), rows)
            for number, pixels in enumerate(track(read, "Decoding photos", len(rows))):
                array[number] = pixels

    key = digest([row.sha256 for row in rows], preprocessing)
    shape = (len(rows), preprocessing.size, preprocessing.size, 3)
    return _cached(cache / f"pixels-{key}.npy", shape, np.uint8, fill)


def compute_features(
    pixels: Pixels, key: str, width: int, network: Callable[[Tensor], Tensor], cache: Path, track: Track
) -> Floats:
    """Features `float32[n, width]` of every photo, kept in `cache` under a key that names photos and weights."""

    def fill(array: npt.NDArray[np.float32]) -> None:
        starts = range(0, len(pixels), BATCH)
        for start in track(starts, "Computing features", len(starts)):
            array[start : start + BATCH] = in_batches(pixels[start : start + BATCH], network)

    return _cached(cache / f"features-{key}.npy", (len(pixels), width), np.float32, fill)


def in_batches(inputs: npt.NDArray[np.uint8] | Floats, network: Callable[[Tensor], Tensor]) -> Floats:
    """Run a network over all rows of an array, without gradients: `float32[n, ...]`."""
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(np.array(inputs[start : start + BATCH]))).float().cpu().numpy()
            for start in range(0, len(inputs), BATCH)
        ]
    result: Floats = np.concatenate(parts)
    return result


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


def _cached(
    path: Path, shape: tuple[int, ...], kind: type[T], fill: Callable[[npt.NDArray[T]], None]
) -> npt.NDArray[T]:
    """Open an array file, made first if it is not there; it gets its name only when it is whole."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=kind, shape=shape)
        fill(array)
        array.flush()
        del array
        temporary.replace(path)
    loaded: npt.NDArray[T] = np.load(path, mmap_mode="r", allow_pickle=False)
    return loaded
