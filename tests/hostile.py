"""Photos that mean harm, painted: by name, their bytes and what must be answered."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from conftest import encode, jpeg_of_size, paint, png, png_chunk
from hostile_parts import (
    Attack,
    bmp,
    exif_of,
    gif,
    jpeg_segment,
    multi_scan,
    of_segments,
    png_with,
    riff,
    swollen_directory,
)
from PIL import Image
from tiffs import tiff

PHOTO = paint(1, (200, 150))
MEGABYTE = 1_000_000


def _bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)) + packer.flush()


def _noise(count: int) -> bytes:
    return np.random.default_rng(3).integers(0, 256, count, dtype=np.uint8).tobytes()


def _hidden_exif() -> bytes:
    exif = b"Exif\0\0" + swollen_directory(30_000, 130_000)
    text = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode()
    return png_with(PHOTO, [(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))])


def _split_exif() -> bytes:
    exif = swollen_directory(20_000, 200_000)
    return of_segments(PHOTO, [(0xE1, b"Exif\0\0" + exif[n : n + 60_000]) for n in range(0, len(exif), 60_000)])


def _animated(kind: str, frames: int) -> bytes:
    images = [paint(n % 7 + 1, (32, 32)) for n in range(frames)]
    return encode(images[0], kind, save_all=True, append_images=images[1:])


def _tiff(tags: Mapping[int, Sequence[int] | None]) -> bytes:
    """An RGB TIFF of 64x64, but for some tags."""
    return tiff(np.zeros((64, 64, 3), np.uint8), 2, tags=tags)


def _looping_tiff() -> bytes:
    data = _tiff({})
    return data[:-4] + data[4:8]


def _tile(width: int, height: int) -> bytes:
    """A TIFF of one tile of this size, in 100 bytes."""
    return _tiff({322: [width], 323: [height], 324: [8], 325: [100], 259: [8], 273: None, 278: None, 279: None})


def _of_tiles(side: int) -> bytes:
    count, size = side * side, [side * 16]
    tiles = {322: [16], 323: [16], 324: [8] * count, 325: [768] * count}
    return _tiff({256: size, 257: size, 273: None, 278: None, 279: None, **tiles})


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.jpg", encode(PHOTO))
    return stream.getvalue()


def _plain(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    return encode(Image.new(mode, size, 90 if mode in "LP" else (200, 90, 40, 128)[: len(mode)]), kind, **options)


def heic(image: Image.Image) -> bytes:
    import pillow_heif

    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=30, enc_params={"preset": "ultrafast"})
    return stream.getvalue()


BOMBS = {
    "PNG of 13000x13000": Attack(lambda: png(13_000, 13_000, 1, 0, bytes(1625)), "megapixels"),
    "JPEG header of 30000x30000": Attack(lambda: jpeg_of_size(30_000, 30_000), "megapixels"),
    "JPEG header of 65500x65500": Attack(lambda: jpeg_of_size(65_500, 65_500), "megapixels"),
    "WEBP header of 16383x16383": Attack(lambda: riff(16_383, 16_383), "megapixels|damaged"),
    "GIF header of 65535x65535": Attack(lambda: gif(65_535, 65_535), "megapixels"),
    "GIF frame of 65535x65535 on a small screen": Attack(lambda: gif(64, 64, (65_535, 65_535)), "megapixels"),
    "TIFF header of 60000x60000": Attack(lambda: _tiff({256: [60_000], 257: [60_000]}), "instead of 938"),
    "BMP header of 60000x-60000": Attack(lambda: bmp(60_000, -60_000), "megapixels"),
    "BMP header of 60000 x lowest height": Attack(lambda: bmp(60_000, -(2**31)), "megapixels|strip"),
    "PNG of 8000x8000": Attack(lambda: png(8000, 8000, 8, 0, bytes(8000)), "megapixels"),
}

# the largest photos that are taken; slow to make
LARGE = {
    "TIFF of 22,000 strips": Attack(
        lambda: _tiff({256: [1100], 257: [22_000], 278: [1], 273: [8] * 22_000, 279: [3300] * 22_000})
    ),
    "JPEG of 8000x8000": Attack(lambda: _plain("JPEG", (8000, 8000))),
    "JPEG of 8000x8000, CMYK": Attack(lambda: encode(Image.new("CMYK", (8000, 8000)), "JPEG")),
    "JPEG of 8000x8000, progressive": Attack(lambda: _plain("JPEG", (8000, 8000), progressive=True), "megapixels"),
    "JPEG of 5600x5600, progressive 4:4:4": Attack(
        lambda: _plain("JPEG", (5600, 5600), progressive=True, subsampling=0)
    ),
    "PNG of 5000x5000, RGBA": Attack(lambda: _plain("PNG", (5000, 5000), "RGBA", compress_level=1)),
    "PNG of 5000x5000, 16 bit grey": Attack(lambda: png(5000, 5000, 16, 0, bytes(10_000))),
    "WEBP of 3500x3500, RGBA": Attack(lambda: _plain("WEBP", (3500, 3500), "RGBA", lossless=True, method=0)),
    "GIF of 5000x5000, transparent": Attack(lambda: _plain("GIF", (5000, 5000), "P", transparency=90)),
    "TIFF of 5000x5000 in one strip, deflated": Attack(
        lambda: _plain("TIFF", (5000, 5000), compression="tiff_adobe_deflate", strip_size=2**30)
    ),
    "HEIC of 5000x5000": Attack(lambda: heic(Image.new("RGB", (5000, 5000), (200, 90, 40)))),
    "BMP of 5000x5000": Attack(lambda: _plain("BMP", (5000, 5000))),
}

SIZES = {
    "PNG of 1x1": Attack(lambda: png(1, 1, 8, 0, b"\0"), "too small"),
    "PNG of 1x30000": Attack(lambda: png(1, 30_000, 8, 0, b"\0"), "too small"),
    "PNG of 30000x1": Attack(lambda: png(30_000, 1, 8, 0, bytes(30_000)), "too small"),
    "PNG of 30000x16": Attack(lambda: png(30_000, 16, 8, 0, bytes(30_000)), "strip"),
    "PNG of 0x0": Attack(lambda: png(0, 0, 8, 0, b""), "small|damaged|not a photo"),
}

SCANS = {
    "progressive JPEG of 1000 scans": Attack(lambda: multi_scan(1000), "scans"),
    "sequential JPEG of 1000 scans": Attack(lambda: multi_scan(1000, progressive=False), "scans"),
    "progressive JPEG of 9 MP and 60 scans of little": Attack(lambda: multi_scan(60, size=(3000, 3000))),
    "progressive JPEG of 25 MP and 60 scans": Attack(lambda: multi_scan(60, size=(5000, 5000)), "scans"),
    "progressive JPEG behind a baseline SOF": Attack(
        lambda: multi_scan(1000, first=jpeg_segment(0xC0, bytes(15))), "scans"
    ),
}

METADATA = {
    "PNG with 300 zTXt bombs of 1 MB": Attack(
        lambda: png_with(PHOTO, [(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_048_000)))] * 300), "damaged"
    ),
    "PNG with a zTXt bomb of 70 MB": Attack(lambda: png_with(PHOTO, [(b"zTXt", b"k\0\0" + _bomb(70))]), "damaged"),
    "PNG with an iTXt bomb of 70 MB": Attack(
        lambda: png_with(PHOTO, [(b"iTXt", b"k\0\1\0\0\0" + _bomb(70))]), "damaged"
    ),
    "PNG with an iCCP bomb of 70 MB": Attack(lambda: png_with(PHOTO, [(b"iCCP", b"k\0\0" + _bomb(70))]), "damaged"),
    "PNG with 20 MB of empty chunks": Attack(
        lambda: png_with(PHOTO, [], png_chunk(b"teSt", b"") * (20 * MEGABYTE // 12)), "chunks"
    ),
    "PNG whose IDAT is 20 MB of empty chunks": Attack(
        lambda: png_with(PHOTO, [], png_chunk(b"IDAT", b"") * (20 * MEGABYTE // 12)), "chunks"
    ),
    "PNG with 20 MB of empty chunks at its end": Attack(
        lambda: png_with(PHOTO, [], b"", png_chunk(b"teSt", b"") * (20 * MEGABYTE // 12)), "chunks"
    ),
    "PNG whose EXIF swells 5000 times": Attack(
        lambda: png_with(PHOTO, [(b"eXIf", swollen_directory(60_000, 900_000))]), "hold more"
    ),
    "PNG whose text hides swelling EXIF": Attack(_hidden_exif, "hold more"),
    "WEBP whose EXIF swells 5000 times": Attack(
        lambda: encode(PHOTO, "WEBP", exif=b"Exif\0\0" + swollen_directory(60_000, 400_000)), "hold more"
    ),
    "JPEG whose EXIF swells 5000 times": Attack(
        lambda: of_segments(PHOTO, [(0xE1, b"Exif\0\0" + swollen_directory(3000, 25_000))]), "hold more"
    ),
    "JPEG whose EXIF swells across segments": Attack(_split_exif, "hold more"),
    "JPEG whose MPF index swells": Attack(
        lambda: of_segments(PHOTO, [(0xE2, b"MPF\0" + swollen_directory(3000, 25_000))]), "hold more"
    ),
    "TIFF whose tags share 4 MB": Attack(lambda: swollen_directory(2000, 4 * MEGABYTE), "hold more"),
    "JPEG with 8 MB of tiny EXIF segments": Attack(
        lambda: of_segments(PHOTO, [], jpeg_segment(0xE1, b"Exif\0\0x") * (8 * MEGABYTE // 11)), "segments"
    ),
    "JPEG with 200 EXIF segments of 60 KB": Attack(
        lambda: of_segments(PHOTO, [(0xE1, b"Exif\0\0" + bytes(60_000))] * 200), "segments of EXIF"
    ),
    "JPEG with 2 MB of junk": Attack(lambda: of_segments(PHOTO, [], bytes(2 * MEGABYTE)), "segments"),
    "JPEG with 20 MB of filling bytes": Attack(lambda: of_segments(PHOTO, [], b"\xff" * (20 * MEGABYTE)), "segments"),
    "JPEG with 20 MB of tiny comments": Attack(
        lambda: of_segments(PHOTO, [], jpeg_segment(0xFE, b"") * (5 * MEGABYTE)), "segments"
    ),
    "GIF with a comment of 8 MB in tiny blocks": Attack(
        lambda: gif(64, 64, extension=b"!\xfe" + b"\1x" * (4 * MEGABYTE) + b"\0"), "blocks"
    ),
    "GIF with 8 MB of comments": Attack(lambda: gif(64, 64, extension=b"!\xfe\1x\0" * (8 * MEGABYTE // 5)), "blocks"),
    "EXIF that points nowhere": Attack(lambda: encode(PHOTO, exif=exif_of({0x8825: 2**32 - 1, 0x0112: 6}))),
    "EXIF of random bytes": Attack(lambda: encode(PHOTO, exif=b"Exif\0\0" + _noise(4000))),
    "EXIF orientation 99": Attack(lambda: encode(PHOTO, exif=exif_of({0x0112: 99}))),
    "ICC profile of random bytes": Attack(lambda: encode(PHOTO, icc_profile=_noise(4000))),
}

FRAMES = {
    "APNG of 1000 frames": Attack(lambda: _animated("PNG", 1000)),
    "GIF of 200 frames": Attack(lambda: _animated("GIF", 200)),
    "WEBP of 1000 frames": Attack(lambda: _animated("WEBP", 1000)),
    "TIFF of 200 pages": Attack(lambda: _animated("TIFF", 200)),
    "MPO of 300 photos": Attack(lambda: _animated("MPO", 300)),
}

TIFFS = {
    "TIFF whose directory follows itself": Attack(_looping_tiff),
    "TIFF of 97,000 tiles": Attack(lambda: _of_tiles(310), "numbers"),
    "TIFF whose strip counts lie": Attack(lambda: _tiff({279: [2**32 - 1]})),
    "TIFF whose strip lies outside": Attack(lambda: _tiff({273: [2**32 - 10]}), "damaged"),
    "TIFF whose rows per strip lie": Attack(lambda: _tiff({278: [2**32 - 1], 259: [5]}), "damaged|not a photo"),
    "TIFF of one tile of 4 gigapixels": Attack(lambda: _tile(65_536, 65_536), "tile|damaged"),
    "TIFF of one tile of 500 megapixels": Attack(lambda: _tile(32_768, 16_384), "tile|damaged"),
    "TIFF of 2 million bits per sample": Attack(lambda: _tiff({258: [8] * (2 * MEGABYTE)}), "numbers"),
}

OTHERS = {
    "BMP, run-length encoded, 20 MB of runs": Attack(
        lambda: bmp(8000, 2500, 8, 1, b"\1\7" * (10 * MEGABYTE)), "run-length|megapixels"
    ),
    "BMP, run-length encoded, jumps": Attack(lambda: bmp(4000, 4000, 8, 1, b"\0\2\xff\xff" * 10_000)),
    "BMP of depth 99": Attack(lambda: bmp(64, 64, 99), "damaged|not a photo"),
    "16-bit PNG": Attack(lambda: png(64, 64, 16, 2, bytes(64 * 6))),
    "CMYK JPEG": Attack(lambda: encode(PHOTO.convert("CMYK"))),
}

STRANGERS = {
    "nothing": Attack(lambda: b"", "not a photo"),
    "text": Attack(lambda: b"just words", "not a photo"),
    "zeros": Attack(lambda: bytes(MEGABYTE), "not a photo"),
    "HTML": Attack(lambda: b"<html><script>alert(1)</script>", "not a photo"),
    "SVG": Attack(lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "not a"),
    "EPS": Attack(lambda: encode(PHOTO, "EPS"), "not a photo"),
    "PDF": Attack(lambda: encode(PHOTO, "PDF"), "not a photo"),
    "PDF with a JPEG behind": Attack(lambda: b"%PDF-1.4\n" + encode(PHOTO), "not a photo"),
    "PSD": Attack(lambda: struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 32, 32, 8, 3) + bytes(3090), "not a photo"),
    "zip": Attack(_zip, "not a photo"),
    "JPEG with a zip behind": Attack(lambda: encode(PHOTO) + _zip()),
    "GIF that is a script": Attack(lambda: gif(0x2F2A, 64, (64, 64)) + b"*/=1;alert(1)", "cover"),
    "cut JPEG": Attack(lambda: encode(PHOTO)[:-200], "damaged"),
    "cut PNG": Attack(lambda: encode(PHOTO, "PNG")[:-200], "damaged"),
    "cut WEBP": Attack(lambda: encode(PHOTO, "WEBP")[:-200], "damaged|not a photo"),
    "header of a JPEG": Attack(lambda: encode(PHOTO)[:100], "damaged|not a photo"),
}

ATTACKS = BOMBS | SIZES | SCANS | METADATA | FRAMES | TIFFS | OTHERS | STRANGERS
