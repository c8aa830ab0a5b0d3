"""Painted photos in every form in which a browser may meet one, for comparing its answers with Python's."""

import functools

import numpy as np
from conftest import MADE_BY, encode
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

from spectraderm.data.synthetic import paint_photo

_LABELS = (
    "BA- cellulitis",
    "BA-impetigo",
    "FU-athlete-foot",
    "FU-nail-fungus",
    "FU-ringworm",
    "PA-cutaneous-larva-migrans",
    "VI-chickenpox",
    "VI-shingles",
)


@functools.cache
def photos() -> dict[str, bytes]:
    """Fifty, by name."""
    return _qualities() | _turned() | _encodings() | _sizes() | _hopeless()


@functools.cache
def painted(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    return paint_photo(_LABELS[seed % len(_LABELS)], np.random.default_rng([77, seed]), size)


def _qualities() -> dict[str, bytes]:
    return {
        f"jpeg-{quality}-{subsampling}": encode(
            painted(quality + subsampling), quality=quality, subsampling=subsampling
        )
        for quality in (30, 60, 75, 90, 100)
        for subsampling in (0, 1, 2)
    }


def _turned() -> dict[str, bytes]:
    found = {}
    for orientation, turn in MADE_BY.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        found[f"turned-{orientation}"] = encode(painted(orientation, (300, 200)).transpose(turn), exif=exif.tobytes())
    return found


def _encodings() -> dict[str, bytes]:
    photo, seen = painted(40), painted(41).convert("RGBA")
    seen.putalpha(Image.radial_gradient("L").resize(seen.size).point(lambda level: 255 - level))
    linear = PngInfo()
    linear.add(b"gAMA", (100_000).to_bytes(4, "big"))
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    return {
        "progressive": encode(photo, quality=85, progressive=True),
        "grey": encode(photo.convert("L"), quality=90),
        "cmyk": encode(photo.convert("CMYK"), quality=95),
        "odd-size": encode(painted(42, (321, 243)), quality=80),
        "png-gamma": encode(painted(43), "PNG", pnginfo=linear),
        "png-grey": encode(painted(44).convert("L"), "PNG"),
        "png-palette": encode(painted(45).quantize(200), "PNG"),
        "png-alpha": encode(seen, "PNG"),
        "png-16-bit": encode(deep, "PNG"),
        "webp": encode(painted(46), "WEBP", quality=80),
        "webp-lossless": encode(painted(47), "WEBP", lossless=True),
        "webp-alpha": encode(seen, "WEBP", lossless=True),
        "gif": encode(painted(48).quantize(256), "GIF"),
        "gif-moving": encode(painted(49), "GIF", save_all=True, append_images=[painted(50)]),
        "bmp": encode(painted(51), "BMP"),
    }


def _sizes() -> dict[str, bytes]:
    sizes = {"small": (90, 70), "wide": (640, 90), "square": (224, 224), "large": (2000, 1500), "tall": (700, 1400)}
    return {
        name: encode(painted(60 + at).resize(size, Image.Resampling.BICUBIC), quality=88)
        for at, (name, size) in enumerate(sizes.items())
    }


def _hopeless() -> dict[str, bytes]:
    noise = np.random.default_rng(5).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    drawing = Image.new("RGB", (300, 200), "white")
    drawing.paste((200, 30, 30), (40, 40, 200, 120))
    return {
        "tiny": encode(painted(70, (60, 50))),
        "dark": encode(painted(71).point(lambda level: level // 12)),
        "bright": encode(painted(72).point(lambda level: 240 + level // 17)),
        "blank": encode(Image.new("RGB", (300, 200), (180, 140, 120))),
        "noise": encode(Image.fromarray(noise), "PNG"),
        "drawing": encode(drawing, "PNG"),
        "blurred": encode(painted(73).filter(ImageFilter.GaussianBlur(14))),
        "dim": encode(painted(74).point(lambda level: level // 3)),
    }
