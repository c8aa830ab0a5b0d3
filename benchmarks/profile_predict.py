"""Where the time of one prediction goes, stage by stage, and where the time of starting up goes.

    python benchmarks/profile_predict.py [PHOTO ...] [--model MODEL] [--times 50] [--folder PHOTOS]

Without a photo, painted ones of 0.3 and 12 megapixels. The stages are those of `Classifier.predict`, timed by wrapping
the functions that it calls, in this process; the median of all calls after three that warm up. A stage that is not
called shows as `-`. Start-up: a new process each time, by what it was asked to do. `--folder`: the processor's time of
every stage for a photo of a folder, by one thread; and photos a second of the folder, as `predict_each` takes it,
beside the network alone on the same pixels, which were made before, by as many threads, in turns.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import timing
from timing import painted

import spectraderm
from spectraderm.core.parallel import chunks, in_chunks
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import classifier
from spectraderm.inference.calibration import Calibration, References
from spectraderm.inference.engine import Engine

STAGES = (
    ("read and decode", classifier, "open_photo"),
    ("measure quality", classifier, "measure"),
    ("fit to the network", Preprocessing, "__call__"),
    ("network", Engine, "__call__"),
    ("perceptual hash", classifier, "turned_hashes"),
    ("compare with training photos", classifier, "nearest"),
    ("novelty", References, "novelty"),
    ("probabilities and verdict", Calibration, "judge"),
    ("words", classifier, "worded"),
)
STARTS = {
    "Python alone": "",
    "import spectraderm": "import spectraderm",
    "import the classifier": "import spectraderm.inference.classifier",
    "load the model": "import spectraderm; spectraderm.load_model({model})",
    "and ask it once": "import spectraderm; spectraderm.load_model({model}).predict({photo!r})",
}
WARM = 3
Taken = dict[str, list[float]]


def main() -> None:
    """Print both tables."""
    parser = timing.parser(__doc__)
    parser.add_argument("photos", type=Path, nargs="*")
    parser.add_argument("--model", help="by default the one that comes along")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--starts", type=int, default=5, help="0: leave start-up out")
    parser.add_argument("--folder", type=Path, help="a folder of photos, for the rate of many")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        drawn = [painted(Path(folder, f"{size[0]}x{size[1]}.jpg"), size) for size in ((640, 480), (4000, 3000))]
        photos = given.photos or drawn
        model = spectraderm.load_model(given.model)
        columns = {photo.name: stages(model, str(photo), given.times) for photo in photos}
        if given.folder:
            paths = sorted(str(path) for path in given.folder.rglob("*") if path.is_file())
            classifier, threads = model.for_many()
            columns[f"{len(paths)} photos, processor time of each"] = stages_of_many(classifier, paths)
        print("| stage, ms |" + "".join(f" {name} |" for name in columns) + "\n| --- |" + " --- |" * len(columns))
        for name in [*(stage[0] for stage in STAGES), "all", "the rest"]:
            print(f"| {name} |" + "".join(f" {column[name]} |" for column in columns.values()), flush=True)
        if given.folder:
            many(classifier, threads, paths)
        if given.starts:
            starts(given.model, str(photos[0]), given.starts)


def stages(model: spectraderm.Classifier, photo: str, times: int) -> dict[str, str]:
    """Milliseconds of every stage of predicting one photo, and what is left."""
    with measured() as taken:
        for _ in range(WARM + times):
            timed("all", model.predict, taken)(photo)
    return table({name: 1000 * statistics.median(one[WARM:]) for name, one in taken.items()})


def stages_of_many(classifier: spectraderm.Classifier, paths: list[str]) -> dict[str, str]:
    """The same of many photos, a few at a time: means of one thread's processor time."""

    def answer(few: list[str]) -> object:
        return classifier.predict_opened(map(classifier.opened, few))

    answer(paths[:WARM])
    with measured(time.thread_time) as taken:
        for few in chunks(paths):
            timed("all", answer, taken, time.thread_time)(few)
    return table({name: 1000 * sum(one) / len(paths) for name, one in taken.items()})


@contextmanager
def measured(clock: Callable[[], float] = time.perf_counter) -> Iterator[Taken]:
    """Note the seconds of every call of a stage."""
    taken: Taken = {}
    with ExitStack() as patched:
        for name, owner, attribute in STAGES:
            call = timed(name, getattr(owner, attribute), taken, clock)
            patched.enter_context(mock.patch.object(owner, attribute, call))
        yield taken


def table(values: dict[str, float]) -> dict[str, str]:
    """A column: every stage, all, and the rest."""
    rest = values["all"] - sum(value for name, value in values.items() if name != "all")
    names = [*(name for name, *_ in STAGES), "all"]
    return {name: f"{values[name]:.2f}" if name in values else "-" for name in names} | {"the rest": f"{rest:.2f}"}


def many(classifier: spectraderm.Classifier, threads: int, paths: list[str], rounds: int = 5) -> None:
    """Print the rate of a folder, that of the network alone, and the share of the one in the other."""
    pixels = [classifier.pixels(path)[None] for path in paths]
    sides = {
        "a folder": (lambda few: classifier.predict_opened(map(classifier.opened, few)), paths),
        "network": (lambda few: [classifier.engine(one) for one in few], pixels),
    }
    taken: Taken = {}
    for _ in range(1 + rounds):
        for name, (work, things) in sides.items():
            timed(name, lambda work=work, things=things: list(in_chunks(work, things, threads)), taken)()
    rates = {name: [len(paths) / seconds for seconds in values[1:]] for name, values in taken.items()}
    shares = [100 * whole / alone for whole, alone in zip(rates["a folder"], rates["network"], strict=True)]
    print(
        f"\n{len(paths)} photos a second by {threads} threads: "
        + ", ".join(f"{name} {timing.spread(values)}" for name, values in (rates | {"in %": shares}).items())
    )


def timed(
    name: str, call: Callable[..., Any], taken: Taken, clock: Callable[[], float] = time.perf_counter
) -> Callable[..., Any]:
    """The same function, which notes its seconds."""

    @wraps(call)
    def inner(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        start = clock()
        try:
            return call(*arguments, **named)
        finally:
            taken.setdefault(name, []).append(clock() - start)

    return inner


def starts(model: str | None, photo: str, times: int) -> None:
    """Print how long new processes take, in turns."""
    taken: Taken = {}
    programs = {name: words.format(model=repr(model), photo=photo) for name, words in STARTS.items()}
    for _ in range(times):
        for name, words in programs.items():
            command = [sys.executable, "-c", words]
            timed(name, lambda command=command: subprocess.run(command, check=True, env=timing.environment()), taken)()
        command = ["predict", photo, "--format", "jsonl", *(("--model", model) if model else ())]
        taken.setdefault("spectraderm predict", []).append(timing.spectraderm(*command).first)
    print("\n| start-up, ms | |\n| --- | --- |")
    for name, values in taken.items():
        print(f"| {name} | {timing.spread([1000 * value for value in values])} |")


if __name__ == "__main__":
    main()
