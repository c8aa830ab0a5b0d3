"""Features that were computed once, on disk for other runs, in files of some hundred photos.

A file is written whole and renamed, so that a killed writer leaves nothing that is read, and several may write at once.
One that is damaged is passed over. Whatever can't be read or written is computed again.
"""

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spectraderm.core.cache import kept_folder
from spectraderm.core.files import sha256, sweep, write_arrays
from spectraderm.training.dataset import Floats

_DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RuntimeError, struct.error, zlib.error)


def shared_folder() -> Path | None:
    """The folder for features of all runs, as `kept_folder` has it.

    What killed processes left half-written in it is removed.
    """
    folder = kept_folder("features")
    if folder:
        sweep(folder, older_than=86_400)
    return folder


@dataclass(frozen=True)
class Store:
    """Features `float32[width]` of photos, by the SHA-256 of their files, all computed in the same way.

    Each takes 32 + 4 * `width` bytes: 12 KB for open-nsfw-thin, 24 KB for a full ResNet-50. Nothing is ever deleted.
    """

    folder: Path
    width: int

    @classmethod
    def of(cls, root: Path, facts: Sequence[str], width: int) -> "Store":
        """The store below `root` for what these facts together tell how to compute."""
        return cls(root / sha256(json.dumps(list(facts)).encode())[:32], width)

    def read(self, wanted: Set[str]) -> Iterator[tuple[list[str], Floats]]:
        """Files that have some of these photos: which photos they have, n of them, and features `float32[n, width]`."""
        left = set(wanted)
        for path in sorted(self.folder.glob("*.npz")):
            if not left:
                return
            try:
                with np.load(path, allow_pickle=False) as file:
                    photos = [bytes(name).hex() for name in file["photos"]]
                    if left.isdisjoint(photos):
                        continue
                    features: Floats = file["features"]  # compared with its CRC-32
            except (*_DAMAGED, zipfile.BadZipFile):
                continue  # or deleted a moment ago
            if features.shape == (len(photos), self.width) and features.dtype == np.float32:
                left.difference_update(photos)
                yield photos, features

    def write(self, photos: Sequence[str], features: Floats) -> None:
        """Keep features `float32[n, width]` of these photos; where that fails, they are not kept."""
        names = np.frombuffer(bytes.fromhex("".join(photos)), np.uint8).reshape(len(photos), -1)
        name = f"{sha256(names.tobytes() + features.tobytes())}.npz"
        with contextlib.suppress(OSError):
            write_arrays(self.folder / name, photos=names, features=features)
