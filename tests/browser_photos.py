"""Painted photos in the forms in which a browser may meet one, for comparing its predictions with Python's."""

import functools

import numpy as np
from conftest import MADE_BY, encode
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from spectraderm.data.synthetic import paint_photo

_LABELS = ("BA-impetigo", "FU-ringworm", "PA-cutaneous-larva-migrans", "VI-shingles")


@functools.cache
def painted(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    return paint_photo(_LABELS[seed % len(_LABELS)], np.random.default_rng([77, seed]), size)


@functools.cache
def photos() -> dict[str, bytes]:
    """By name."""
    turned, linear, seen = Image.Exif(), PngInfo(), painted(41).convert("RGBA")
    turned[0x0112] = 6
    linear.add(b"gAMA", (100_000).to_bytes(4, "big"))
    seen.putalpha(Image.radial_gradient("L").resize(seen.size).point(lambda level: 255 - level))
    noise = np.random.default_rng(5).integers(0, 256, (200, 260, 3), dtype=np.uint8)
    return {
        "jpeg-30-2": encode(painted(32), quality=30, subsampling=2),
        "turned-6": encode(painted(6, (300, 200)).transpose(MADE_BY[6]), exif=turned.tobytes()),
        "progressive": encode(painted(40), quality=85, progressive=True),
        "cmyk": encode(painted(40).convert("CMYK"), quality=95),
        "png-gamma": encode(painted(43), "PNG", pnginfo=linear),
        "png-alpha": encode(seen, "PNG"),
        "png-moving": encode(painted(47), "PNG", save_all=True, default_image=True, append_images=[painted(48)] * 2),
        "webp": encode(painted(46), "WEBP", quality=80),
        "gif-moving": encode(painted(49), "GIF", save_all=True, append_images=[painted(50)]),
        "bmp": encode(painted(51), "BMP"),
        "dark": encode(painted(71).point(lambda level: level // 12)),
        "noise": encode(Image.fromarray(noise), "PNG"),
    }
