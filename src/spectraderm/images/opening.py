"""A photo, however it comes -> an upright RGB image, or an error that names it."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.core.files import read_regular
from spectraderm.images.preprocessing import MAX_BYTES, SHORTEST_SIDE, check_size, decode
from spectraderm.images.rgb import to_rgb, upright

PhotoLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, a file's bytes, a Pillow image, or pixels `uint8[h, w]`, `uint8[h, w, 3]` (RGB) or `uint8[h, w, 4]`."""


def open_photo(photo: PhotoLike, shortest_side: int = SHORTEST_SIDE, name: str = "photo") -> Image.Image:
    """Open a photo. Raises `UnreadablePhoto`, or `MissingExtra` for a HEIC photo without the `heic` extra.

    The image has no metadata, so that opening it again does not turn it again. A large JPEG comes scaled down, to no
    less than `shortest_side`; see `decode`. `name` is what errors call bytes.
    """
    if isinstance(photo, Image.Image):
        image = _from_pillow(photo)
    elif isinstance(photo, np.ndarray):
        image = to_rgb(_from_array(photo))
    elif isinstance(photo, bytes):
        image = decode(photo, name, shortest_side).image
    else:
        image = decode(_read(Path(photo)), str(photo), shortest_side).image
    image.info = {}
    return image


def _read(path: Path) -> bytes:
    """A file's bytes; what has no end or would wait for a writer, such as a pipe, is refused."""
    try:
        return read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise UnreadablePhoto(f"{path}: {getattr(error, 'strerror', None) or error}", "Check the path") from error


def _from_pillow(photo: Image.Image) -> Image.Image:
    check_size(*photo.size, "the image")
    try:
        return to_rgb(upright(photo), "the image")
    except UnreadablePhoto:
        raise
    except Exception as error:  # Pillow decodes late, and raises nearly anything on damaged bytes
        raise UnreadablePhoto(f"the image can't be decoded ({error})") from error


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        raise UnreadablePhoto(
            f"an array of {array.dtype}{list(array.shape)} is not a photo",
            "Give uint8[h, w], uint8[h, w, 3] in RGB order, or uint8[h, w, 4]",
        )
    check_size(array.shape[1], array.shape[0], "the array")
    return Image.fromarray(array)
