"""Photos whose metadata means harm: by name, how they are made and what must be answered."""

import zlib

import numpy as np
from conftest import encode, paint
from hostile_parts import Attack, exif_of, gif, jpeg_segment, of_segments, png_chunk, png_with, swollen_directory

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


def _swollen_tiff() -> bytes:
    return swollen_directory(2000, 4 * MEGABYTE)


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
    "TIFF whose tags share 4 MB": Attack(_swollen_tiff, "hold more"),
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
