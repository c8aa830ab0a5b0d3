"""The parts that hostile photos are put together from: segments, chunks, blocks and directories, byte by byte."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from conftest import encode, paint, png_chunk
from PIL import Image

from spectraderm.images.decoding import decode

_SCAN = b"\xff\xda"


class Attack(NamedTuple):
    """How its bytes are made, and what they must be refused for; empty where they must give a photo."""

    build: Callable[[], bytes]
    refused: str = ""

    def call(self, data: bytes) -> str:
        """Decode it."""
        photo = decode(data, "attack")
        return f"{photo.format} {photo.image.size[0]}x{photo.image.size[1]}"


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def of_segments(photo: Image.Image, segments: Sequence[tuple[int, bytes]], raw: bytes = b"") -> bytes:
    """A JPEG with these segments (marker, data) before all others; `raw` comes behind the first of its own."""
    data = encode(photo)
    own = 4 + int.from_bytes(data[4:6], "big")
    return data[:2] + b"".join(jpeg_segment(*segment) for segment in segments) + data[2:own] + raw + data[own:]


def multi_scan(scans: int, size: tuple[int, int] = (200, 150), progressive: bool = True, first: bytes = b"") -> bytes:
    """A JPEG whose last scan comes again and again, until there are so many; `first` comes before all else."""
    if progressive:
        data = encode(paint(1, size), progressive=True)
        last = data[data.rindex(_SCAN) : -2]
    else:  # each colour in scans of its own, as the standard allows
        data = encode(paint(1, size).convert("L"))
        frame = data.index(b"\xff\xc0")
        colour = bytes((1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
        header = jpeg_segment(0xC0, data[frame + 4 : frame + 9] + b"\3" + colour)
        end = frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
        last = data[data.index(_SCAN) : -2]
        data = (
            data[:frame]
            + header
            + data[end:-2]
            + b"".join(last[:5] + bytes((n,)) + last[6:] for n in (2, 3))
            + data[-2:]
        )
    again = last * (scans - data.count(_SCAN))
    return data[:2] + first + data[2:-2] + again + data[-2:]


def png_with(photo: Image.Image, chunks: Sequence[tuple[bytes, bytes]], raw: bytes = b"", late: bytes = b"") -> bytes:
    """A PNG with these chunks (kind, data) and raw bytes before its pixels, and `late` behind them."""
    data = encode(photo, "PNG")
    at, end = data.index(b"IDAT") - 4, data.rindex(b"IEND") - 4
    return data[:at] + b"".join(png_chunk(*chunk) for chunk in chunks) + raw + data[at:end] + late + data[end:]


def riff(width: int, height: int) -> bytes:
    """A WEBP whose headers claim this size, over the pixels of a smaller one."""
    data = bytearray(encode(paint(1), "WEBP"))
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def gif(width: int, height: int, frame: tuple[int, int] | None = None, extension: bytes = b"") -> bytes:
    """A GIF of one frame, of the whole screen unless told otherwise, whose pixels are missing."""
    own = frame or (width, height)
    start = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x80, 0, 0) + bytes((0, 0, 0, 9, 9, 9))
    return start + extension + b"," + struct.pack("<HHHHB", 0, 0, *own, 0) + b"\2\2\x44\1\0;"


def bmp(width: int, height: int, depth: int = 24, compression: int = 0, pixels: bytes = b"") -> bytes:
    palette = bytes(1024) if depth == 8 else b""
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(pixels), 0, 0, 0, 0)
    return struct.pack("<2sIII", b"BM", 54 + len(palette) + len(pixels), 0, 54 + len(palette)) + info + palette + pixels


def swollen_directory(tags: int, size: int) -> bytes:
    """TIFF or EXIF whose tags all have the same `size` bytes as their value."""
    own = size - 14 - 12 * tags if size > 14 + 12 * tags else size
    at = 8 + 2 + 12 * tags + 4
    entries = b"".join(struct.pack("<HHII", 1000 + n, 7, own, at) for n in range(tags))
    return struct.pack("<2sHIH", b"II", 42, 8, tags) + entries + bytes(4) + bytes(own)


def exif_of(tags: Mapping[int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
