"""`predict --out` of many photos: rate, memory and growth; Ray beside local; and what kill -9 costs.

    python benchmarks/bulk.py [1000 10000 100000] [--engine local ray] [--rounds 1]
    python benchmarks/bulk.py 1000 --kill [--tries 5] [--seed 0]

Some painted photos (320x240), linked as often as it takes. The engines take their turns. Memory is that of all
processes together every two seconds, each shared page counted once (PSS). `--kill` stops the command at random moments
and goes on; at the end every photo has one row, equal to that of an unbroken run.
"""

import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import timing

DIFFERENT = 200


@dataclass(frozen=True)
class Measured:
    """A command that ended well: seconds, photos a second, peak MB of all processes, bytes a photo of what it wrote."""

    seconds: float
    rate: float
    peak: float
    size: float


def main() -> None:
    """Measure every size with every engine, a line each; or kill."""
    parser = timing.parser(__doc__)
    parser.add_argument("photos", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--engine", nargs="+", default=["local"], choices=["local", "ray"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="default")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"{timing.machine()}\n\n| engine | photos | photos/s | seconds | MB | bytes a photo |\n|{' --- |' * 6}")
    for count in given.photos:
        with tempfile.TemporaryDirectory() as folder:
            painted = [timing.painted(Path(folder, f"{n}.jpg"), (320, 240), n) for n in range(min(count, DIFFERENT))]
            photos, out = timing.link(painted, Path(folder, "photos"), count), Path(folder, "out")
            for engine in given.engine * given.rounds:
                shutil.rmtree(out, ignore_errors=True)
                if given.kill:
                    kill_often(command(photos, out, engine, given.model), out, count, given.tries, given.seed)
                    continue
                told = measure(command(photos, out, engine, given.model), out, count)
                numbers = f"{told.rate:.1f} | {told.seconds:.0f} | {told.peak:.0f} | {told.size:.0f}"
                print(f"| {engine} | {count} | {numbers} |", flush=True)


def command(photos: Path, out: Path, engine: str, model: str) -> list[str]:
    """The command that is measured."""
    words = ["predict", str(photos), "--out", str(out), "--engine", engine, "--model", model, "--shard-size", "64"]
    return [sys.executable, "-m", "spectraderm", *words]


def measure(words: list[str], out: Path, count: int) -> Measured:
    """Run it to its end; exits with what it printed where it fails or a photo lacks."""
    began, peak = time.perf_counter(), 0.0
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(words, stdout=printed, stderr=printed, env=timing.environment())
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(2)
        printed.seek(0)
        if process.returncode or json.loads((out / "summary.json").read_text())["photos"] != count:
            sys.exit(f"{' '.join(words)} ended with {process.returncode}:\n{printed.read()[-3000:]}")
    seconds = time.perf_counter() - began
    size = sum(path.stat().st_size for path in (out / "predictions").iterdir()) / count
    return Measured(seconds, count / seconds, peak, size)


def memory(pid: int) -> float:
    """Megabytes of a process and of all that it started, each shared page in parts among those that share it."""
    held = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                held += process.memory_full_info().pss / 1e6
    return held


def rows(out: Path) -> pa.Table:
    """All rows of an output folder, by path."""
    parts = [pq.read_table(path) for path in sorted((out / "predictions").glob("*.parquet"))]
    return pa.concat_tables(parts).sort_by("path")


def kill_often(words: list[str], out: Path, count: int, tries: int, seed: int) -> None:
    """Kill the command at random moments, let it end, and compare its rows with those of an unbroken run."""
    seconds = measure(words, out, count).seconds
    unbroken = rows(out)
    shutil.rmtree(out)
    draw, killed = random.Random(seed), 0
    for _ in range(tries):
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env=timing.environment())
        time.sleep(draw.uniform(0, seconds / 2))
        killed += process.poll() is None
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
        process.wait()
    measure(words, out, count)
    same = rows(out).equals(unbroken)
    print(f"killed {killed} of {tries} times in flight; rows {'equal' if same else 'DIFFER'}", flush=True)
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
