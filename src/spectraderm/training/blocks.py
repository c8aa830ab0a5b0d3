"""A file of photos' pixels that may be larger than memory, in blocks that are known to be whole by their checksums.

The checksums are in a small file beside it, written after a block is; a block without one is not there. A block is
checked when it is first asked for.
"""

import contextlib
import hashlib
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import being_written, told
from spectraderm.images.preprocessing import Pixels

BLOCK = 512
"""Photos in a block: what a kill may cost, some seconds of decoding."""


class Blocks:
    """Pixels `uint8[shape]` in the file `path`, which lack until they are `put` there.

    Without `writes` the file is only read, and what is put is kept in memory.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], writes: bool) -> None:
        self._path, self._shape, self._writes = path, shape, writes
        self._sums_path = path.with_suffix(".json")
        self._sums: dict[str, str] = {}
        self._lacking = np.ones(shape[0], bool)
        self._checked: set[int] = set()
        self._file: BinaryIO | None = None
        self._pixels: np.memmap[tuple[int, ...], np.dtype[np.uint8]] | None = None

    @property
    def pixels(self) -> Pixels:
        """All of them; those that lack are of no use."""
        self._open()
        assert self._pixels is not None
        return self._pixels

    def lacking(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which of these rows lack, sorted; blocks that are damaged do. Raises `WriteError`."""
        self._open()
        for block in np.unique(rows // BLOCK).tolist():
            self._check(block)
        return np.unique(rows[self._lacking[rows]])

    def put(self, row: int, pixels: Pixels) -> None:
        """Set one row's pixels. Raises `WriteError`."""
        if self._file is None:
            self.pixels[row] = pixels
        else:  # through the file, for a memory map has no way to say that the disk is full but to kill the process
            assert self._pixels is not None
            with told(self._path):
                self._file.seek(self._pixels.offset + row * pixels.nbytes)
                self._file.write(pixels.tobytes())
                self._file.flush()
        self._lacking[row] = False

    def close_whole(self, rows: npt.NDArray[np.int64]) -> None:
        """Write the checksums of those blocks that have become whole by these rows."""
        found = {str(block): self._sum(block) for block in np.unique(rows // BLOCK).tolist() if self._is_whole(block)}
        if found:
            self._sums |= found
            self._checked |= set(map(int, found))
            self._write_sums()

    def close(self) -> None:
        """Let go of the file; delete it where it is not whole."""
        used, self._pixels = self._pixels is not None, None
        if self._file:
            self._file.close()
            self._file = None
        if used and self._writes and self._lacking.any():
            for path in (self._path, self._sums_path):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _open(self) -> None:
        if self._pixels is not None:
            return
        if not self._read() and self._writes:
            self._make()
            self._read()
        if self._pixels is None:
            raise RunFolderError(f"{self._path} can't be read", "Look whether all processes share the run folder")
        for block in map(int, self._sums):
            self._lacking[self._span(block)] = False
        if self._writes:
            with told(self._path):
                self._file = self._path.open("r+b")

    def _read(self) -> bool:
        """Map the file and read its checksums, if it is there and of this shape."""
        try:
            pixels = np.load(self._path, mmap_mode="r" if self._writes else "c", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            return False
        self._pixels = pixels
        with contextlib.suppress(RunFolderError):
            known = {str(block) for block in range(-(-self._shape[0] // BLOCK))}
            said = artifacts.read_json(self._sums_path, "")
            if said.get("block") == BLOCK and isinstance(sums := said.get("sha256"), dict):
                self._sums = {key: value for key, value in sums.items() if key in known}
        return True

    def _make(self) -> None:
        """Make the file, with nothing in it."""
        self._sums_path.unlink(missing_ok=True)
        described = {"descr": "|u1", "fortran_order": False, "shape": self._shape}
        with being_written(self._path) as file:
            np.lib.format.write_array_header_1_0(file, described)
            file.truncate(file.tell() + math.prod(self._shape))

    def _check(self, block: int) -> None:
        """Compare a block, once, with its checksum: what differs lacks."""
        if block in self._checked or str(block) not in self._sums:
            return
        if self._sum(block) == self._sums[str(block)]:
            self._checked.add(block)
        else:
            del self._sums[str(block)]
            self._lacking[self._span(block)] = True

    def _is_whole(self, block: int) -> bool:
        return str(block) not in self._sums and not self._lacking[self._span(block)].any()

    def _sum(self, block: int) -> str:
        return hashlib.sha256(self.pixels[self._span(block)].data).hexdigest()

    def _span(self, block: int) -> slice:
        return slice(block * BLOCK, (block + 1) * BLOCK)

    def _write_sums(self) -> None:
        if self._writes:
            artifacts.write_json(self._sums_path, {"block": BLOCK, "sha256": self._sums})
