"""Features that were computed once, on disk for other runs: files of some hundred photos, each named by its SHA-256.

A file is written whole and renamed, so that a killed writer leaves nothing that is read, and several may write at once.
One whose bytes are not those its name tells is passed over. Whatever can't be read or written is computed again.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spectraderm.core.files import cache_folder, sha256, sweep, write_bytes
from spectraderm.training.dataset import Floats

_SUFFIX = ".features"
Names = npt.NDArray[np.uint8]


def shared_folder() -> Path | None:
    """The user's folder for features of all runs, or None where nothing can be written to it.

    What killed processes left half-written in it is removed.
    """
    above = cache_folder()
    if above is None:
        return None
    folder = above / "features"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return None
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
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if not left:
                return
            try:
                photos, features = self._read(path, left)
            except (OSError, ValueError, TypeError, EOFError, MemoryError):
                continue  # damaged, or deleted a moment ago
            left.difference_update(photos)
            yield photos, features

    def write(self, photos: Sequence[str], features: Floats) -> None:
        """Keep features `float32[n, width]` of these photos; where that fails, they are not kept."""
        stream = io.BytesIO()
        names: Names = np.frombuffer(bytes.fromhex("".join(photos)), np.uint8).reshape(len(photos), -1)
        np.save(stream, names, allow_pickle=False)
        np.save(stream, features, allow_pickle=False)
        data = stream.getvalue()
        with contextlib.suppress(OSError):
            write_bytes(self.folder / f"{sha256(data)}{_SUFFIX}", data)

    def _read(self, path: Path, wanted: set[str]) -> tuple[list[str], Floats]:
        """A file's photos and features; none where it has nothing that is wanted. Raises where it is damaged."""
        with path.open("rb") as file:
            if wanted.isdisjoint(_photos(file)):
                return [], np.empty((0, self.width), np.float32)
        data = path.read_bytes()
        if sha256(data) != path.name.removesuffix(_SUFFIX):
            raise ValueError("other bytes than were written")
        stream = io.BytesIO(data)
        photos = _photos(stream)
        features: Floats = np.load(stream, allow_pickle=False)
        if features.shape != (len(photos), self.width) or features.dtype != np.float32:
            raise ValueError("of another shape")
        return photos, features


def _photos(file: BinaryIO) -> list[str]:
    """The SHA-256 of the photos that a file has the features of: they stand first in it."""
    return [bytes(name).hex() for name in np.load(file, allow_pickle=False)]
