"""A full disk, a read-only folder, a folder of somebody else, a damaged file, a vanished photo, two writers.

    python benchmarks/faults.py [--only full_disk two_writers ...]

Painted photos, recipe `notebook`, offline backbone. A line per fault: the stages it was tried on and how often; how
many tries lost a file (neither as before nor whole and new), said nothing helpful, or did not go on to the result of an
undisturbed run once the fault was mended as its words say; and the words of one. Exit code 1 where one did.
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import timing
from kills import content, copied

from spectraderm import pipeline
from spectraderm.core.errors import SpectraDermError, of_system
from spectraderm.core.run import CONFIG, MODEL
from spectraderm.data.synthetic import paint
from spectraderm.inference.bulk import job
from spectraderm.inference.model_folder import open_model
from spectraderm.training.options import Options

DAMAGED = {
    "train": (("manifest.csv", "audit"), ("split.csv", "audit")),
    "calibrate": (("config.json", "train"), ("folds/final/logits.csv", "train")),
    "evaluate": (("measurements.npz", "audit"), ("calibration.json", "calibrate")),
    "export": (("folds/final/checkpoint.safetensors", "train"), ("novelty.npy", "calibrate")),
}
"""By the stage that meets the damage, the files, and the stage that makes each anew."""
WORKING = ("folds/", "checksums.txt", "out/remaining")  # what a stage at work changes, and makes anew
HOLD = "import sys; from pathlib import Path; from spectraderm.core.locks import only_writer\n"
HOLD += "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@dataclass(frozen=True)
class World:
    """Photos, how they are trained on, and of each stage the run folder before and after it, and its writes."""

    root: Path
    photos: Path
    options: Options
    unbroken: dict[str, tuple[Path, Path, int]] = field(default_factory=dict)

    def work(self, stage: str, run: Path) -> None:
        """Do a stage, without the features that an earlier try has kept."""
        shutil.rmtree(self.root / "cache", ignore_errors=True)
        with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(self.root / "cache")}):  # where no rights are no fault
            os.environ.pop("SPECTRADERM_CACHE", None)
            STAGES[stage](self, run)

    def prepare(self, *stages: str) -> "World":
        """Do these stages undisturbed, one after the other."""
        before = self.root / "nothing"
        for stage in stages:
            after = copied(before, self.root / f"{stage}-unbroken")
            with mock.patch.object(os, "fsync", wraps=os.fsync) as sync:
                self.work(stage, after)
            self.unbroken[stage] = before, after, sync.call_count
            before = after
        return self


STAGES: dict[str, Callable[[World, Path], object]] = {
    "audit": lambda world, run: (
        pipeline.audit(world.photos, run, look_for_crops=False),
        pipeline.split(run, "original", 1, 0),
    ),
    "train": lambda world, run: pipeline.train(run, replace(world.options, resume=(run / CONFIG).is_file())),
    "calibrate": lambda _, run: pipeline.calibrate(run),
    "evaluate": lambda _, run: pipeline.evaluate(run),
    "export": lambda _, run: pipeline.export(run),
    "predict": lambda world, run: job.predict(open_model(run / MODEL), [str(world.photos)], str(run / "out")),
}


def full_disk(world: World, stage: str, _: Path, number: int) -> Iterator[None]:
    """No space from one write on: later and later ones."""
    left = 2 * int((number + 0.5) * world.unbroken[stage][2] / FAULTS["full_disk"].tries / 2)  # not a folder's sync
    errors = [OSError(errno.ENOSPC, "No space left on device")] * 1000
    with mock.patch.object(os, "fsync", side_effect=[*[None] * left, *errors]):
        yield


def read_only(_: World, __: str, run: Path, ___: int) -> Iterator[None]:
    """A file system that can only be read."""
    opening = os.open

    def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:  # noqa: ANN401
        if str(path).startswith(str(run)) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opening(path, flags, *rest, **named)

    with mock.patch.object(os, "open", opened):
        yield


def no_rights(*_: object) -> Iterator[None]:
    """A folder of root's, met by somebody else, which only root can become."""
    os.seteuid(65534)
    yield
    os.seteuid(0)


