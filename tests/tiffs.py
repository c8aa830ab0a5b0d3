"""TIFF files of every kind, written byte by byte."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]
Values = Sequence[int] | bytes


def packed(samples: Samples, bits: int, order: str) -> bytes:
    """Lines of samples as a TIFF stores them: without gaps, but each line from a byte of its own."""
    if samples.dtype.kind == "u" and bits not in (8, 16, 32, 64):
        lines = samples.reshape(len(samples), -1).astype(np.uint64)
        shifts = np.arange(bits - 1, -1, -1, dtype=np.uint64)
        return np.packbits((lines[..., None] >> shifts & np.uint64(1)).reshape(len(lines), -1), axis=1).tobytes()
    return samples.astype(order + samples.dtype.str[1:]).tobytes()


def tiff(
    samples: Samples,
    photometric: int,
    *,
    bits: int = 0,
    planar: int = 1,
    order: str = "<",
    big: bool = False,
    rows: int = 0,
    tile: tuple[int, int] | None = None,
    compression: int = 1,
    compress: Callable[[bytes], bytes] = bytes,
    tags: Mapping[int, Values | None] | None = None,
) -> bytes:
    """A TIFF of `samples[height, width, samples per pixel]`, of as many bits as their dtype unless told otherwise.

    Args:
        rows: lines per strip; 0 for all in one.
        tile: height and width of tiles, instead of strips.
        tags: more tags, or other values; bytes are of kind UNDEFINED, and None leaves a tag out.
    """
    height, width, count = samples.shape
    bits = bits or samples.dtype.itemsize * 8
    planes = [samples] if planar == 1 else [samples[:, :, n : n + 1] for n in range(count)]
    high, wide = tile or (rows or height, width)
    parts = []
    for plane in planes:
        whole = np.pad(plane, ((0, -height % high if tile else 0), (0, -width % wide), (0, 0)))
        for top in range(0, height, high):
            parts += [
                compress(packed(whole[top : top + high, left : left + wide], bits, order))
                for left in range(0, width, wide)
            ]
    where, lengths = (324, 325) if tile else (273, 279)
    found: dict[int, Values | None] = {256: [width], 257: [height], 258: [bits] * count, 259: [compression]}
    found |= {262: [photometric], 277: [count], 284: [planar], lengths: [len(part) for part in parts]}
    found |= {322: [wide], 323: [high]} if tile else {278: [high]}
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    found |= {339: [kind] * count} if kind > 1 else {}
    start, word = (16, "Q") if big else (8, "L")
    ends = start + np.cumsum([0, *(len(part) for part in parts)])
    found[where] = [int(end) for end in ends[:-1]]
    found |= dict(tags or {})
    return _file(b"".join(parts), {tag: found[tag] for tag in sorted(found)}, order, word)


def _file(body: bytes, tags: Mapping[int, Values | None], order: str, word: str) -> bytes:
    """Header, pixels, values too long for their tag, directory."""
    size, start = struct.calcsize(order + word), 16 if word == "Q" else 8
    entries = b""
    for tag, value in tags.items():
        if value is None:
            continue
        kind = 7 if isinstance(value, bytes) else 4 if tag in (273, 279, 324, 325) or max(value) > 0xFFFF else 3
        data = bytes(value) if kind == 7 else struct.pack(f"{order}{len(value)}{'L' if kind == 4 else 'H'}", *value)
        if len(data) > size:
            body += b"\0" * (len(body) % 2)
            data, body = struct.pack(order + word, start + len(body)), body + data
        entries += struct.pack(f"{order}HH{word}", tag, kind, len(value)) + data.ljust(size, b"\0")
    body += b"\0" * (len(body) % 2)
    count = sum(value is not None for value in tags.values())
    header = (
        struct.pack(f"{order}H", 43) + struct.pack(f"{order}HH", 8, 0) if word == "Q" else struct.pack(f"{order}H", 42)
    )
    header = {"<": b"II", ">": b"MM"}[order] + header + struct.pack(order + word, start + len(body))
    number = struct.pack(order + ("Q" if word == "Q" else "H"), count)
    return header + body + number + entries + struct.pack(order + word, 0)
