"""How long `spectraderm audit` takes, and how much memory, on folders of many painted photos with planted copies.

    python benchmarks/audit.py [1000 10000 100000] [--crops]

Paints small photos of a few waves into a temporary folder, a tenth of them copies: turned, rescaled and encoded anew.
Without `--crops` the audit gets `--no-crops`: with crops it does some 15 photos a second.
"""

import contextlib
import csv
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import timing
from PIL import Image

CLASSES, COPIES, TESTED, WORKERS = ("a", "b", "c"), 10, 5, 2  # every 10th photo is a copy, every 5th is a test photo
SIDE = 96


def main() -> None:
    """Measure every size, and print a line each."""
    parser = timing.parser(__doc__)
    parser.add_argument("photos", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--crops", action="store_true", help="look for crops, too")
    arguments = parser.parse_args()
    names = ("photos", "seconds", "CPU s", "photos/s", "peak MB", "planted", "found")
    print(*(f"{name:>8}" for name in names), flush=True)
    for count in arguments.photos:
        seconds, spent, peak, planted, found = measure(count, arguments.crops)
        rate = count / seconds
        print(f"{count:8} {seconds:8.1f} {spent:8.1f} {rate:8.0f} {peak:8.0f} {planted:8} {found:8}", flush=True)


def measure(count: int, crops: bool) -> tuple[float, float, float, int, int]:
    """Paint `count` photos and audit them: seconds, the processors' seconds, peak MB, and copies planted and found."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder, "photos"), Path(folder, "run")
        paint_all(root, count)
        options = ["--out", str(out), *([] if crops else ["--no-crops"])]
        command = [sys.executable, "-m", "spectraderm", "audit", str(root), *options]
        start = time.perf_counter()
        with Path(folder, "said").open("w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
            spent, peak = watch(process)
            said.seek(0)
            if process.returncode:
                sys.exit(said.read())
        seconds = time.perf_counter() - start
        with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
            group = {Path(row["path"]).stem: row["photo_group"] for row in csv.DictReader(file)}
    planted = [number for number in range(count) if original(number) != number]
    found = sum(group[f"{number:07d}"] == group[f"{original(number):07d}"] for number in planted)
    return seconds, spent, peak, len(planted), found


def watch(process: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """Wait for a process; of it and all its children the processors' seconds, and the most memory at once, in MB.

    They are looked at every half second: what they do after the last look is not counted.
    """
    peak, root, spent = 0, psutil.Process(process.pid), dict[int, float]()
    while process.poll() is None:
        held = 0
        for one in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                held += one.memory_info().rss
                times = one.cpu_times()
                spent[one.pid] = times.user + times.system
        peak = max(peak, held)
        time.sleep(0.5)
    return sum(spent.values()), peak / (1 << 20)


def original(number: int) -> int:
    """Which photo a photo is a copy of: of each ten the last copies the first."""
    return number - COPIES + 1 if number % COPIES == COPIES - 1 else number


def paint_all(root: Path, count: int) -> None:
    """Write `count` photos below `root`, with two processes."""
    for number in range(COPIES * TESTED * len(CLASSES)):
        path_of(root, number).parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(partial(paint, root), range(count), chunksize=250))


def path_of(root: Path, number: int) -> Path:
    """`root/<split>/<class>/<number>.jpg`: a copy has the class of its original; a copy's split may be another."""
    split = "test" if number % TESTED == TESTED - 1 else "train"
    return root / split / CLASSES[number // COPIES % len(CLASSES)] / f"{number:07d}.jpg"


def paint(root: Path, number: int) -> None:
    """Paint one photo, or the copy of one."""
    source = original(number)
    noise = np.random.default_rng(source).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((SIDE + source % 5, SIDE - source % 7), Image.Resampling.BICUBIC)
    if number != source:
        turned = photo.transpose(Image.Transpose(number // COPIES % len(Image.Transpose)))
        photo = turned.resize((turned.width * 3 // 4, turned.height * 3 // 4))
    photo.save(path_of(root, number), quality=90 if number == source else 70)


if __name__ == "__main__":
    main()
