"""What happens when a process is killed at a write, the disk is full, a folder is not ours, or a file is damaged.

    python benchmarks/faults.py [--only full_disk clock ...]

Of each fault a line: what it was tried on and how often, what the program said, how many of its files were neither as
before nor whole and new (lost), and how often it did not go on to the result of an undisturbed run once the fault was
removed, as its words say.
"""

import argparse
import errno
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import children
from children import STAGES, OnWrite, Unbroken, World, content, copied, differing, started_in

NOBODY = 65534
DAMAGED = {
    "audit.json": ("train", "audit"),
    "manifest.csv": ("train", "audit"),
    "measurements.npz": ("evaluate", "audit"),
    "split.csv": ("train", "audit"),
    "config.json": ("calibrate", "train"),
    "folds/final/logits.csv": ("calibrate", "train"),
    "folds/final/features.npy": ("calibrate", "train"),
    "folds/final/history.csv": ("evaluate", "train"),
    "folds/final/checkpoint.safetensors": ("export", "train"),
    "calibration.json": ("evaluate", "calibrate"),
    "novelty.npy": ("export", "calibrate"),
}
"""A file, the stage that meets its damage, and the one that makes it anew."""
_DELETED = {"config.json": ("config.json", "folds")}
"""What its error's words say to delete."""

Chain = Mapping[str, Unbroken]


@dataclass(frozen=True)
class Outcome:
    """Of one try: the fault, what it was tried on, the program's words, and what went wrong, or nothing."""

    fault: str
    where: str
    said: str
    wrong: str = ""


def main() -> None:
    """Print a table. Exit code 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    given = parser.parse_args()
    print("| fault | on | tries | lost or not gone on | said, for one |\n| --- | --- | --- | --- | --- |", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        world = children.prepare(Path(folder))
        chain = children.unbroken_stages(world, STAGES)
        for name in given.only:
            found = list(FAULTS[name](world, chain))
            wrong = [one for one in found if one.wrong]
            failed += len(wrong)
            where = ", ".join(dict.fromkeys(one.where for one in found))
            said = found[-1].said.replace(folder, "...")
            print(f"| {found[0].fault} | {where} | {len(found)} | {len(wrong)} | {said} |", flush=True)
            for one in wrong[:3]:
                print(f"  {one.where}: {one.wrong}", flush=True)
    sys.exit(bool(failed))


def killed(world: World, chain: Chain, tries: int = 5) -> Iterator[Outcome]:
    """Kill -9 before one of its writes: later and later ones."""
    for name, unbroken in chain.items():
        for number in range(tries):
            run, last = copied(unbroken.before, world.root / "try"), 1 + int((number + 0.5) * unbroken.writes / tries)
            code, _ = started_in(world, name, run, on_write=_dying(last)).wait()
            if code != -signal.SIGKILL:
                yield Outcome("kill -9", name, "nothing", f"exit code {code}: it was not killed at write {last}")
            else:
                yield _gone_on(world, chain, name, run, "kill -9", "nothing")


def full_disk(world: World, chain: Chain, tries: int = 5) -> Iterator[Outcome]:
    """No space from one write on: later and later ones."""
    for name, unbroken in chain.items():
        for number in range(tries):
            first = 1 + int((number + 0.5) * unbroken.writes / tries)
            yield _disturbed(world, chain, name, "full disk", "disk is full", on_write=_failing(errno.ENOSPC, first))


def read_only(world: World, chain: Chain) -> Iterator[Outcome]:
    """A file system that can only be read."""
    for name in chain:
        fails = _failing(errno.EROFS, 1, also=("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"))
        yield _disturbed(world, chain, name, "read-only file system", "can only be read", on_write=fails)


def no_rights(world: World, chain: Chain) -> Iterator[Outcome]:
    """A folder of somebody else's. Asked as nobody, which only root can become."""
    if os.getuid():
        return
    for name in chain:
        yield _disturbed(world, chain, name, "wrong permissions", "you may not write", user=NOBODY)


def vanished_photo(world: World, chain: Chain) -> Iterator[Outcome]:
    """One that the audit has seen."""
    photo = min((world.photos / "train").rglob("*.jpg"))
    for name in [one for one in ("train", "export") if one in chain]:
        photo.rename(world.root / "away.jpg")
        yield _disturbed(
            world, chain, name, "vanished photo", photo.name, mended=lambda _: (world.root / "away.jpg").rename(photo)
        )


def damaged_file(world: World, chain: Chain, files: Sequence[str] = tuple(DAMAGED)) -> Iterator[Outcome]:
    """One byte is another one; then what the words say is done."""
    for file in files:
        name, source = DAMAGED[file]

        def mended(run: Path, file: str = file, source: str = source) -> object:
            for gone in _DELETED.get(file, (str(Path(file).parent),) if source == "train" else ()):
                shutil.rmtree(run / gone) if (run / gone).is_dir() else (run / gone).unlink()
            return started_in(world, source, run, again=True).wait()

        yield _disturbed(world, chain, name, "damaged file", Path(file).name, harmed=_flipped(file), mended=mended)


