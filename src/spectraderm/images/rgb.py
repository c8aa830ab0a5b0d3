"""A decoded image of any kind -> 8-bit RGB, and upright. What Pillow converts wrongly is converted here.

Large photos are converted in bands of rows, so that they need little memory beside their own.
"""

import io
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images.tiff import check_directory

BACKGROUND = (255, 255, 255)
"""Transparent pixels are laid over this colour (white)."""

_ORIENTATION_TAG = 0x0112
_ORIENTED = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_SPACES = (b"RGB ", b"GRAY", b"CMYK")
_MAX_PROFILE = 8_000_000
_BAND = 256  # rows that are converted at a time, so that a large photo needs little memory beside its own


def to_rgb(image: Image.Image, name: str = "photo") -> Image.Image:
    """Convert any Pillow image to 8-bit RGB: 16 bit scaled, alpha laid over `BACKGROUND`, profiles to sRGB.

    A new image without metadata.
    """
    if image.mode in ("F", "I"):
        low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
        if image.mode == "F" or low < 0 or high > 65535:
            raise UnreadablePhoto(f"{name}: 32-bit pixel values have no agreed scale", "Save it as 8 or 16 bit")
    plain = _to_plain(image.crop((0, 0, 1, 1)))
    profile = image.info.get("icc_profile") or b""
    if profile[36:40] == b"acsp" and profile[16:20] not in _SPACES:
        space = profile[16:20].decode("latin-1").strip()
        raise UnreadablePhoto(f"{name}: its colour profile is of {space!r} colours", "Save it as 8-bit RGB in sRGB")
    transform = _to_srgb(profile, plain.mode)
    levels = None if transform else _levels(image.info)
    if image.mode == "RGB" and transform is None and levels is None and not image.has_transparency_data:
        result = image.copy()
        result.info = {}
        return result
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        if levels is not None:
            band = (_to_plain(band) if band.mode.startswith("I") else band).convert("RGBA").point(levels)
        band = _to_plain(band)
        if transform is not None:
            band = ImageCms.applyTransform(band, transform) or band
        result.paste(band.convert("RGB"), (0, top))
    return result


def _levels(info: dict[str | tuple[int, int], Any]) -> list[int] | None:
    """What a PNG's levels of RGBA are in sRGB, where it states another gamma alone, as browsers show it.

    A gamma within a twentieth of sRGB's 1/2.2 is none of its own, as in libpng.
    """
    gamma = float(info.get("gamma", 0))
    if gamma <= 0 or abs(2.2 * gamma - 1) <= 0.05 or info.get("icc_profile") or "srgb" in info:
        return None
    light = (np.arange(256) / 255) ** (1 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return [int(level) for level in np.rint(255 * levels)] * 3 + list(range(256))


def _to_plain(image: Image.Image) -> Image.Image:
    """8 bit without alpha or palette, in a mode that colour profiles know."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        whole = Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer)
        return whole.convert("L" if image.mode in ("L", "LA") else "RGB")
    return image.convert("RGB") if image.mode == "P" else image


def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What turns pixels of a profile into sRGB; None where they are, and where a broken profile says nothing."""
    if not profile or len(profile) > _MAX_PROFILE or mode not in ("RGB", "CMYK", "L"):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def upright(image: Image.Image) -> Image.Image:
    """Turn by the EXIF orientation; a broken tag is ignored. The result has none, so that twice never turns twice."""
    image.load()
    result = turned(image.copy(), orientation(image, "the image"))
    result.info = {key: value for key, value in result.info.items() if key not in _ORIENTED}
    return result


def orientation(image: Image.Image, name: str) -> int:
    """Its EXIF orientation, 1 to 8. Read after decoding: Pillow turns TIFF by itself, and PNG may have EXIF at its end.

    Raises:
        UnreadablePhoto: EXIF whose tags hold more than its bytes.
    """
    check_directory(_exif(image.info).removeprefix(b"Exif\0\0"), name)
    try:
        found = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF raises struct, value, syntax and other errors
        return 1
    return found if isinstance(found, int) else 1


def _exif(info: dict[str | tuple[int, int], Any]) -> bytes:
    """EXIF as Pillow is about to read it; some PNGs have it in hexadecimal digits."""
    try:
        found = info.get("exif") or bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:]))
    except (KeyError, ValueError, AttributeError):
        return b""
    return found if isinstance(found, bytes) else b""


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn by an EXIF orientation; 1 and what is none leave the image as it is."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)
