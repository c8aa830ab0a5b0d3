"""Bytes of a photo -> the pixels a model reads. The one implementation: audit, training and serving call it.

Knows nothing of models or folders. Only the decoders named in `FORMATS` are ever opened, the header is checked
before a pixel is decoded, and what Pillow converts wrongly (16 bit, alpha, colour profiles) is converted here.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError

from spectraderm.errors import MissingExtra, RecipeError, UnreadablePhoto

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
HEIC_SUFFIXES = frozenset({".heic", ".heif"})
MAX_PIXELS = 64_000_000
MAX_BYTES = 100_000_000
MIN_SIDE = 16
MAX_ASPECT = 20
MAX_SCANS = 64
BACKGROUND = (255, 255, 255)
"""Transparent pixels are laid over this colour (white)."""

Pixels = npt.NDArray[np.uint8]
Resize = Literal["squash", "crop"]

warnings.filterwarnings("ignore", module=r"PIL\.")  # once: `catch_warnings` in threads would leave its filters behind

_ORIENTATION_TAG = 0x0112
_JPEG_SCAN = b"\xff\xda"
_JPEG_LUMINANCE = np.frombuffer(
    b"\x10\x0b\x0a\x10\x18\x28\x33\x3d\x0c\x0c\x0e\x13\x1a\x3a\x3c\x37"
    b"\x0e\x0d\x10\x18\x28\x39\x45\x38\x0e\x11\x16\x1d\x33\x57\x50\x3e"
    b"\x12\x16\x25\x38\x44\x6d\x67\x4d\x18\x23\x37\x40\x51\x68\x71\x5c"
    b"\x31\x40\x4e\x57\x67\x79\x78\x65\x48\x5c\x5f\x62\x70\x64\x67\x63",
    np.uint8,
)  # table K.1 of the JPEG standard (ITU-T T.81), which libjpeg scales
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


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


@dataclass(frozen=True)
class Preprocessing:
    """How an upright RGB photo becomes the input of one model; it travels with that model.

    Attributes:
        size: side of the square input, in pixels.
        resize: `squash` stretches the whole photo into the square; `crop` keeps the aspect ratio and takes the
            middle, after scaling the shorter side to `size / crop_fraction`.
        crop_fraction: share of the shorter side that `crop` keeps.
        mean, std: per channel (red, green, blue), on pixels scaled to [0, 1].
    """

    size: int = 224
    resize: Resize = "squash"
    crop_fraction: float = 0.875
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, image: Image.Image) -> Pixels:
        """Resize an upright RGB image to `uint8[size, size, 3]`, red first. Bilinear, antialiased."""
        if self.resize == "squash":
            return np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        short, shortest = int(self.size / self.crop_fraction), min(image.size)
        width, height = (short * side // shortest for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized.crop((left, top, left + self.size, top + self.size)))

    def to_hub(self) -> dict[str, Any]:
        """The same settings as Hugging Face's `preprocessor_config.json`."""
        if self.resize == "squash":
            kind: dict[str, Any] = {
                "image_processor_type": "ViTImageProcessor",
                "size": {"height": self.size, "width": self.size},
            }
        else:
            kind = {
                "image_processor_type": "ConvNextImageProcessor",
                "size": {"shortest_edge": self.size},
                "crop_pct": self.crop_fraction,
            }
        return kind | {
            "do_resize": True,
            "resample": int(Image.Resampling.BILINEAR),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }

    @classmethod
    def from_hub(cls, config: dict[str, Any]) -> "Preprocessing":
        """Read a `preprocessor_config.json`. Raises `RecipeError` where a key is missing or of the wrong kind."""
        try:
            size = config["size"]
            squash = "height" in size
            preprocessing = cls(
                size=int(size["height"] if squash else size["shortest_edge"]),
                resize="squash" if squash else "crop",
                crop_fraction=float(config.get("crop_pct", cls.crop_fraction)),
                mean=rgb_values(config["image_mean"]),
                std=rgb_values(config["image_std"]),
            )
            if preprocessing.size < 1 or not 0 < preprocessing.crop_fraction <= 1 or min(preprocessing.std) <= 0:
                raise ValueError("a size, crop or deviation out of range")
        except (KeyError, TypeError, ValueError) as error:
            raise RecipeError(f"preprocessor_config.json: {error!r} is missing or not understood") from error
        return preprocessing


def rgb_values(values: list[float]) -> tuple[float, float, float]:
    """A configuration's three numbers, red first. Raises `ValueError` or `TypeError` where they are not three."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def decode(data: bytes, name: str = "photo") -> Photo:
    """Decode the first frame of a photo into upright 8-bit RGB.

    Args:
        data: the bytes of a JPEG, PNG, WEBP, BMP, TIFF, GIF or, with the `heic` extra, HEIC file.
        name: what errors call the photo.

    Raises:
        UnreadablePhoto: not one of these formats, damaged, too large or too small; says which.
        MissingExtra: a HEIC photo without the `heic` extra.
    """
    formats = _formats_for(data, name)
    if len(data) > MAX_BYTES:
        raise UnreadablePhoto(f"{name}: {len(data) / 1e6:.0f} MB is more than {MAX_BYTES / 1e6:.0f} MB")
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            _check_header(image, data, name)
            width, height, kind = *image.size, image.format or ""
            jpeg_quality = _jpeg_quality(getattr(image, "quantization", {}))
            rgb = to_rgb(upright(image), name)
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
    return Photo(rgb, "JPEG" if kind == "MPO" else kind, width, height, jpeg_quality)


def _jpeg_quality(tables: dict[int, Sequence[int]]) -> int:
    """The quality whose table, as libjpeg scales the standard's, has the sum nearest to the luminance table's."""
    if not tables:
        return 0
    qualities = np.arange(1, 101)
    scales = np.where(qualities < 50, 5000 // qualities, 200 - 2 * qualities)
    standard = np.clip((scales[:, None] * _JPEG_LUMINANCE.astype(np.int64) + 50) // 100, 1, 255)
    return int(qualities[np.abs(standard.sum(1) - sum(tables[min(tables)])).argmin()])


def to_rgb(image: Image.Image, name: str = "photo") -> Image.Image:
    """Convert any Pillow image to 8-bit RGB: 16 bit scaled, alpha laid over `BACKGROUND`, profiles to sRGB."""
    if image.mode in ("F", "I"):
        low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
        if image.mode == "F" or low < 0 or high > 65535:
            raise UnreadablePhoto(f"{name}: 32-bit pixel values have no agreed scale", "Save it as 8 or 16 bit")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    profile = image.info.get("icc_profile")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        whole = Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer)
        image = whole.convert("L" if image.mode in ("L", "LA") else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
                return image.convert("RGB")
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a broken profile says nothing about colour: fall through to the plain conversion
    return image.convert("RGB")


def _formats_for(data: bytes, name: str) -> tuple[str, ...]:
    if data[4:8] != b"ftyp" or data[8:12] not in _HEIC_BRANDS:
        return FORMATS
    try:
        from pillow_heif import register_heif_opener  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(f"{name} is a HEIC photo, and its decoder", "heic") from error
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


def _check_header(image: Image.Image, data: bytes, name: str) -> None:
    check_size(*image.size, name)
    if image.info.get("progressive") and data.count(_JPEG_SCAN) > MAX_SCANS:
        raise UnreadablePhoto(f"{name}: a progressive JPEG of more than {MAX_SCANS} scans", "Save it again")


def upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation; a broken tag is ignored. Read after decoding: Pillow turns TIFF by itself."""
    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF raises struct, value, syntax and other errors
        orientation = 1
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
