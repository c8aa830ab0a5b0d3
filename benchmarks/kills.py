"""kill -9 at random moments of every stage, the same command again, and a comparison with an unbroken run.

    python benchmarks/kills.py [--tries 100] [--seed 0] [--only audit train ...]

Every other try is killed at a random time of the stage's own duration, the others just before one of its writes (an
open, mkdir, fsync, rename or unlink), spread over all of them. Every fifth is killed once more while it goes on.
All files of the folder are then compared byte for byte with those of a run that nothing disturbed, but for
`history.csv`'s column of seconds; the clock that `test_ledger.csv` reads stands still. A process that has imported
everything forks one child per try, so that 100 kills take minutes.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from broken import STAGES, Unbroken, World, content, copied, differing, prepare, started_in, unbroken_stages

_OFTEN = 10
"""So often is a try begun anew that had ended before it was killed."""
COLUMNS = ("stage", "kills tried", "killed in flight", "killed twice", "restarts refused", "results that differ")


@dataclass
class Count:
    """What came of the tries of one stage; `first` says of the first bad one what was wrong."""

    tried: int = 0
    killed: int = 0
    twice: int = 0
    refused: int = 0
    differ: int = 0
    first: str = ""


def main() -> None:
    """Print a line per stage. Exit code 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    given = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} | unbroken |\n|{' --- |' * (len(COLUMNS) + 1)}", flush=True)
    lost = 0
    with tempfile.TemporaryDirectory() as folder:
        world = prepare(Path(folder))
        stages = unbroken_stages(world, given.only)
        for name in given.only:
            unbroken = stages[name]
            found = kill_often(world, name, unbroken, given.tries, given.seed)
            cells = (name, found.tried, found.killed, found.twice, found.refused, found.differ)
            told = f"{unbroken.seconds:.1f} s, {unbroken.writes} writes"
            print(f"| {' | '.join(map(str, cells))} | {told} |{found.first}", flush=True)
            lost += found.refused + found.differ
    sys.exit(bool(lost))


def kill_often(world: World, name: str, unbroken: Unbroken, tries: int, seed: int) -> Count:
    """Kill a stage so many times, go on with it, and compare."""
    draw, count, expected = random.Random(f"{name} {seed}"), Count(), content(unbroken.after)
    began, again = time.perf_counter(), copied(unbroken.before, world.root / "try")
    started_in(world, name, again).wait()  # the first time takes longer
    unbroken = replace(unbroken, seconds=time.perf_counter() - began)
    for number in range(tries):
        count.tried += 1
        for _ in range(_OFTEN):
            out = copied(unbroken.before, world.root / "try")
            if died := kill(world, name, out, unbroken, (number, tries), draw):
                break
            unbroken = replace(unbroken, seconds=0.95 * unbroken.seconds)  # it had ended before
        count.killed += died
        if died and number % 5 == 4:
            died = kill(world, name, out, unbroken, (draw.randrange(tries), tries), draw, again=True)
            count.twice += died
        code, words = started_in(world, name, out, again=True).wait() if died else (0, "")
        if code:
            count.refused += 1
            count.first = count.first or f" try {number}: {words}"
        elif other := differing(expected, content(out)):
            count.differ += 1
            count.first = count.first or f" try {number}: {', '.join(other)}"
    return count


def kill(
    world: World,
    name: str,
    out: Path,
    unbroken: Unbroken,
    which: tuple[int, int],
    draw: random.Random,
    again: bool = False,
) -> bool:
    """Start a stage and kill it, at a time or at a write that this try of so many has; False where it ended before."""
    number, tries = which
    part = min(0.999, (number // 2 + draw.random()) / max(1, tries / 2))
    if number % 2:
        child = started_in(world, name, out, again, die_at=1 + int(part * unbroken.writes))
        return child.wait()[0] == -signal.SIGKILL
    child = started_in(world, name, out, again)
    time.sleep(unbroken.seconds * part)
    return child.kill()


if __name__ == "__main__":
    main()
