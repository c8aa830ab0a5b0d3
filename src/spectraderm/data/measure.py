"""A photo file -> every number that the audit wants of it, decoded once; and `measurements.npz`."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm import artifacts, quality, shortcuts
from spectraderm.data import skin_tone
from spectraderm.data.skin_tone import SkinTone
from spectraderm.errors import SpectraDermError
from spectraderm.hashing import turned_hashes
from spectraderm.preprocessing import MAX_BYTES, decode
from spectraderm.quality import Quality
from spectraderm.reading import read_regular

Floats = npt.NDArray[np.float32]


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

    @property
    def phash(self) -> str:
        """The hash of the photo as it is, as 16 hexadecimal digits."""
        return bytes(self.hashes[0]).hex()


def measure(root: Path, path: str) -> Measured | str:
    """Read, decode and measure one photo; why it can't be read, where it can't."""
    try:
        data = read_regular(root / path, MAX_BYTES)
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


def arrays(measured: Sequence[Measured]) -> dict[str, npt.NDArray[np.generic]]:
    """The content of `measurements.npz`, a row per photo in the manifest's order.

    `hashes` is `uint8[n, 8, 8]` of `turned_hashes`; each shortcut feature, by its name, `float32[n, d]`; each value of
    `Quality`, by its name after `quality_`, `float32[n]`.
    """
    result: dict[str, npt.NDArray[np.generic]] = {"hashes": np.stack([own.hashes for own in measured])}
    result |= {name: np.stack([own.features[name] for own in measured]) for name in shortcuts.NAMES}
    values = np.array([astuple(own.quality) for own in measured], np.float32)
    return result | {f"quality_{field.name}": values[:, i] for i, field in enumerate(fields(Quality))}
