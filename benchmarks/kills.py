"""kill -9 at random moments of every stage, the same command again, and a comparison with an unbroken run.

    python benchmarks/kills.py [--tries 10] [--seed 0] [--only audit train ...]

Painted photos, recipe `notebook`, offline backbone. Each try copies the run folder as the stage found it, starts the
stage as a user does, kills it after a random part of the stage's own duration, and starts it again. All files are then
compared byte for byte with those of a run that nothing disturbed, without times of day and durations. Exit code 1 where
a restart failed or a file differs.
"""

import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import timing

from spectraderm.data.synthetic import paint

COLUMNS = ("stage", "seconds", "tries", "killed in flight", "restarts refused", "results that differ")
_TIMES = {
    "history.csv": rb",[^,\n]*$",  # the last column: seconds
    "test_ledger.csv": rb"^[^,\n]*",  # the first column: when
    "report.html": rb"\d{4}-\d\d-\d\d[T ][\d:+.Z]*",
    "checksums.txt": rb".*(history\.csv|ledger\.csv|report\.html)$",
}


@dataclass
class Stage:
    """What is typed, with {photos} and {run}; what is added after a kill; and what an unbroken run took and left."""

    words: str
    again: str = ""
    seconds: float = 0.0
    expected: dict[str, bytes] = field(default_factory=dict)


STAGES = {
    "audit": Stage("audit {photos} --out {run} --no-crops"),
    "split": Stage("split {run} --split original"),
    "train": Stage("train {run} --recipe notebook --backbone open-nsfw-thin --epochs 4", " --resume"),
    "calibrate": Stage("calibrate {run}"),
    "evaluate": Stage("evaluate {run}"),
    "export": Stage("export {run}"),
    "predict": Stage("predict {photos} --model {run}/model --out {run}/answers --shard-size 8"),
}


def main() -> None:
    """Print a line per stage."""
    parser = timing.parser(__doc__)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        photos, before = Path(folder, "photos"), Path(folder, "before")
        paint(photos, per_class=8)
        for name, stage in STAGES.items():
            after = copied(before, Path(folder, "after"))
            started = time.perf_counter()
            if start(stage, photos, after).wait() > 1:
                sys.exit(f"{name} fails without being killed")
            stage.seconds, stage.expected = time.perf_counter() - started, content(after)
            if name in given.only:
                counts = kill_often(stage, photos, before, given.tries, random.Random(f"{name} {given.seed}"))
                print(f"| {name} | {stage.seconds:.1f} | {given.tries} | {' | '.join(map(str, counts))} |", flush=True)
                lost += counts[1] + counts[2]
            before = copied(after, Path(folder, "before"))
    sys.exit(bool(lost))


def kill_often(stage: Stage, photos: Path, before: Path, tries: int, draw: random.Random) -> tuple[int, int, int]:
    """Kill, start again, compare: how many were killed in flight, how many restarts failed, how many results differ."""
    killed = refused = differ = 0
    for _ in range(tries):
        run = copied(before, before.with_name("after"))
        process = start(stage, photos, run)
        time.sleep(draw.uniform(0, stage.seconds))
        killed += process.poll() is None
        process.kill()
        process.wait()
        if start(stage, photos, run, stage.again if (run / "config.json").is_file() else "").wait() > 1:
            refused += 1
        elif content(run) != stage.expected:
            differ += 1
            found = content(run)
            names = sorted(name for name in found | stage.expected if found.get(name) != stage.expected.get(name))
            print(f"differ: {', '.join(names)}", file=sys.stderr)
    return killed, refused, differ


def start(stage: Stage, photos: Path, run: Path, more: str = "") -> "subprocess.Popen[bytes]":
    """Start a stage as a user does."""
    words = (stage.words + more).format(photos=photos, run=run).split()
    nowhere = subprocess.DEVNULL
    command = [sys.executable, "-m", "spectraderm", *words]
    return subprocess.Popen(command, stdout=nowhere, stderr=nowhere, env=timing.environment(photos.parent / "cache"))


def copied(before: Path, after: Path) -> Path:
    """A copy of a folder, in place of what was there; nothing, where there is none yet."""
    shutil.rmtree(after, ignore_errors=True)
    if before.is_dir():
        shutil.copytree(before, after)
    return after


def content(run: Path) -> dict[str, bytes]:
    """All files by relative name, without caches, locks, times of day and durations."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and not name.startswith("cache/") and not path.name.startswith("."):
            pattern = _TIMES.get(path.name)
            data = path.read_bytes()
            found[name] = re.sub(pattern, b"", data, flags=re.MULTILINE) if pattern else data
    return found


if __name__ == "__main__":
    main()
