"""A photo file -> every number that the audit wants of it, decoded once; many photos -> a table of them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.core.reading import read_regular
from spectraderm.data import shortcuts, skin_tone
from spectraderm.data.skin_tone import SkinTone
from spectraderm.images import quality
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.images.preprocessing import MAX_BYTES, decode
from spectraderm.images.quality import Quality

Floats = npt.NDArray[np.float32]
Table = dict[str, npt.NDArray[np.generic]]
"""Columns of n rows each, by name."""

QUALITY = tuple(field.name for field in fields(Quality))
_FEATURE = "shortcut_"
_SHA256_BYTES = 32


@dataclass(frozen=True)
class Measured:
    """What is kept of one photo: no pixels. `hashes` is `uint8[8, 8]`, `features` what shortcuts see of it."""

    sha256: str
    format: str
    width: int
    height: int
    bytes: int
    jpeg_quality: int
    hashes: npt.NDArray[np.uint8]
    features: Mapping[str, Floats]
    quality: Quality
    ita: float | None
    skin_tone: str


def measure(root: Path, path: str) -> Measured | str:
    """Read, decode and measure one photo; why it can't be read, where it can't."""
    data = _read(root, path)
    return data if isinstance(data, str) else _measured(data, path)


def stamp(root: Path, path: str) -> str:
    """All that `measure` depends on: the SHA-256 of the photo's bytes or, where they can't be read, why."""
    data = _read(root, path)
    return data if isinstance(data, str) else artifacts.sha256(data)


def table(root: str, task: Sequence[Sequence[str]]) -> bytes | None:
    """Measure some photos below `root`; None where nothing has changed since they were measured before.

    Args:
        root: the folder of photos.
        task: the photos' paths, and their stamps of then: none of them, where that was never.

    Returns:
        A `Table` as bytes of `.npz`: `stamp` and `reason` (empty where a photo can be used) of every photo, and of
        those that can be used `sha256` `uint8[n, 32]`, `hashes` `uint8[n, 8, 8]`, `quality` `float64[n, 11]`, each
        shortcut feature `float32[n, d]`, its name after `shortcut_`, and `format`, `width`, `height`, `bytes`,
        `jpeg_quality`, `ita` (NaN: none) and `skin_tone`.
    """
    paths, stamps = task
    if stamps and all(stamp(Path(root), path) == known for path, known in zip(paths, stamps, strict=True)):
        return None
    seen = [_stamped(Path(root), path) for path in paths]
    columns: Table = {
        "stamp": np.array([own for own, _ in seen]),
        "reason": np.array([told if isinstance(told, str) else "" for _, told in seen]),
    }
    columns |= _columns([told for _, told in seen if isinstance(told, Measured)])
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **columns)
    return stream.getvalue()


def measurements(columns: Table) -> Table:
    """The content of `measurements.npz`, a row per photo in the manifest's order.

    `hashes` is `uint8[n, 8, 8]` of `turned_hashes`; each shortcut feature, by its name, `float32[n, d]`; each value of
    `Quality`, by its name after `quality_`, `float32[n]`.
    """
    result = {"hashes": columns["hashes"], **{name: columns[_FEATURE + name] for name in shortcuts.NAMES}}
    values = columns["quality"].astype(np.float32)
    return result | {f"quality_{name}": values[:, i] for i, name in enumerate(QUALITY)}


def _read(root: Path, path: str) -> bytes | str:
    try:
        return read_regular(root / path, MAX_BYTES)
    except OSError as error:
        return f"{path} can't be read ({error.strerror})"


def _measured(data: bytes, path: str) -> Measured | str:
    try:
        photo = decode(data, path)
    except (SpectraDermError, OSError) as error:
        return str(error)
    tone = skin_tone.estimate(photo.image)
    facts = shortcuts.file_facts(len(data), photo.format, photo.width, photo.height, photo.jpeg_quality)
    return Measured(
        sha256=artifacts.sha256(data),
        format=photo.format,
        width=photo.width,
        height=photo.height,
        bytes=len(data),
        jpeg_quality=photo.jpeg_quality,
        hashes=turned_hashes(photo.image),
        features=facts | shortcuts.glimpse(photo.image),
        quality=quality.measure(photo.image),
        ita=round(tone.ita, 2) if isinstance(tone, SkinTone) else None,
        skin_tone=tone.group if isinstance(tone, SkinTone) else "",
    )


def _stamped(root: Path, path: str) -> tuple[str, Measured | str]:
    data = _read(root, path)
    return (data, data) if isinstance(data, str) else (artifacts.sha256(data), _measured(data, path))


def _columns(measured: Sequence[Measured]) -> Table:
    """A row per photo; none of them where there is no photo, for then their widths are not known."""
    if not measured:
        return {}
    columns: Table = {
        "sha256": np.frombuffer(bytes.fromhex("".join(own.sha256 for own in measured)), np.uint8).reshape(
            -1, _SHA256_BYTES
        ),
        "hashes": np.stack([own.hashes for own in measured]),
        "quality": np.array([astuple(own.quality) for own in measured], np.float64),
        "ita": np.array([np.nan if own.ita is None else own.ita for own in measured], np.float64),
    }
    columns |= {_FEATURE + name: np.stack([own.features[name] for own in measured]) for name in shortcuts.NAMES}
    plain = ("format", "width", "height", "bytes", "jpeg_quality", "skin_tone")
    return columns | {name: np.array([getattr(own, name) for own in measured]) for name in plain}
