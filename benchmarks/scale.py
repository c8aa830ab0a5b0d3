"""Batch prediction of many photos: rate, memory and growth, Ray against local, and what kill -9 costs.

    python benchmarks/scale.py [1000 10000 100000] [--engine local,ray] [--rounds 1]
    python benchmarks/scale.py 1000 --kill [--tries 5]
    python benchmarks/scale.py 1000 10000 --paper [--nodes 50] [--cores 16]

Some hundred painted photos (320x240, 12 KB), linked as often as it takes into folders of 1,000, and removed after. The
engines take their turns. Memory is that of all processes together every two seconds, each shared page counted once
(PSS). Rates are as the command tells them, without its start and its end. `--paper` prints from that what 100 million
photos take on a cluster, with all that is assumed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import growth
import psutil

_START = "from spectraderm.cli.commands import main; main()"
_RATE = re.compile(r"([\d.]+) photos a second")
_EVERY = 2  # to read page tables takes the time of photos
HEADER = ("engine", "photos", "photos/s", "seconds", "start s", "end s", "peak MB", "processes", "B/photo", "parts")


@dataclass(frozen=True)
class Told:
    """One command that ended well.

    Attributes:
        engine, photos: what it was asked for.
        rate: photos a second, while it was at work.
        seconds: all of it; of these `start` until the plan was written, `end` after the last part.
        peak: megabytes of all processes together, and at most so many `processes`.
        size: bytes of the parts, per photo.
        sums: SHA-256 of every part.
    """

    engine: str
    photos: int
    rate: float
    seconds: float
    start: float
    end: float
    peak: float
    processes: int
    size: float
    sums: dict[str, str]


def main() -> None:
    """Measure every size with every engine, and print a line each."""
    given = arguments()
    engines = given.engine.split(",")
    with tempfile.TemporaryDirectory() as folder:
        photos = growth.paint_some(Path(folder, "painted"), given.different)
        if given.kill:
            import scale_kill  # noqa: PLC0415

            count = given.photos[0]
            scale_kill.show(growth.link(photos, Path(folder, "photos"), count), count, engines, given)
            return
        print("  ".join(f"{name:>9}" for name in HEADER), flush=True)
        told = [one for count in given.photos for one in measured(photos, Path(folder), count, engines, given)]
    if len(engines) > 1:
        compare(told, engines)
    if given.paper:
        from scale_paper import paper  # noqa: PLC0415

        for engine in engines:
            paper([one for one in told if one.engine == engine], given.nodes, given.cores, given.kilobytes)


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--engine", default="local,ray", help="of these, in turns")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--different", type=int, default=growth.DIFFERENT, help="how many photos are painted")
    parser.add_argument("--model", default="", help="by default the one that comes along")
    parser.add_argument("--shard-size", type=int, default=0, help="photos per part; 512, and 32 with --kill")
    parser.add_argument("--kill", action="store_true", help="kill -9 of each kind of process, and go on")
    parser.add_argument("--tries", type=int, default=5, help="with --kill, of each kind")
    parser.add_argument("--seed", type=int, default=0, help="with --kill: draws the moments")
    parser.add_argument("--paper", action="store_true", help="print what a cluster takes, from these rates")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--cores", type=int, default=16, help="of each of these")
    parser.add_argument("--kilobytes", type=float, default=500, help="of a photo, there")
    return parser.parse_args()


def measured(
    photos: list[Path], folder: Path, count: int, engines: list[str], given: argparse.Namespace
) -> Iterator[Told]:
    """Predict a folder of so many photos by all engines, in turns; a line each."""
    linked = growth.link(photos, folder / "photos", count)
    for _ in range(given.rounds):
        for engine in engines:
            out = folder / "out"
            told = watched(command(linked, out, engine, given), engine, count, out)
            shutil.rmtree(out)
            values = (told.rate, told.seconds, told.start, told.end, told.peak)
            cells = [told.engine, str(count), *(f"{value:.1f}" for value in values)]
            cells += [str(told.processes), f"{told.size:.0f}", str(len(told.sums))]
            print("  ".join(f"{cell:>9}" for cell in cells), flush=True)
            yield told
    shutil.rmtree(linked)


def command(photos: Path, out: Path, engine: str, given: argparse.Namespace) -> list[str]:
    """The command that is measured."""
    options = ["--model", given.model] if given.model else []
    size = given.shard_size or (32 if given.kill else 512)
    options += ["--engine", engine, "--shard-size", str(size)]
    return [sys.executable, "-c", _START, "predict", str(photos), "--out", str(out), *options]


def watched(asked: list[str], engine: str, count: int, out: Path) -> Told:
    """Run it to its end; exits with what it said where it fails."""
    began = time.time()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(asked, stdout=said, stderr=said, env=environment())
        peak, most = 0.0, 0
        while process.poll() is None:
            held = memory(process.pid)
            peak, most = max(peak, sum(held)), max(most, len(held))
            time.sleep(_EVERY)
        seconds = time.time() - began
        said.seek(0)
        text = said.read()
    rate = _RATE.search(text)
    if process.returncode:
        sys.exit(f"{' '.join(asked)} ended with {process.returncode}:\n{text[-3000:]}")
    summary = json.loads((out / "summary.json").read_text())
    parts = list((out / "predictions").iterdir())
    start = (out / "photos.parquet").stat().st_mtime - began
    end = began + seconds - max(part.stat().st_mtime for part in parts)
    size = sum(part.stat().st_size for part in parts) / count
    if summary["photos"] != count:
        sys.exit(f"{count} photos, and {summary['photos']} answers")
    return Told(engine, count, float(rate[1] if rate else 0), seconds, start, end, peak, most, size, summary["sha256"])


def environment() -> dict[str, str]:
    """Of the caller, without what limits threads."""
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}


def memory(pid: int) -> list[float]:
    """Megabytes of a process and of all that it has started, each shared page in parts among those that share it."""
    held = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                held.append(one.memory_full_info().pss / (1 << 20))
    return held


def compare(told: list[Told], engines: list[str]) -> None:
    """How the other engines' rates are to the first one's, round by round, and whether all wrote the same bytes."""
    for count in dict.fromkeys(one.photos for one in told):
        own = [one for one in told if one.photos == count]
        same = all(one.sums == own[0].sums for one in own)
        sides = {engine: [one.rate for one in own if one.engine == engine] for engine in engines}
        for engine in engines[1:]:
            ratio = statistics.median(b / a for a, b in zip(sides[engines[0]], sides[engine], strict=True))
            print(f"{count} photos: {engine} has {ratio:.2f} times the rate of {engines[0]}", flush=True)
        print(f"{count} photos: {'the same bytes by all' if same else 'OTHER BYTES BY SOME'}", flush=True)


if __name__ == "__main__":
    main()
