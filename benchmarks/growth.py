"""Time per photo and memory of `spectraderm predict FOLDER` as the folder grows.

    python benchmarks/growth.py [100 1000 10000 100000] [--rounds 1]

Some hundred painted photos (320x240), linked as often as it takes into folders of 1,000. `per photo` is without the
first answer's seconds, which start-up takes. 100,000 take some 10 to 30 minutes.
"""

import argparse
import os
import tempfile
from pathlib import Path

import sides
from prepared import painted

DIFFERENT, FOLDER = 200, 1000


def main() -> None:
    """Measure each size, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=int, nargs="*", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--different", type=int, default=DIFFERENT, help="how many photos are painted")
    parser.add_argument("--model", default="", help="by default the one that comes along")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = paint_some(Path(folder, "painted"), given.different)
        for count in given.photos:
            linked = link(photos, Path(folder, str(count)), count)
            measure(linked, count, given.rounds, ("--model", given.model) if given.model else ())


def measure(folder: Path, count: int, rounds: int, options: tuple[str, ...]) -> None:
    """Predict a folder, and say what it took."""
    told = [sides.ours("predict", folder, *options, "--format", "jsonl") for _ in range(rounds)]
    if any(one.lines != count for one in told):
        raise SystemExit(f"{count} photos, and {[one.lines for one in told]} answers")
    each = sides.spread([1000 * (one.seconds - one.first) / (count - 1) for one in told], "ms")
    whole = sides.spread([one.seconds for one in told], "s")
    memory = sides.spread([one.peak for one in told], "MB")
    print(f"{count} photos: per photo {each}, all {whole}, memory {memory}", flush=True)


def paint_some(folder: Path, count: int) -> list[Path]:
    """So many painted photos."""
    folder.mkdir()
    return [painted(folder / f"{number:03}.jpg", (320, 240), number) for number in range(count)]


def link(photos: list[Path], folder: Path, count: int) -> Path:
    """A folder of so many photos, in folders of `FOLDER`, which are links to a few."""
    for number in range(count):
        below = folder / f"{number // FOLDER:04}"
        if number % FOLDER == 0:
            below.mkdir(parents=True)
        os.link(photos[number % len(photos)], below / f"{number % FOLDER:04}.jpg")
    return folder


if __name__ == "__main__":
    main()
