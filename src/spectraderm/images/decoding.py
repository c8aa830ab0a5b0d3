"""A photo, however it comes -> an upright 8-bit RGB image, or an error that names it. Pillow's door.

Only the decoders named in `FORMATS` are ever opened, the header is checked before a pixel is decoded, and what Pillow
converts wrongly (16 bit, alpha, colour profiles) is converted in `rgb`. Audit, training and serving all decode here.
"""

import ctypes
import io
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from spectraderm.core.errors import NotAPhoto, UnreadablePhoto, needs, remedy_of
from spectraderm.core.files import read_regular
from spectraderm.images import headers
from spectraderm.images.preprocessing import SHORTEST_SIDE
from spectraderm.images.rgb import orientation, to_rgb, turned, upright

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 64_000_000
"""Of a JPEG, which need not be decoded at its full size. Other formats need more memory."""
MAX_DECODED_PIXELS = 16_000_000
"""Of a JPEG; a long one of more is decoded at half its size, however short its shorter side becomes."""
MAX_PIXELS_OF = dict.fromkeys(("PNG", "BMP", "TIFF", "GIF", "HEIF"), 25_000_000) | {"WEBP": 12_500_000}
MAX_BYTES = 100_000_000
MIN_SIDE = 16
MAX_ASPECT = 20

PhotoLike = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | npt.NDArray[np.uint8]
"""A path, a file's bytes, a binary file, a Pillow image, or pixels: `uint8[h, w]`, `uint8[h, w, 3]` (RGB) or
`uint8[h, w, 4]`."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # once: `catch_warnings` in threads would leave its filters behind

_JPEG_LUMINANCE = np.frombuffer(
    b"\x10\x0b\x0a\x10\x18\x28\x33\x3d\x0c\x0c\x0e\x13\x1a\x3a\x3c\x37"
    b"\x0e\x0d\x10\x18\x28\x39\x45\x38\x0e\x11\x16\x1d\x33\x57\x50\x3e"
    b"\x12\x16\x25\x38\x44\x6d\x67\x4d\x18\x23\x37\x40\x51\x68\x71\x5c"
    b"\x31\x40\x4e\x57\x67\x79\x78\x65\x48\x5c\x5f\x62\x70\x64\x67\x63",
    np.uint8,
)  # table K.1 of the JPEG standard (ITU-T T.81), which libjpeg scales
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def reuse_memory(of: Literal["photos", "everything", "nothing"]) -> None:
    """Say what freed memory glibc uses again.

    What it returns to the system is cleared anew, and to clear a photo's pages takes as long as to decode it into them.

    `photos`: blocks of up to 32 MB, and 64 MB that are free are kept. `everything` makes training on a processor 1.6
    times as fast. `nothing` large: a process that only passes photos on would keep as much for every thread.
    """
    for option, value in _MALLOPT[of].items():
        _glibc("mallopt", option, value)


def return_memory() -> None:
    """Have glibc return what is free to the system."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    with suppress(OSError, AttributeError):  # another C library: nothing is lost but time or memory
        getattr(ctypes.CDLL("libc.so.6"), name)(*arguments)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8  # of mallopt(3)
_MALLOPT = {
    "photos": {_MMAP_THRESHOLD: 1 << 25, _TRIM_THRESHOLD: 1 << 26},
    "everything": {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 1 << 26},
    "nothing": {_MMAP_THRESHOLD: 1 << 17, _ARENA_MAX: 2},
}
reuse_memory("photos")


