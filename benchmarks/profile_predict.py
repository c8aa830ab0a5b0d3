"""Where the time of one prediction goes, stage by stage, and where the time of starting up goes.

    python benchmarks/profile_predict.py [PHOTO ...] [--model MODEL] [--times 50] [--folder PHOTOS]

Without a photo, painted ones of 0.3 and 12 megapixels. The stages are those of `Classifier.predict`, timed by wrapping
the functions that it calls, in this process; the median of all calls after three that warm up. A stage that is not
called shows as `-`. Start-up: a new process each time, by what it was asked to do. `--folder`: photos a second of a
folder, beside the network alone on the same pixels, which were made before; both by as many threads, in turns.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import timing
from timing import painted

import spectraderm
from spectraderm.core.parallel import in_order
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
    ("words", classifier.Classifier, "_worded"),
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
        print("| stage, ms |" + "".join(f" {photo.name} |" for photo in photos) + "\n| --- |" + " --- |" * len(photos))
        columns = [stages(model, str(photo), given.times) for photo in photos]
        for name in columns[0]:
            print(f"| {name} |" + "".join(f" {column[name]} |" for column in columns), flush=True)
        if given.folder:
            many(model, given.folder)
        if given.starts:
            starts(given.model, str(photos[0]), given.starts)


def stages(model: spectraderm.Classifier, photo: str, times: int) -> dict[str, str]:
    """Milliseconds of every stage of predicting one photo, and what is left."""
    taken: Taken = {}
    with ExitStack() as patched:
        for name, owner, attribute in STAGES:
            if hasattr(owner, attribute):
                measured = timed(name, getattr(owner, attribute), taken)
                patched.enter_context(mock.patch.object(owner, attribute, measured))
        for _ in range(WARM + times):
            timed("all", model.predict, taken)(photo)
    of_all = {name: taken.get(name, []) for name in (*(stage[0] for stage in STAGES), "all")}
    medians = {name: 1000 * statistics.median(one[WARM:]) for name, one in of_all.items() if one}
    rest = medians["all"] - sum(value for name, value in medians.items() if name != "all")
    return {name: f"{medians[name]:.2f}" if name in medians else "-" for name in of_all} | {"the rest": f"{rest:.2f}"}


def many(model: spectraderm.Classifier, folder: Path, rounds: int = 5) -> None:
    """Print the rate of a folder, that of the network alone, and the share of the one in the other."""
    classifier, threads = model.for_many()
    paths = sorted(str(path) for path in folder.rglob("*") if path.is_file())
    pixels = [classifier.pixels(path)[None] for path in paths]
    taken: Taken = {}
    for _ in range(1 + rounds):
        for name, work, things in (("a folder", classifier.predict, paths), ("network", classifier.engine, pixels)):
            timed(name, lambda work=work, things=things: list(in_order(work, things, threads)), taken)()
    rates = {name: [len(paths) / seconds for seconds in values[1:]] for name, values in taken.items()}
    shares = [100 * whole / alone for whole, alone in zip(rates["a folder"], rates["network"], strict=True)]
    print(
        f"\n{len(paths)} photos a second by {threads} threads: "
        + ", ".join(f"{name} {timing.spread(values)}" for name, values in (rates | {"in %": shares}).items())
    )


def timed(name: str, call: Callable[..., Any], taken: Taken) -> Callable[..., Any]:
    """The same function, which notes its seconds."""

    @wraps(call)
    def inner(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        start = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            taken.setdefault(name, []).append(time.perf_counter() - start)

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
