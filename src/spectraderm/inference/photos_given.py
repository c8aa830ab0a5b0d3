"""What somebody gives to `predict` in Python: one photo, or many; and what is kept of a photo beside its prediction."""

import glob
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image

from spectraderm.core.errors import SpectraDermError
from spectraderm.images.decoding import PhotoLike, is_tensor
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.photo_paths import walk

if TYPE_CHECKING:
    from spectraderm.inference.classifier import Classifier, Opened
    from spectraderm.inference.prediction import Prediction

_ONE = (bytes, bytearray, memoryview, Image.Image, np.ndarray, Mapping)
_SIDE = 192
"""Of thumbnails, in pixels."""


@dataclass(frozen=True)
class Beside:
    """What a prediction knows of its photo beside its fields.

    Attributes:
        path: the photo's, where it came as one.
        thumbnail: a small JPEG of a photo that has no path; one that has is opened again where it is shown.
        preprocessing: how the photo became the model's input, in which the heatmap lies.
        names: by label, names for people.
        error: why the photo could not be read.
    """

    path: str
    thumbnail: bytes
    preprocessing: Preprocessing
    names: Mapping[str, str]
    error: SpectraDermError | None = None


def as_many(given: object) -> Iterator[PhotoLike] | None:
    """The photos of a folder (and all below it), of a glob, or of a list or iterator of photos, folders and globs.

    None where it is one photo. Folders and globs give paths, sorted.

    Raises:
        UnreadablePhoto: a folder or glob holds no photo; as soon as the first photo is asked for.
    """
    if isinstance(given, str | os.PathLike):
        path = os.fsdecode(given)
        return walk(path) if _is_many(path) else None
    if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "UO":
        return _each(given.tolist())
    if isinstance(given, _ONE) or hasattr(given, "read") or is_tensor(given) or hasattr(given, "columns"):
        return None
    return _each(given) if isinstance(given, Iterable) else None


def entries(model: "Classifier", photos: Sequence[PhotoLike]) -> "list[Prediction]":
    """Predictions that know their photo; one that can't be read is an `unusable_photo`."""
    beside: list[Beside] = []

    def opened(photo: PhotoLike) -> "Opened | SpectraDermError":
        found, path = model.opened(photo), path_of(photo)
        error = found if isinstance(found, SpectraDermError) else None
        small = b"" if path or isinstance(found, SpectraDermError) else thumbnail(found[0])
        beside.append(Beside(path, small, model.preprocessing, model.folder.display_names, error))
        return found

    said = model.predict_opened(map(opened, photos))
    answers = (model.unusable(str(one)) if isinstance(one, SpectraDermError) else one for one in said)
    return [answer.with_photo(own) for answer, own in zip(answers, beside, strict=True)]


def path_of(photo: object) -> str:
    """A photo's path; empty where it did not come as one."""
    return os.fsdecode(photo) if isinstance(photo, str | os.PathLike) else ""


def thumbnail(image: Image.Image) -> bytes:
    """A small JPEG of an upright RGB image, without metadata."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _each(given: Iterable[object]) -> Iterator[PhotoLike]:
    for photo in given:
        many = as_many(photo)
        if many is None:
            yield cast("PhotoLike", photo)
        else:
            yield from many


def _is_many(path: str) -> bool:
    try:
        there = Path(path)
        return there.is_dir() or (glob.has_magic(path) and not there.exists())
    except (OSError, ValueError):  # no such name can be: that is said where it is opened
        return False
