"""kill -9 of every kind of process of a batch prediction, the same command again, and a count: `scale.py --kill`."""

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import scale

VICTIMS = {"local": ("driver",), "ray": ("driver", "Ray's process", "worker", "raylet", "gcs_server")}
"""The object store is a part of `raylet`."""
HEADER = ("engine", "killed", "tried", "in flight", "went on", "lost", "twice", "parts that differ", "left behind")
_GONE = 120


@dataclass
class Count:
    """What came of killing one kind of process.

    Attributes:
        tried: commands; in so many the process was killed `in_flight`, with shards done and shards to do.
        went_on: ended well without being run again.
        lost, twice: photos without an answer in the end, and with more than one.
        differ: parts with other bytes than those of an unbroken run.
        left: processes and temporary folders that were still there two minutes later.
    """

    tried: int = 0
    in_flight: int = 0
    went_on: int = 0
    lost: int = 0
    twice: int = 0
    differ: int = 0
    left: int = 0


def show(photos: Path, count: int, engines: list[str], given: argparse.Namespace) -> None:
    """Try them all, and print a line each."""
    moments = random.Random(given.seed)
    print("  ".join(f"{name:>17}" for name in HEADER), flush=True)
    for engine in engines:
        out = photos.with_name("out")
        command = scale.command(photos, out, engine, given)
        whole = scale.watched(command, engine, count, out)
        shutil.rmtree(out)
        for victim in VICTIMS[engine]:
            counted = Count()
            for _ in range(given.tries):
                one_try(command, out, victim, moments.random(), whole, counted)
            cells = [engine, victim, *map(str, vars(counted).values())]
            print("  ".join(f"{cell:>17}" for cell in cells), flush=True)


def one_try(command: list[str], out: Path, victim: str, moment: float, whole: scale.Told, counted: Count) -> None:
    """Kill a process when a share `moment` of the parts is there, have the command end, run it again, and count."""
    wanted = min(1 + int(moment * (len(whole.sums) - 1)), len(whole.sums) - 1)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=scale.environment() | {"TMPDIR": str(out.parent)}
        )
        while process.poll() is None and len(parts(out)) < wanted:
            time.sleep(0.02)
        tree = tuple(family(process.pid))
        counted.tried += 1
        counted.in_flight += kill(process.pid, victim) and len(parts(out)) < len(whole.sums)
        ended = process.wait(300)
    counted.went_on += ended == 0
    counted.left += len(still(tree)) + len(list(out.parent.glob("sd-*")))
    if ended:
        scale.watched(command, whole.engine, whole.photos, out)
    answered = Counter(path for name in ("predictions", "unreadable") for path in paths(out / name))
    counted.lost += whole.photos - len(answered)
    counted.twice += sum(times > 1 for times in answered.values())
    found = sums(out)
    counted.differ += sum(found.get(name) != digest for name, digest in whole.sums.items())
    shutil.rmtree(out)


def parts(out: Path) -> list[Path]:
    """Those that are whole."""
    return list((out / "predictions").glob("part-*.parquet"))


def sums(out: Path) -> dict[str, str]:
    """SHA-256 of every part, as the summary has it."""
    found: dict[str, str] = json.loads((out / "summary.json").read_text())["sha256"]
    return found


def paths(folder: Path) -> Iterator[str]:
    """The photos that are answered in the parts of a folder."""
    for file in folder.glob("part-*.parquet"):
        yield from pq.read_table(file, columns=["path"]).column("path").to_pylist()


def family(pid: int) -> Iterator[psutil.Process]:
    """A process and all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        yield psutil.Process(pid)
        yield from psutil.Process(pid).children(recursive=True)


def kill(pid: int, victim: str) -> bool:
    """End it by `kill -9`. False where there is no such process any more."""
    for one in family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if is_it(one, pid, victim):
                one.kill()
                return True
    return False


def is_it(one: psutil.Process, pid: int, victim: str) -> bool:
    """Whether a process is of that kind."""
    if victim == "driver":
        return bool(one.pid == pid)
    if victim == "Ray's process":
        return one.ppid() == pid and any("spawn_main" in word for word in one.cmdline())
    if victim == "worker":
        return bool(one.cmdline()) and "MapWorker" in one.cmdline()[0]
    return bool(one.name() == victim)


def still(tree: tuple[psutil.Process, ...]) -> list[psutil.Process]:
    """Processes that have not ended after two minutes."""
    _, alive = psutil.wait_procs(tree, timeout=_GONE)
    return [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


if __name__ == "__main__":
    sys.exit("python benchmarks/scale.py 1000 --kill")