@dataclass(frozen=True)
class Photo:
    """A decoded photo: `image` is upright, 8-bit RGB; the rest is as the file says.

    `jpeg_quality` is 1..100 on libjpeg's scale as its quantisation table tells, and 0 where it is not a JPEG.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    jpeg_quality: int = 0


def open_photo(photo: PhotoLike, shortest_side: int = SHORTEST_SIDE, name: str = "photo") -> Image.Image:
    """Open a photo. Raises `UnreadablePhoto`, or `MissingExtra` for a HEIC photo without the `heic` extra.

    The image has no metadata, so that opening it again does not turn it again. A large JPEG comes scaled down, to no
    less than `shortest_side`; see `decode`. `name` is what errors call bytes.
    """
    if isinstance(photo, Image.Image):
        image = _from_pillow(photo)
    elif isinstance(photo, np.ndarray):
        image = to_rgb(_from_array(photo))
    elif isinstance(photo, bytes | bytearray | memoryview):
        image = decode(bytes(photo), name, shortest_side).image
    elif not isinstance(photo, str | os.PathLike):
        image = decode(_from_file(photo), str(getattr(photo, "name", name)), shortest_side).image
    else:
        try:
            data = read_regular(Path(path := os.fsdecode(photo)), MAX_BYTES)  # refuses what has no end, as a pipe has
        except (OSError, ValueError) as error:
            problem = f"{path}: {getattr(error, 'strerror', None) or error}"
            raise UnreadablePhoto(problem, remedy_of(path)) from error
        image = decode(data, path, shortest_side).image
    image.info = {}
    return image


def decode(data: bytes, name: str = "photo", shortest_side: int = SHORTEST_SIDE) -> Photo:
    """Decode the first frame of a photo into upright 8-bit RGB.

    Args:
        data: the bytes of a JPEG, PNG, WEBP, BMP, TIFF, GIF or, with the `heic` extra, HEIC file.
        name: what errors call the photo.
        shortest_side: what is left of the shorter side where a large JPEG is decoded at a part of its size, in pixels;
            models of a larger input want `Preprocessing.shortest_side`.

    Raises:
        UnreadablePhoto: not one of these formats, damaged, too large or too small; says which.
        MissingExtra: a HEIC photo without the `heic` extra.
    """
    formats = _formats_for(data, name)
    if len(data) > MAX_BYTES:
        raise UnreadablePhoto(f"{name}: {len(data) / 1e6:.0f} MB is more than {MAX_BYTES / 1e6:.0f} MB")
    headers.check(data, name)
    try:
        photo, turn = _opened(data, formats, name, shortest_side)
        return replace(photo, image=turned(photo.image, turn))
    except UnreadablePhoto:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadablePhoto(f"{name}: more than {MAX_PIXELS // 1_000_000} megapixels", "Scale it down") from error
    except UnidentifiedImageError as error:
        raise UnreadablePhoto(
            f"{name}: not a photo in a known format", "Use JPEG, PNG, WEBP, BMP, TIFF, GIF or HEIC"
        ) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise UnreadablePhoto(f"{name}: damaged or incomplete ({error})", "Save or download it again") from error


def _opened(data: bytes, formats: tuple[str, ...], name: str, shortest_side: int) -> tuple[Photo, int]:
    """The photo as it is stored, and its EXIF orientation. What the decoder held is free again on return."""
    with Image.open(io.BytesIO(data), formats=formats) as image:
        kind = "JPEG" if image.format == "MPO" else image.format or ""
        width, height = image.size
        check_size(width, height, name)
        most = MAX_PIXELS_OF.get(kind, MAX_PIXELS)
        if width * height > most:
            problem = f"{name}: a {kind} of more than {most / 1e6:g} megapixels"
            raise UnreadablePhoto(problem, "Scale it down, or save it as a JPEG")
        scale = decoding_scale(width, height, shortest_side)
        if kind == "JPEG" and scale > 1:
            image.draft(None, (width // scale, height // scale))
        quality = _jpeg_quality(getattr(image, "quantization", {}))
        image.load()
        return Photo(to_rgb(image, name), kind, width, height, quality), orientation(image, name)


def decoding_scale(width: int, height: int, shortest_side: int = SHORTEST_SIDE) -> int:
    """By how much libjpeg scales a JPEG down while it decodes, in less time than it takes in full: 1, 2, 4 or 8."""
    scale = 1
    while scale < 8 and (
        min(width, height) >= 2 * scale * shortest_side or width * height > MAX_DECODED_PIXELS * scale**2
    ):
        scale *= 2
    return scale


def _jpeg_quality(tables: dict[int, Sequence[int]]) -> int:
    """The quality whose table, as libjpeg scales the standard's, has the sum nearest to the luminance table's."""
    if not tables:
        return 0
    return 1 + int(np.abs(_sums_by_quality() - sum(tables[min(tables)])).argmin())


@cache
def _sums_by_quality() -> npt.NDArray[np.int64]:
    """Sums of libjpeg's luminance tables of the qualities 1 to 100."""
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    tables = np.clip((scales[:, None] * _JPEG_LUMINANCE.astype(np.int64) + 50) // 100, 1, 255)
    sums: npt.NDArray[np.int64] = tables.sum(axis=1)
    return sums


def _formats_for(data: bytes, name: str) -> tuple[str, ...]:
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIC_BRANDS:
        return FORMATS
    with needs("heic", f"{name} is a HEIC photo, and its decoder"):
        from pillow_heif import register_heif_opener  # noqa: PLC0415
    register_heif_opener()
    return ("HEIF",)


def check_size(width: int, height: int, name: str) -> None:
    """Raise `UnreadablePhoto` for what is too large, too small or too narrow to be looked at."""
    if width * height > MAX_PIXELS:
        raise UnreadablePhoto(
            f"{name}: {width}x{height} is more than {MAX_PIXELS // 1_000_000} megapixels", "Scale it down"
        )
    if min(width, height) < MIN_SIDE:
        raise UnreadablePhoto(f"{name}: {width}x{height} is too small", f"Both sides need {MIN_SIDE} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnreadablePhoto(f"{name}: {width}x{height} is a strip, not a photo", "Crop it to the skin")


def is_tensor(given: object) -> bool:
    """Whether this holds numbers in rows, as tensors of torch, TensorFlow and JAX do, and is no array of NumPy's."""
    numeric = re.search(r"u?int|float|bool", str(getattr(given, "dtype", "")))
    return bool(numeric) and hasattr(given, "shape") and not isinstance(given, np.ndarray)


def _from_file(file: BinaryIO) -> bytes:
    """What is left in an open file, but no more than is looked at."""
    if not hasattr(file, "read"):
        raise _other_kind(file)
    try:
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, TypeError) as error:  # such as a file that is closed
        raise UnreadablePhoto(f"the file can't be read ({error})", "Open it again, or give its bytes") from error
    if not isinstance(data, bytes | bytearray | memoryview):
        raise NotAPhoto(f"the file gives {type(data).__name__}, not bytes", 'Open it with mode "rb"')
    return bytes(data)


def _other_kind(given: object) -> NotAPhoto:
    """Of what is no photo, with what to give in its place."""
    about, remedy = f"{given!r} ({type(given).__name__})", "Give a path, bytes, a binary file, a Pillow image or pixels"
    if is_tensor(given):
        about = f"a {type(given).__module__.split('.')[0]} {type(given).__name__}"
        remedy = "Give NumPy's pixels, uint8[h, w, 3] in RGB order; of a torch tensor float[3, h, w] from 0 to 1: "
        remedy += "(255 * tensor).byte().permute(1, 2, 0).numpy()"
    elif isinstance(given, Mapping):
        about, remedy = f"a {type(given).__name__}", "Give a list of photos, such as list(given.values())"
    elif hasattr(given, "columns"):
        about, remedy = f"a {type(given).__name__}", "Give a list of photos, such as list(given['path'])"
    elif len(about) > 60 or not about.isprintable():
        about = f"a {type(given).__name__}"
    return NotAPhoto(f"{about} is no photo", remedy)


def _from_pillow(photo: Image.Image) -> Image.Image:
    check_size(*photo.size, "the image")
    try:
        _check_file_of(photo)
        return to_rgb(upright(photo), "the image")
    except UnreadablePhoto:
        raise
    except Exception as error:  # Pillow decodes late, and raises nearly anything on damaged bytes
        raise UnreadablePhoto(f"the image can't be decoded ({error})") from error


def _check_file_of(photo: Image.Image) -> None:
    """Look at the file of a Pillow image that is not decoded yet, as at any other."""
    file = getattr(photo, "fp", None)
    if file is not None and not getattr(file, "closed", False):
        at = file.tell()
        file.seek(0)
        data = file.read(MAX_BYTES)
        file.seek(at)
        headers.check(data, "the image")


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        remedy = "Give uint8[h, w], uint8[h, w, 3] in RGB order, or uint8[h, w, 4]"
        if array.ndim == 4:
            remedy = "Give the photos of a batch one by one, as list(array)"
        elif array.dtype == np.uint8 and array.ndim == 3 and array.shape[0] in (3, 4):
            remedy = "Give channels last: array.transpose(1, 2, 0)"
        elif array.dtype.kind == "f":
            remedy = "Give whole numbers from 0 to 255: (255 * array).astype('uint8') where they are from 0 to 1"
        raise NotAPhoto(f"an array of {array.dtype}{list(array.shape)} is not a photo", remedy)
    check_size(array.shape[1], array.shape[0], "the array")
    return Image.fromarray(array)
