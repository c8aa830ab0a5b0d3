"""Damaged photos of every format, and damaged networks, by the thousand: does anything but a typed error come of them?

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--photos 20000] [--models 5000] [--seed 1]

Painted photos and a handmade network get bits flipped, bytes replaced, parts cut out, doubled or swapped with those
of another format, lengths and sizes in headers raised. They are tried in forked children, so many at a time; where
one dies or hangs its inputs are tried again by halves, and what did it is written to `--keep`. Prints a table and exits
1 where a child crashed or hung, or anything but a `SpectraDermError` came out.
"""

import argparse
import json
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import encode, paint
from hostile import heic
from measured import forked

from spectraderm.core.errors import SpectraDermError
from spectraderm.images.decoding import decode
from spectraderm.inference.engine import Engine

AT_ONCE, LIMIT = 250, 120
"""Inputs per child, and the seconds it gets."""


@dataclass
class Tally:
    """What came of many inputs. `seconds` and `megabytes` are the worst of one input and of one child."""

    taken: int = 0
    refused: int = 0
    seconds: float = 0
    megabytes: float = 0
    wrong: str = ""

    def add(self, other: "Tally") -> None:
        """Take in another's."""
        self.taken, self.refused = self.taken + other.taken, self.refused + other.refused
        self.seconds, self.megabytes = max(self.seconds, other.seconds), max(self.megabytes, other.megabytes)
        self.wrong = self.wrong or other.wrong


def seeds() -> dict[str, list[bytes]]:
    """By format, right photos to start from."""
    photo, exif = paint(1, (60, 44)), paint(1).getexif()
    exif[0x0112], exif[0x010E] = 6, "painted"
    grey, alpha = photo.convert("L"), photo.convert("RGBA")
    two = {"save_all": True, "append_images": [paint(2, (60, 44))]}
    tiffs = [
        encode(photo, "TIFF", compression=kind)
        for kind in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")
    ]
    return {
        "JPEG": [encode(photo, exif=exif), encode(photo.convert("CMYK")), encode(grey), encode(photo, "MPO", **two)],
        "JPEG, progressive": [encode(photo, progressive=True), encode(grey, progressive=True)],
        "PNG": [encode(photo, "PNG", exif=exif), encode(photo.convert("P"), "PNG"), encode(alpha, "PNG", **two)],
        "WEBP": [encode(photo, "WEBP", exif=exif), encode(alpha, "WEBP", lossless=True), encode(photo, "WEBP", **two)],
        "BMP": [encode(photo, "BMP"), encode(grey, "BMP"), encode(photo.convert("1"), "BMP")],
        "TIFF": [*tiffs, encode(photo, "TIFF", exif=exif, big_tiff=True), encode(grey.convert("I;16"), "TIFF")],
        "GIF": [encode(photo, "GIF", comment="painted"), encode(photo, "GIF", **two)],
        **_heics(),
    }


def _heics() -> dict[str, list[bytes]]:
    try:
        return {"HEIC": [heic(Image.new(mode, (64, 48), (200, 90, 40, 128)[: len(mode)])) for mode in ("RGB", "RGBA")]}
    except ImportError:
        return {}


def mutated(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """One to three changes; `other` lends bytes."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        size = max(len(changed), 8)
        at = int(random.integers(min(size, 200 if random.random() < 0.5 else size)))
        length = int(2 ** random.uniform(0, 8))
        kind = random.integers(7)
        if kind == 0:
            changed[at : at + 1] = bytes((random.integers(256),))
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * int(random.integers(1, 30))
        elif kind == 4:
            start = int(random.integers(len(other)))
            changed[at : at + length] = other[start : start + length]
        elif kind == 5:
            order, number = random.choice(["<I", ">I", "<H", ">H"]), int(2 ** random.uniform(0, 16))
            changed[at : at + struct.calcsize(order)] = struct.pack(order, number)
        else:
            changed[at : at + 4] = random.choice(
                [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\xd8\xff\xda"]
            )
    return bytes(changed[: random.integers(len(changed) + 1)] if random.random() < 0.1 else changed)


def sealed(data: bytes) -> bytes:
    """A PNG whose checksums are right again, as far as its chunks go; else nothing behind them is ever tried."""
    changed, at = bytearray(data), 8
    while at + 12 <= len(changed):
        end = at + 8 + int.from_bytes(changed[at : at + 4], "big")
        if end + 4 > len(changed):
            break
        changed[end : end + 4] = zlib.crc32(changed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(changed)


def photos(kind: str, count: int, seed: int) -> list[bytes]:
    """So many damaged photos of a format, the same for the same seed."""
    random, right = np.random.default_rng([seed, sum(kind.encode())]), seeds()
    others = [data for family in right.values() for data in family]
    found = [
        mutated(right[kind][number % len(right[kind])], others[random.integers(len(others))], random)
        for number in range(count)
    ]
    return [sealed(data) if kind == "PNG" and number % 2 else data for number, data in enumerate(found)]


def _tried(inputs: Sequence[bytes], call: Callable[[bytes], object]) -> Tally:
    """In a child: every input in turn."""
    warnings.simplefilter("ignore")
    tally, before = Tally(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in inputs:
        start = time.perf_counter()
        try:
            call(data)
            tally.taken += 1
        except SpectraDermError:
            tally.refused += 1
        except BaseException as error:  # whatever else escapes is what we are after
            tally.wrong = repr(error)
        tally.seconds = max(tally.seconds, time.perf_counter() - start)
    tally.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return tally


def fuzz(inputs: Sequence[bytes], call: Callable[[bytes], object], keep: Path | None = None) -> Tally:
    """What comes of all inputs; what kills a child is found by halves."""
    total = Tally()
    for start in range(0, len(inputs), AT_ONCE):
        total.add(_part(inputs[start : start + AT_ONCE], call, keep))
    return total


def _part(inputs: Sequence[bytes], call: Callable[[bytes], object], keep: Path | None) -> Tally:
    said, status = forked(lambda: json.dumps(asdict(_tried(inputs, call))).encode(), LIMIT)
    found = Tally(**json.loads(said)) if said else Tally(wrong="a hang" if said is None else f"status {status}")
    if not found.wrong or len(inputs) == 1:
        if found.wrong and keep:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{abs(hash(inputs[0])):x}").write_bytes(inputs[0])
        return found
    half, found = len(inputs) // 2, Tally()
    for part in (inputs[:half], inputs[half:]):
        found.add(_part(part, call, keep))
    return found


def ask(onnx: bytes) -> None:
    """Load a network and ask it."""
    answer = Engine(onnx, threads=1)(np.full((1, 56, 56, 3), 90, np.uint8))
    float(answer.logits.sum())


def main() -> int:
    """Parse, fuzz, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    from hostile_models import flipped_graphs  # noqa: PLC0415 - here, for it imports torch

    kinds, wrong = list(seeds()), False
    print(f"{'format':18} {'inputs':>7} {'decoded':>8} {'refused':>8} {'worst s':>8} {'worst MB':>9}")
    for kind in [*kinds, "ONNX"]:
        count = given.models if kind == "ONNX" else -(-given.photos // len(kinds))
        inputs = flipped_graphs(count, given.seed) if kind == "ONNX" else photos(kind, count, given.seed)
        tally = fuzz(inputs, ask if kind == "ONNX" else decode, given.keep)
        wrong |= bool(tally.wrong)
        print(
            f"{kind:18} {len(inputs):7} {tally.taken:8} {tally.refused:8} {tally.seconds:8.2f} {tally.megabytes:9.0f}"
            f"  {tally.wrong}",
            flush=True,
        )
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
