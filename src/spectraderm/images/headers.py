"""What a photo's bytes claim, before a decoder believes them: work and memory far beyond their size.

A decoder takes each of a million empty chunks in turn, copies a comment once for each of its blocks, reads a value as
often as there are tags that point to it, and decodes every scan. Photos from cameras and programs do nothing of that.
"""

import struct
from collections.abc import Iterator

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images import tiff

MAX_SCANS = 64
MAX_SCANNED_PIXELS = 640_000_000
"""Of all scans of a JPEG together; a progressive one of a camera or a program has ten."""
MAX_KEPT_VALUES = 96_000_000
"""Pixels times colours of a JPEG of many scans, which all stay in memory until the last."""
MAX_PARTS = 10_000
"""Segments, blocks and bytes of junk before the pixels."""
MAX_CHUNKS = 50_000
MAX_EXIF_SEGMENTS = 50
MAX_RUN_LENGTH_BYTES = 1_000_000

_SCAN = b"\xff\xda"
_HDR = (b"\x08", b"\x10", b"\x12")  # linear, PQ and HLG, as a PNG numbers them
_PALETTE = 3  # as the kind of colours of a PNG
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})


def check(data: bytes, name: str) -> None:
    """Look at the parts of a photo that a decoder would have to go through one by one.

    Raises:
        UnreadablePhoto: they are too many, or hold more than there is. What is damaged otherwise is left to decoders.
    """
    if data.startswith(b"\xff\xd8\xff"):
        _check_jpeg(data, name)
    elif data.startswith(b"\x89PNG"):
        _check_png(data, name)
    elif data.startswith(b"GIF8"):
        _check_gif(data, name)
    elif data[:2] in (b"II", b"MM"):
        tiff.check(data, name)
    elif data.startswith(b"BM") and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and len(data) > MAX_RUN_LENGTH_BYTES:
        raise tiff.refusal(f"{name}: a run-length encoded BMP of more than {MAX_RUN_LENGTH_BYTES // 1_000_000} MB")


def _check_jpeg(data: bytes, name: str) -> None:
    """Walks as Pillow does: over junk, filling bytes and segments, to the first scan."""
    exif, frame = [], b""
    for part, (marker, content) in enumerate(_segments(data)):
        if part > MAX_PARTS:
            raise tiff.refusal(f"{name}: a JPEG of more than {MAX_PARTS} segments before its pixels")
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            tiff.check_directory(content[4:], name)
        elif marker in _FRAMES:
            frame = bytes((marker,)) + content
            if content[:1] > b"\x08":
                raise UnreadablePhoto(f"{name}: a JPEG of {content[0]} bits can't be read", "Save it in 8 bits")
        elif marker == 0xDA:
            _check_scans(data, frame, content, name)
    if len(exif) > MAX_EXIF_SEGMENTS:
        raise tiff.refusal(f"{name}: more than {MAX_EXIF_SEGMENTS} segments of EXIF")
    tiff.check_directory(b"".join(exif), name)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of every segment up to the first scan; every byte of junk counts as one of marker 0."""
    at = 2
    while at + 1 < len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):
            at += 2 if data[at] == 0xFF and not marker else 1
            yield 0, b""
        elif marker in _BARE:
            at += 2
            yield marker, b""
        else:
            length = max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + length
            if marker == 0xDA:
                return


def _check_scans(data: bytes, frame: bytes, scan: bytes, name: str) -> None:
    """A scan of all colours ends a JPEG, unless it is progressive; else any number of them may follow."""
    if len(frame) < 7 or not scan or (frame[0] not in _PROGRESSIVE and scan[0] >= frame[6]):
        return
    height, width = struct.unpack(">HH", frame[2:6])
    scans = data.count(_SCAN)
    if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
        raise tiff.refusal(f"{name}: a JPEG of {scans} scans of {width}x{height} pixels is more than is decoded")
    if width * height * frame[6] > MAX_KEPT_VALUES:
        raise UnreadablePhoto(
            f"{name}: a progressive JPEG of more than {MAX_KEPT_VALUES // frame[6] // 1_000_000} megapixels",
            "Scale it down, or save it without `progressive`",
        )


def _check_png(data: bytes, name: str) -> None:
    at = 8
    for _ in range(MAX_CHUNKS):
        kind = data[at + 4 : at + 8]
        if at + 8 > len(data) or kind == b"IEND":
            return
        if kind == b"cICP" and data[at + 9 : at + 10] in _HDR:
            raise UnreadablePhoto(f"{name}: a PNG of HDR light levels can't be read", "Save it in sRGB")
        if kind == b"tRNS" and data[24] != 8 and data[25] != _PALETTE:  # Pillow compares it with levels of 8 bits
            raise UnreadablePhoto(
                f"{name}: a PNG of {data[24]} bits with a transparent colour can't be read safely",
                "Save it in 8 bits, or without transparency",
            )
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise tiff.refusal(f"{name}: a PNG of more than {MAX_CHUNKS} chunks")


def _check_gif(data: bytes, name: str) -> None:
    """Over the extensions before the first frame, block by block."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0)
    inside = False
    for _ in range(MAX_PARTS):
        if at + 1 >= len(data) or (not inside and data[at] in b",;"):
            return _check_cover(data[6:10], data[at : at + 9], name)
        if inside:
            inside, at = data[at] != 0, at + 1 + data[at]
        else:
            inside, at = data[at] == 0x21, at + (2 if data[at] == 0x21 else 1)
    raise tiff.refusal(f"{name}: a GIF of more than {MAX_PARTS} blocks before its pixels")


def _check_cover(screen: bytes, frame: bytes, name: str) -> None:
    """Programs don't agree on what stands where the first frame of a GIF is not."""
    if len(frame) < 9 or frame[:1] != b",":
        return
    (wide, high), (left, top, width, height) = struct.unpack("<HH", screen), struct.unpack("<HHHH", frame[1:])
    if left or top or width < wide or height < high:
        raise UnreadablePhoto(f"{name}: a GIF whose first frame does not cover it", "Save it as PNG or JPEG")