def damaged_state(world: World, chain: Chain) -> Iterator[Outcome]:
    """A training that was killed and is gone on with, from a state that is damaged."""
    run = copied(chain["train"].before, world.root / "try")
    for write in range(chain["train"].writes // 2, chain["train"].writes):
        started_in(world, "train", run, again=True, on_write=_dying(write)).wait()
        states = [path for name in ("state", "previous") for path in run.rglob(f"{name}.safetensors")]
        if states:
            break
    for state in states:
        _flip(state, 200)
    code, said = started_in(world, "train", run, again=True).wait()
    yield _judged("damaged state of a killed training", "train", (code, said), "state", "")
    for state in states:
        state.unlink()
    yield _gone_on(world, chain, "train", run, "damaged state of a killed training", said)


def clock(world: World, chain: Chain) -> Iterator[Outcome]:
    """Time of day goes back by an hour at every look, and files are of the future or the past."""
    for name, unbroken in chain.items():
        run = copied(unbroken.before, world.root / "try")
        for number, path in enumerate(sorted(run.rglob("*"))):
            os.utime(path, (4e9, 4e9) if number % 2 else (1e6, 1e6))
        code, said = started_in(world, name, run, before=_turn_back).wait()
        other = differing(content(unbroken.after), content(run))
        yield Outcome("clock going back", name, "nothing", said if code else ", ".join(other))


def two_runs(world: World, chain: Chain) -> Iterator[Outcome]:
    """A second one while the first is at work; then the first is killed, and the second one started again."""
    for name, unbroken in chain.items():
        run, gate = copied(unbroken.before, world.root / "try"), world.root / "gate"
        gate.unlink(missing_ok=True)
        first = started_in(world, name, run, on_write=_waiting(gate, unbroken.writes // 2))
        _until(gate.exists)
        before = content(run)
        code, said = started_in(world, name, run, again=True).wait()
        changed = "" if content(run) == before else "the second run changed files"
        yield _judged("two runs into one folder", name, (code, said), f"process {first.process} ", changed)
        os.kill(first.process, signal.SIGKILL)
        first.wait()
        yield _gone_on(world, chain, name, run, "two runs into one folder", said)


FAULTS: dict[str, Callable[[World, Chain], Iterator[Outcome]]] = {
    one.__name__: one
    for one in (killed, full_disk, read_only, no_rights, vanished_photo, damaged_file, damaged_state, clock, two_runs)
}


def _disturbed(
    world: World,
    chain: Chain,
    name: str,
    fault: str,
    expected: str,
    harmed: Callable[[Path], object] = lambda _: None,
    mended: Callable[[Path], object] = lambda _: None,
    **watched: Any,  # noqa: ANN401
) -> Outcome:
    """Run a stage with a fault, see what it says and leaves, mend the fault, and go on."""
    run = copied(chain[name].before, world.root / "try")
    harmed(run)
    before = content(run)
    ended = started_in(world, name, run, **watched).wait()
    whole = content(chain[name].after)
    found = content(run)
    old_or_new = {file: (before.get(file), whole.get(file)) for file in before.keys() | found.keys()}
    lost = [file for file, known in sorted(old_or_new.items()) if found.get(file) not in known and _final(file)]
    first = _judged(fault, name, ended, expected, f"lost: {', '.join(lost)}" if lost else "")
    mended(run)
    if first.wrong:
        return first
    return _gone_on(world, chain, name, run, fault, ended[1])


def _final(file: str) -> bool:
    """Not what a training only has while it is at work."""
    return not file.endswith("checksums.txt") and "folds/" not in file


def _judged(fault: str, where: str, ended: tuple[int, str], expected: str, wrong: str) -> Outcome:
    code, said = ended
    if code != 2:
        wrong = f"exit code {code}: {said}"
    elif expected not in said or ". " not in said or not re.search(r"\w/\w|\w\.\w{3}", said):
        wrong = f"said only: {said}"
    return Outcome(fault, where, said, wrong)


def _gone_on(world: World, chain: Chain, name: str, run: Path, fault: str, said: str) -> Outcome:
    code, words = started_in(world, name, run, again=True).wait()
    other = differing(content(chain[name].after), content(run))
    return Outcome(fault, name, said, f"not gone on: {words}" if code else ", ".join(other))


def _failing(number: int, first: int, also: tuple[str, ...] = ()) -> OnWrite:
    """From a write on, whatever needs space fails."""

    def fail(what: str, count: int, path: str) -> None:
        if count >= first and what in ("open", "os.mkdir", "fsync", *also):
            raise OSError(number, os.strerror(number), path or None)

    return fail


def _dying(last: int) -> OnWrite:
    """Before a write, kill the process."""

    def die(_: str, count: int, __: str) -> None:
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def _waiting(gate: Path, at: int) -> OnWrite:
    """At a write, make a file and wait for ever."""

    def wait(_: str, count: int, __: str) -> None:
        if count == at:
            gate.touch()
            time.sleep(300)

    return wait


def _until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)


def _flipped(file: str) -> Callable[[Path], None]:
    return lambda run: _flip(run / file)


def _flip(path: Path, place: int = -3) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def _turn_back() -> None:
    """Of this process, for good."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 3600
        return now[0]

    time.time = earlier


if __name__ == "__main__":
    main()
