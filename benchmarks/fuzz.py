"""Hostile bytes: does anything but a typed error or a result come of them, and what do they cost?

    OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--only NAME] [--photos 20000] [--models 5000] [--seed 1] [--keep DIR]

First the hostile photos and model folders of the tests, each in a forked child of its own: input, answer, seconds and
growth of memory in MB. Then painted photos of every format and a handmade network, with bits flipped, bytes replaced,
parts cut out, doubled or swapped with those of another format, and lengths raised, so many at a time. Where a child
dies or hangs its inputs are tried again by halves, and what did it is written to `--keep`. Exits 1 where an answer is
neither a typed error nor a result, or one of the first takes over 5 s (2 s on an idle machine) or 256 MB.
"""

import argparse
import importlib.util
import json
import resource
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import hostile
import hostile_models
from conftest import encode, paint
from measured import MEGABYTES, SECONDS, Attack, answers, forked

from spectraderm.core.errors import SpectraDermError
from spectraderm.images.decoding import decode
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.engine import Engine

AT_ONCE, LIMIT = 250, 120
"""Inputs per child, and the seconds it gets."""
TYPED = ("ok", "UnreadablePhoto", "ModelFolderError")
PIXELS, TINY = np.full((1, 56, 56, 3), 90, np.uint8), Preprocessing(size=56)


class Tally(NamedTuple):
    """What came of many inputs. `seconds` and `megabytes` are the worst of one input and of one child."""

    taken: int = 0
    refused: int = 0
    seconds: float = 0
    megabytes: float = 0
    wrong: str = ""


def seeds() -> dict[str, list[bytes]]:
    """By format, right photos to start from."""
    photo, exif = paint(1, (60, 44)), paint(1).getexif()
    exif[0x0112], exif[0x010E] = 6, "painted"
    grey, alpha = photo.convert("L"), photo.convert("RGBA")
    two = {"save_all": True, "append_images": [paint(2, (60, 44))]}
    ways = ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits")
    tiffs = [encode(photo, "TIFF", compression=way) for way in ways]
    found = {
        "JPEG": [encode(photo, exif=exif), encode(photo.convert("CMYK")), encode(grey), encode(photo, "MPO", **two)],
        "JPEG, progressive": [encode(photo, progressive=True), encode(grey, progressive=True)],
        "PNG": [encode(photo, "PNG", exif=exif), encode(photo.convert("P"), "PNG"), encode(alpha, "PNG", **two)],
        "WEBP": [encode(photo, "WEBP", exif=exif), encode(alpha, "WEBP", lossless=True), encode(photo, "WEBP", **two)],
        "BMP": [encode(photo, "BMP"), encode(grey, "BMP"), encode(photo.convert("1"), "BMP")],
        "TIFF": [*tiffs, encode(photo, "TIFF", exif=exif, big_tiff=True), encode(grey.convert("I;16"), "TIFF")],
        "GIF": [encode(photo, "GIF", comment="painted"), encode(photo, "GIF", **two)],
    }
    if importlib.util.find_spec("pillow_heif"):
        found["HEIC"] = [hostile.heic(photo), hostile.heic(alpha)]
    return found


