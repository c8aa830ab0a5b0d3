"""What a photo's bytes claim, before a decoder believes them: work and memory far beyond their size.

A decoder takes each of a million empty chunks in turn, copies a comment once for each of its blocks, reads a value as
often as there are tags that point to it, and decodes every scan. Photos from cameras and programs do nothing of that.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from spectraderm.core.errors import UnreadablePhoto

MAX_SCANS = 64
MAX_SCANNED_PIXELS = 640_000_000
"""Of all scans of a JPEG together; a progressive one of a camera or a program has ten."""
MAX_KEPT_VALUES = 96_000_000
"""Pixels times colours of a JPEG of many scans, which all stay in memory until the last."""
MAX_PARTS = 10_000
"""Segments, blocks and bytes of junk before the pixels."""
MAX_CHUNKS = 50_000
MAX_EXIF_SEGMENTS = 50
MAX_NUMBERS = 100_000
"""In the tags of a TIFF: two for each of its strips or tiles."""
MAX_TILE_PIXELS = 25_000_000
MAX_RUN_LENGTH_BYTES = 1_000_000

_SCAN = b"\xff\xda"
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES = frozenset({1, 2, 6, 7})
_TILE_SIDES = frozenset({322, 323})


class _Tag(NamedTuple):
    number: int
    kind: int
    values: int
    size: int
    value: int


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
        check_directory(data, name)
        _check_numbers(data, name)
    elif data.startswith(b"BM") and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and len(data) > MAX_RUN_LENGTH_BYTES:
        raise _refusal(f"{name}: a run-length encoded BMP of more than {MAX_RUN_LENGTH_BYTES // 1_000_000} MB")


def check_directory(data: bytes, name: str) -> None:
    """Raise `UnreadablePhoto` for a TIFF or EXIF whose tags hold more than twice its bytes, one value many times."""
    held = 0
    for entry in _tags(data):
        if entry.size > 8 and entry.value + entry.size <= len(data):
            held += entry.size
        if held > 2 * len(data):
            raise _refusal(f"{name}: its tags (EXIF or TIFF) hold more than its bytes")


def _refusal(problem: str) -> UnreadablePhoto:
    return UnreadablePhoto(problem, "Save it again with another program")


def _check_jpeg(data: bytes, name: str) -> None:
    """Walks as Pillow does: over junk, filling bytes and segments, to the first scan."""
    exif, frame = [], b""
    for part, (marker, content) in enumerate(_segments(data)):
        if part > MAX_PARTS:
            raise _refusal(f"{name}: a JPEG of more than {MAX_PARTS} segments before its pixels")
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            exif.append(content[6:])
        elif marker == 0xE2 and content.startswith(b"MPF\0"):
            check_directory(content[4:], name)
        elif marker in _FRAMES:
            frame = bytes((marker,)) + content
        elif marker == 0xDA:
            _check_scans(data, frame, content, name)
    if len(exif) > MAX_EXIF_SEGMENTS:
        raise _refusal(f"{name}: more than {MAX_EXIF_SEGMENTS} segments of EXIF")
    check_directory(b"".join(exif), name)


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
        raise _refusal(f"{name}: a JPEG of {scans} scans of {width}x{height} pixels is more than is decoded")
    if width * height * frame[6] > MAX_KEPT_VALUES:
        raise UnreadablePhoto(
            f"{name}: a progressive JPEG of more than {MAX_KEPT_VALUES // frame[6] // 1_000_000} megapixels",
            "Scale it down, or save it without `progressive`",
        )


def _check_png(data: bytes, name: str) -> None:
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise _refusal(f"{name}: a PNG of more than {MAX_CHUNKS} chunks")


def _check_gif(data: bytes, name: str) -> None:
    """Over the extensions before the first frame, block by block."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 128 else 0)
    inside = False
    for _ in range(MAX_PARTS):
        if at + 1 >= len(data) or (not inside and data[at] in b",;"):
            return
        if inside:
            inside, at = data[at] != 0, at + 1 + data[at]
        else:
            inside, at = data[at] == 0x21, at + (2 if data[at] == 0x21 else 1)
    raise _refusal(f"{name}: a GIF of more than {MAX_PARTS} blocks before its pixels")


def _check_numbers(data: bytes, name: str) -> None:
    """Every number of a tag becomes an object; a tile is held whole, however little of it the photo shows."""
    numbers, tile = 0, 1
    for entry in _tags(data):
        numbers += entry.values if entry.kind not in _BYTES else 0
        tile *= entry.value if entry.number in _TILE_SIDES else 1
    if numbers > MAX_NUMBERS:
        raise _refusal(f"{name}: a TIFF of more than {MAX_NUMBERS} numbers in its tags")
    if tile > MAX_TILE_PIXELS:
        raise _refusal(f"{name}: a TIFF whose tiles are larger than {MAX_TILE_PIXELS // 1_000_000} megapixels")


def _tags(data: bytes) -> Iterator[_Tag]:
    """The first directory of a TIFF or of EXIF, as far as it goes. `value` is an offset where `size` does not fit."""
    order, big = "<" if data[:2] == b"II" else ">", data[2:3] == b"\x2b"
    if len(data) < 16:
        return
    start, number, entry = (
        (order + "Q", order + "Q", order + "HHQQ") if big else (order + "L", order + "H", order + "HHLL")
    )
    (at,) = struct.unpack_from(start, data, 8 if big else 4)
    if at + struct.calcsize(number) > len(data):
        return
    (count,) = struct.unpack_from(number, data, at)
    at += struct.calcsize(number)
    step = struct.calcsize(entry)
    for place in range(at, min(at + count * step, len(data) - step + 1), step):
        tag, kind, values, value = struct.unpack_from(entry, data, place)
        size = values * _SIZES.get(kind, 0)
        if kind == 3 and size <= struct.calcsize(start):
            (value,) = struct.unpack_from(order + "H", data, place + step - struct.calcsize(start))
        yield _Tag(tag, kind, values, size, value)
