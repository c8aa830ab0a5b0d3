"""What the comparisons with peers share: how both sides are run and watched, and how their times become lines."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PEERS = Path(".venv-peers/bin/python")
WANTED = "not measured: make bench-peers"
_OURS = "from spectraderm.cli.commands import main; main()"


@dataclass(frozen=True)
class Row:
    """One comparison, round by round.

    Attributes:
        what: what was done; `peer` who else did it, and `subject` with what we did.
        theirs, ours: one number each per round; theirs is empty where the peer is not installed.
        unit: s, ms or MB; less is better.
        bound: what the machine itself needs stands in `theirs`, so that the ratio is turned around.
    """

    what: str
    peer: str
    subject: str
    theirs: list[float]
    ours: list[float]
    unit: str = "s"
    bound: bool = False

    @property
    def ratios(self) -> list[float]:
        """How many times better we are, round by round; or how many times the bound."""
        pairs = zip(self.theirs, self.ours, strict=True) if self.theirs else ()
        return [b / a if self.bound else a / b for a, b in pairs]


@dataclass(frozen=True)
class Watched:
    """A command that ended: seconds to its first line and to its end, peak MB, lines, and the last one as JSON."""

    first: float
    seconds: float
    peak: float
    lines: int
    said: dict[str, Any] = field(default_factory=dict)


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every comparison has."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("data", type=Path, nargs="?", help="folder with train_set and test_set; painted if not given")
    made.add_argument("--work", type=Path, default=Path("runs/bench"), help="what is prepared once goes there")
    made.add_argument("--peers", type=Path, default=PEERS, help="Python of the environment that has the peers")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--smoke", action="store_true", help="tiny, painted, one round, without peers: does it run?")
    return made


def ours(*arguments: object, cache: Path | None = None) -> Watched:
    """Run a command of `spectraderm`, `cache` being its folder for what can be made again."""
    return watched([sys.executable, "-c", _OURS, *map(str, arguments)], cache)


def program(python: str | Path, name: str, *arguments: object) -> list[str]:
    """The command that runs one of `benchmarks/peers`."""
    return [str(python), str(HERE / "peers" / name), *map(str, arguments)]


def watched(command: list[str], cache: Path | None = None) -> Watched:
    """Run a command; exits with what it said where it fails (1 means that `predict` could not read some photo)."""
    watching = [sys.executable, "-S", str(HERE / "watch.py"), *command]
    done = subprocess.run(watching, capture_output=True, text=True, env=environment(cache), check=False)
    if done.returncode not in (0, 1) or not done.stdout:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    last = told.pop("last")
    if done.returncode and not told["lines"]:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return Watched(**told, said=json.loads(last) if last.startswith("{") else {})


def environment(cache: Path | None = None) -> dict[str, str]:
    """Of the caller, without what limits threads, so that every side gets all cores."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return kept | ({"SPECTRADERM_CACHE": str(cache)} if cache else {})


def spread(values: list[float], unit: str = "") -> str:
    """Median, lowest and highest, to three digits."""
    low, middle, high = (_short(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle}{f' {unit}' if unit else ''} ({low}-{high})"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cells(row: Row) -> tuple[str, ...]:
    """A row's parts as words."""
    theirs = spread(row.theirs, row.unit) if row.theirs else WANTED
    ratio = f"{spread(row.ratios)} x" if row.theirs else ""
    return row.what, row.peer, theirs, row.subject, spread(row.ours, row.unit), ratio


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come, a line each."""
    for row in rows:
        what, peer, theirs, subject, mine, ratio = cells(row)
        end = f"; {ratio}{' of the bound' if row.bound else ''}" if ratio else ""
        print(f"{what}: {peer} {theirs}; {subject} {mine}{end}", flush=True)
