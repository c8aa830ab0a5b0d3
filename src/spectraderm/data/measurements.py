"""All that an audit keeps of each photo, measured in one pass that reads and decodes every file once.

A photo becomes one `RECORD` of numbers and, for the later stages, small views in its place: a thumbnail and, where
crops are looked for, a grey photo and a model's features. Photos that can't be read become reasons. Few photos are
measured by threads and many by processes, for these take seconds to start.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed
from PIL import Image

from spectraderm.core.errors import SpectraDermError, WriteError
from spectraderm.core.files import read_regular, sha256
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track
from spectraderm.core.roots import Root
from spectraderm.data import skin_tone
from spectraderm.images import quality
from spectraderm.images.decoding import FORMATS, MAX_BYTES, decode
from spectraderm.images.perceptual_hash import MAX_DISTANCE, nearest, turned_hashes
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.images.quality import Quality
from spectraderm.images.thumbnails import data_url

MANY = 3000
"""From so many photos on they are measured by processes."""
THUMBNAIL_SIDE, GREY_SIDE = 176, 320
"""Longer side in pixels of a photo as `gallery.html` shows it, and as crops are looked for in it."""
QUALITY = tuple(field.name for field in fields(Quality))

Floats = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]
Table = npt.NDArray[np.void]
"""Photos, a `RECORD` each: `[n]`, or `[]` one."""

_FRAME = 40  # pixels a side, of which 4 are the outer tenth
_GLANCE = {"mean_colour": 3, "border": 24, "pixels_8x8": 192}
RECORD = np.dtype(
    [
        ("sha256", np.uint8, (32,)),
        ("format", "U4"),
        *((name, np.int64) for name in ("width", "height", "bytes", "jpeg_quality")),
        ("hashes", np.uint8, (8, 8)),
        ("quality", np.float64, (len(QUALITY),)),
        ("ita", np.float64),
        ("skin_tone", "U12"),
        *((name, np.float32, (width,)) for name, width in _GLANCE.items()),
    ]
)
"""One photo: `hashes` of `turned_hashes`, `quality` in the order of `QUALITY`, `ita` in degrees (NaN: none), and what
`glance` gives."""

_ROUND, _LONG_ROUND = 256, 4096  # photos whose views are in memory at once, with a model's input and without
_TASK, _BATCH = 8, 4  # photos that one process takes at a time, and whose features are computed at once
_COMPARED = 8192  # photos before one that are looked through for one that it is a copy of


class Embedding(NamedTuple):
    """A model as crops are looked for by: how its input is made, and pixels uint8[n, s, s, 3] -> features [n, c].

    The latter is called by as many threads at once as there are cores.
    """

    preprocessing: Preprocessing
    features: Callable[[Pixels], Floats]


class Measured(NamedTuple):
    """One photo: its `RECORD`, its thumbnail as a data URL, and for an `Embedding` its grey pixels and its input."""

    record: Table
    thumbnail: str
    grey: Grey | None = None
    pixels: Pixels | None = None


class Store:
    """Byte strings by number, too many for memory, in a file without a name that goes with this process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._ends, self._lock = folder, [0], Lock()
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with the store

    def append(self, data: bytes) -> int:
        """Keep one more, from any thread; its number, from 0 on. Raises `WriteError`."""
        with self._lock:
            try:
                self._file.seek(self._ends[-1])
                self._file.write(data)
            except OSError as error:
                raise WriteError(self._folder, error) from error
            self._ends.append(self._ends[-1] + len(data))
            return len(self._ends) - 2

    def __getitem__(self, number: int) -> bytes:
        """The bytes that were appended as that number; from any thread."""
        with self._lock:
            self._file.seek(self._ends[number])
            return self._file.read(self._ends[number + 1] - self._ends[number])