def mutated(data: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """One to three changes; `other` lends bytes."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(min(max(len(changed), 8), random.choice([200, 1 << 30]))))
        length, kind = int(2 ** random.uniform(0, 8)), random.integers(7)
        if kind == 0:
            changed[at : at + 1] = bytes((random.integers(256),))
        elif kind == 1 and at < len(changed):
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * int(random.integers(1, 30))
        elif kind == 4:
            changed[at : at + length] = other[random.integers(len(other)) :][:length]
        elif kind == 5:
            size, order = int(random.choice([2, 4])), random.choice(["little", "big"])
            changed[at : at + size] = int(2 ** random.uniform(0, 16)).to_bytes(size, order)
        else:
            changed[at : at + 4] = bytes.fromhex(random.choice(["ffffffff", "7fffffff", "00000000", "ffd8ffda"]))
    return bytes(changed[: random.integers(len(changed) + 1)] if random.random() < 0.1 else changed)


def sealed(data: bytes) -> bytes:
    """A PNG whose checksums are right again, as far as its chunks go; else nothing behind them is ever tried."""
    changed, at = bytearray(data), 8
    while (end := at + 8 + int.from_bytes(changed[at : at + 4], "big")) + 4 <= len(changed):
        changed[end : end + 4] = zlib.crc32(changed[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(changed)


def photos(kind: str, count: int, seed: int) -> list[bytes]:
    """So many damaged photos of a format, the same for the same seed."""
    random, right = np.random.default_rng([seed, sum(kind.encode())]), seeds()
    others, own = [data for family in right.values() for data in family], right[kind]
    found = [mutated(own[n % len(own)], others[random.integers(len(others))], random) for n in range(count)]
    return [sealed(data) if kind == "PNG" and n % 2 else data for n, data in enumerate(found)]


def fuzz(inputs: Sequence[bytes], call: Callable[[bytes], object], keep: Path | None = None) -> Tally:
    """What comes of all inputs; what kills a child is found by halves."""
    found, half = Tally(wrong="too many"), len(inputs) // 2
    if len(inputs) <= AT_ONCE:
        said, status = forked(lambda: json.dumps(_tried(inputs, call)).encode(), LIMIT)
        found = Tally(*json.loads(said)) if said else Tally(wrong="a hang" if said is None else f"status {status}")
    if found.wrong and half:
        one, other = fuzz(inputs[:half], call, keep), fuzz(inputs[half:], call, keep)
        worst = max(one.seconds, other.seconds), max(one.megabytes, other.megabytes)
        return Tally(one.taken + other.taken, one.refused + other.refused, *worst, one.wrong or other.wrong)
    if found.wrong and keep:
        (keep / f"{zlib.crc32(inputs[0]):08x}").write_bytes(inputs[0])
    return found


def _tried(inputs: Sequence[bytes], call: Callable[[bytes], object]) -> Tally:
    """In a child: every input in turn."""
    warnings.simplefilter("ignore")
    taken, refused, seconds, wrong = 0, 0, list[float](), ""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in inputs:
        start = time.perf_counter()
        try:
            call(data)
            taken += 1
        except SpectraDermError:
            refused += 1
        except BaseException as error:  # whatever else escapes is what we are after
            wrong = repr(error)
        seconds.append(time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Tally(taken, refused, max(seconds), grown / 1024, wrong)


def attacked(only: str) -> bool:
    """Print the table of the attacks whose name contains `only`; whether all are answered as a door may."""
    attacks: dict[str, Attack] = hostile.ATTACKS | hostile.LARGE | hostile_models.ATTACKS  # type: ignore[operator]
    good = True
    print("| input | answer | s | MB |\n| --- | --- | --- | --- |")
    for name, answer in answers({name: attack for name, attack in attacks.items() if only in name}):
        fits = answer.kind in TYPED and answer.seconds < SECONDS and answer.megabytes < MEGABYTES
        said = answer.words.split("model/", 1)[-1].removeprefix("attack: ").split(". ")[0][:80]
        words = " ".join((said if answer.kind == "ok" else f"{answer.kind}: {said}").split()).replace("|", "/")
        print(f"| {name} | {words}{'' if fits else ' **!**'} | {answer.seconds:.2f} | {answer.megabytes:.0f} |")
        good &= fits
    return good


def main() -> int:
    """Try them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="attacks and formats whose name contains this")
    parser.add_argument("--photos", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder, which must exist")
    given = parser.parse_args()
    good, kinds = attacked(given.only), list(seeds())
    count = -(-given.photos // len(kinds))
    print("\n| format | inputs | taken | refused | worst s | worst MB |\n| --- | --- | --- | --- | --- | --- |")
    for kind in [kind for kind in (*kinds, "ONNX") if given.only in kind]:
        network = kind == "ONNX"
        inputs = hostile_models.flipped_graphs(given.models, given.seed) if network else photos(kind, count, given.seed)
        found = fuzz(inputs, (lambda onnx: Engine(onnx, TINY, threads=1)(PIXELS)) if network else decode, given.keep)
        counts = f"{len(inputs)} | {found.taken} | {found.refused}"
        print(f"| {kind} | {counts} | {found.seconds:.2f} | {found.megabytes:.0f} | {found.wrong}")
        good &= not found.wrong
    return int(not good)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        tempfile.tempdir = temporary  # where the model folders are written, and all that attacks may open
        sys.exit(main())