def vanished_photo(world: World, *_: object) -> Iterator[None]:
    """One that the audit has seen."""
    photo = min(world.photos.rglob("train*/*/*.jpg"))
    photo.rename(world.root / "away.jpg")
    yield
    (world.root / "away.jpg").rename(photo)


def damaged_file(world: World, stage: str, run: Path, number: int) -> Iterator[None]:
    """One bit is another one; then what the words say is done."""
    file, source = DAMAGED[stage][number]
    data = bytearray((run / file).read_bytes())
    data[-3] ^= 1
    (run / file).write_bytes(data)
    yield
    if source == "train":
        shutil.rmtree(run / "folds")
        (run / file).unlink(missing_ok=True)
    world.work(source, run)


def two_writers(_: World, stage: str, run: Path, __: int) -> Iterator[None]:
    """A second one while the first is at work; then the first is killed."""
    command = [sys.executable, "-c", HOLD, str(run / "out" if stage == "predict" else run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield
        process.kill()


class Fault(NamedTuple):
    """What happens around a stage, what is then read, on which stages it is tried, and how often on each."""

    happens: Callable[[World, str, Path, int], Iterator[None]]
    words: str
    stages: Collection[str] = tuple(STAGES)
    tries: int = 1


FAULTS = {
    "full_disk": Fault(full_disk, "the disk is full. Free space", tries=3),
    "read_only": Fault(read_only, "its file system can only be read. Give a folder elsewhere"),
    "no_rights": Fault(no_rights, "you may not write there. Give yourself the right", () if os.getuid() else STAGES),
    "vanished_photo": Fault(vanished_photo, ".jpg", ("train", "export")),
    "damaged_file": Fault(damaged_file, "is damaged or was changed: its SHA-256 is not", DAMAGED, 2),
    "two_writers": Fault(two_writers, "is being written to by process"),
}


def outcomes(world: World, name: str) -> Iterator[tuple[str, str, str]]:
    """Disturb every stage, mend it, go on: the stage, the program's words, and what went wrong, or nothing."""
    fault = FAULTS[name]
    for stage, number in product([one for one in world.unbroken if one in fault.stages], range(fault.tries)):
        before, after, _ = world.unbroken[stage]
        run, whole, said = copied(before, world.root / "try"), content(after), ""
        with contextmanager(fault.happens)(world, stage, run, number):
            start = content(run)
            try:
                world.work(stage, run)
            except (SpectraDermError, OSError) as error:  # as `console.run` does
                said = str(error if isinstance(error, SpectraDermError) else of_system(error))
            wrong = "" if fault.words in said and ". " in said else f"said only: {said}"
            for file, data in content(run).items():
                if data not in (start.get(file), whole.get(file)) and not file.startswith(WORKING):
                    wrong = f"lost: {file}"
        try:
            world.work(stage, run)
        except SpectraDermError as error:
            wrong = wrong or f"not gone on: {error}"
        found = content(run)
        other = [file for file in sorted(found | whole) if found.get(file) != whole.get(file)]
        yield stage, said, wrong or ", ".join(other)


def main() -> None:
    """Print a table."""
    parser = timing.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # for somebody else, too
        paint(Path(folder, "photos"), per_class=8)
        options = Options("notebook", "open-nsfw-thin", "original", 1, device="cpu", changes={"epochs": 2})
        world = World(Path(folder), Path(folder, "photos"), options).prepare(*STAGES)
        print("| fault | on | tries | wrong | said, for one |\n| --- | --- | --- | --- | --- |", flush=True)
        for name in given.only:
            found = list(outcomes(world, name))
            wrong = [f"{stage}: {why}" for stage, _, why in found if why]
            failed += len(wrong)
            stages = ", ".join(dict.fromkeys(stage for stage, _, _ in found))
            said = found[-1][1].replace(folder, "...") if found else "only root can try"
            print(f"| {name} | {stages} | {len(found)} | {len(wrong)} | {said} |", *wrong[:3], sep="\n  ", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