@dataclass(frozen=True)
class Photos:
    """Photos that were measured. `reasons` says of every path why it can't be read, or nothing where it can.

    The others are of those that can be read, in order: `table`, thumbnails, and for an `Embedding` grey pixels and
    `features`, `float32[n, c]`; zeros for a photo whose hash says that it is a copy of one before it.
    """

    reasons: list[str]
    table: Table
    thumbnails: Store
    greys: Store
    features: Floats | None

    def thumbnail(self, number: int) -> str:
        """One of these photos as a small JPEG, a data URL."""
        return self.thumbnails[number].decode()

    def grey(self, number: int) -> Grey:
        """One of these photos as crops are looked for in it, `uint8[h, w]`."""
        data = self.greys[number]
        return np.frombuffer(data, np.uint8, offset=2).reshape(int.from_bytes(data[:2], "big"), -1)


def measure_all(
    root: Root, paths: Sequence[str], folder: Path, track: Track, embedding: Embedding | None = None
) -> Photos:
    """Measure photos below `root`; what is too large for memory is kept in nameless files in `folder` meanwhile.

    A photo that can't be read, or that kills the process that reads it, becomes a reason and costs no other.
    """
    table, reasons = np.zeros(len(paths), RECORD), [""] * len(paths)
    photos = Photos(reasons, table, Store(folder), Store(folder), None)
    hashes, readable = np.zeros((len(paths), 8), np.uint8), 0

    def batches() -> Iterator[list[tuple[int, Pixels]]]:
        """What a model has to see, with the numbers of its photos; all the rest is kept on the way."""
        nonlocal readable
        waiting: list[tuple[int, Pixels]] = []
        measured = _in_rounds(root, paths, embedding.preprocessing if embedding else None)
        for number, one in enumerate(track(measured, "Reading photos", len(paths))):
            if isinstance(one, str):
                reasons[number] = one
                continue
            table[number] = one.record
            photos.thumbnails.append(one.thumbnail.encode())
            if one.grey is not None and one.pixels is not None:
                photos.greys.append(len(one.grey).to_bytes(2, "big") + one.grey.tobytes())
                before = hashes[max(0, readable - _COMPARED) : readable]
                if nearest(one.record["hashes"], before) > MAX_DISTANCE:
                    waiting.append((number, one.pixels))
            hashes[readable] = one.record["hashes"][0]
            readable += 1
            if len(waiting) == _BATCH:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def features_of(batch: list[tuple[int, Pixels]]) -> Floats:
        assert embedding
        return embedding.features(np.stack([pixels for _, pixels in batch]))

    features: Floats | None = None
    for batch, found in in_order(features_of, batches(), cores()):
        if features is None:
            features = np.zeros((len(paths), found.shape[1]), np.float32)
        features[[number for number, _ in batch]] = found
    kept = np.array([not reason for reason in reasons], bool)
    if kept.all():  # and nothing need be copied
        return replace(photos, features=features)
    return replace(photos, table=table[kept], features=None if features is None else features[kept])


def measure(root: Root, path: str, preprocessing: Preprocessing | None = None) -> Measured | str:
    """Read, decode and measure one photo; why it can't be read, where it can't."""
    try:
        data = read_regular(root / path, MAX_BYTES)
        photo = decode(data, path)
    except SpectraDermError as error:
        return str(error)
    except OSError as error:
        return f"{path} can't be read ({error.strerror or error})"
    image, tone = photo.image, skin_tone.estimate(photo.image)
    record = np.zeros((), RECORD)
    record["sha256"] = np.frombuffer(bytes.fromhex(sha256(data)), np.uint8)
    for name in ("format", "width", "height", "jpeg_quality"):
        record[name] = getattr(photo, name)
    record["bytes"] = len(data)
    record["hashes"] = turned_hashes(image)
    record["quality"] = astuple(quality.measure(image))
    record["ita"], record["skin_tone"] = (round(tone.ita, 2), tone.group) if tone else (np.nan, "")
    for name, values in glance(image).items():
        record[name] = values
    thumbnail = data_url(image, THUMBNAIL_SIDE)
    return Measured(record, thumbnail, *((grey(image), preprocessing(image)) if preprocessing else ()))


