"""A folder of photos -> those of them that can be used, measured, and why the others can't be."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import DatasetError
from spectraderm.core.progress import Track
from spectraderm.data import manifest
from spectraderm.data.folders import Found, walk
from spectraderm.data.measure_cache import Engine, measure_all
from spectraderm.data.measurements import Table


@dataclass(frozen=True)
class Photos:
    """All that was found and measured: of the photos that can be used (path, label, given split), of the others why."""

    found: Found
    usable: list[tuple[str, str, str]]
    columns: Table
    unreadable: list[dict[str, str]]
    metadata: dict[str, dict[str, str]]

    @property
    def hashes(self) -> npt.NDArray[np.uint8]:
        """`uint8[n, 8, 8]`, of `turned_hashes`."""
        return self.columns["hashes"].astype(np.uint8, copy=False)


def read(root: Path, kept: Path, track: Track, engine: Engine, address: str) -> Photos:
    """Find and measure all photos of a folder.

    Args:
        root: the folder.
        kept: where blocks of measurements are kept meanwhile; see `measure_all`.
        track: how progress is shown.
        engine: what reads the photos.
        address: of a Ray cluster.

    Raises:
        DatasetError: see `folders.walk`; or a class has no photo that can be read.
    """
    found = walk(root)
    paths = [path for path, _, _ in found.photos]
    metadata = manifest.read_metadata(root, paths)
    columns, reasons = measure_all(root, paths, kept, track, engine, address)
    _check_classes(root, found, reasons)
    usable = [photo for photo, reason in zip(found.photos, reasons, strict=True) if not reason]
    unreadable = [{"path": path, "reason": why} for path, why in zip(paths, reasons, strict=True) if why]
    return Photos(found, usable, columns, unreadable, metadata)


def _check_classes(root: Path, found: Found, reasons: Sequence[str]) -> None:
    """Raise `DatasetError` for a class without any."""
    there = {label for (_, label, _), reason in zip(found.photos, reasons, strict=True) if not reason}
    for label in sorted({label for _, label, _ in found.photos} - there):
        first = next(why for (_, own, _), why in zip(found.photos, reasons, strict=True) if own == label)
        raise DatasetError(f"{root}: no photo of class {label!r} can be read", f"First: {first}")