def glance(image: Image.Image) -> dict[str, Floats]:
    """What an upright RGB photo shows at a glance, in 0..255.

    `mean_colour` [3]; `border` [24], mean and deviation of the colours in the outer tenth at the top, bottom, left and
    right; `pixels_8x8` [192], the photo in 8 x 8 pixels. Sums are of integers: the same on every processor.
    """
    frame = np.asarray(image.resize((_FRAME, _FRAME), Image.Resampling.BOX, reducing_gap=2.0), np.int64)
    width = _FRAME // 10
    border = []
    for side in (frame[:width], frame[-width:], frame[:, :width], frame[:, -width:]):
        colours = side.reshape(-1, 3)  # [160, 3]
        count, total = len(colours), colours.sum(axis=0)
        border += [total / count, np.sqrt(count * (colours**2).sum(axis=0) - total**2) / count]
    tiles = frame.reshape(8, _FRAME // 8, 8, _FRAME // 8, 3)  # row, in it, column, in it, colour
    return {
        "mean_colour": (frame.sum((0, 1)) / _FRAME**2).astype(np.float32),
        "border": np.concatenate(border).astype(np.float32),
        "pixels_8x8": (tiles.sum((1, 3)) / (_FRAME // 8) ** 2).astype(np.float32).ravel(),
    }


def grey(image: Image.Image) -> Grey:
    """A photo as crops are looked for in it: grey, 320 pixels on the longer side, `uint8[h, w]`."""
    scale = GREY_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return np.asarray(image.convert("L").resize(size, Image.Resampling.BICUBIC))


def arrays(table: Table) -> dict[str, npt.NDArray[Any]]:
    """The content of `measurements.npz`, a row per photo in the manifest's order.

    `hashes` is `uint8[n, 8, 8]` of `turned_hashes`; each of `shortcuts.NAMES` `float32[n, d]`: what is known of the
    file, `metadata` all of that together, and what `glance` gives; each value of `Quality`, by its name after
    `quality_`, `float32[n]`.
    """
    width, height = table["width"], table["height"]
    facts = {
        "file_size": table["bytes"][:, None],
        "format": table["format"][:, None] == np.array(FORMATS),
        "dimensions": np.stack([width, height, width * height, width / height], axis=1),
        "jpeg_quality": table["jpeg_quality"][:, None],
    }
    files = {name: values.astype(np.float32) for name, values in facts.items()}
    files["metadata"] = np.concatenate(list(files.values()), axis=1)
    measured = {f"quality_{name}": table["quality"][:, i].astype(np.float32) for i, name in enumerate(QUALITY)}
    return {"hashes": table["hashes"], **files, **{name: table[name] for name in _GLANCE}, **measured}


def _in_rounds(root: Root, paths: Sequence[str], preprocessing: Preprocessing | None) -> Iterator[Measured | str]:
    """Every photo measured, in order; a round at a time, so that views don't pile up before they are taken."""
    backend: Literal["loky", "threading"] = "loky" if len(paths) > MANY else "threading"
    size = _ROUND if preprocessing else _LONG_ROUND
    for start in range(0, len(paths), size):
        tasks = [delayed(measure)(root, path, preprocessing) for path in paths[start : start + size]]
        done = 0
        try:
            parallel = Parallel(n_jobs=cores(), backend=backend, batch_size=_TASK, return_as="generator")
            for measured in parallel(tasks):
                yield measured
                done += 1
        except BrokenProcessPool:  # a decoder crashed, or memory ran out: one by one, to find where
            for path, task in zip(paths[start + done : start + size], tasks[done:], strict=True):
                try:
                    yield from Parallel(n_jobs=2, backend="loky")([task])
                except BrokenProcessPool:
                    yield f"{path}: the process that read it was killed. Save it again, smaller, or free some memory"
