"""Does the network take several photos at once faster than one by one?

    python benchmarks/batching.py [--rounds 7]

The default model on painted photos; batch sizes in turns. Prints milliseconds per photo: median, lowest and highest.
"""

import argparse
import time

import numpy as np
from clients import photos
from serving import spread

from spectraderm import load_model

SIZES = (1, 2, 4, 8)


def main() -> None:
    """Take turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for threads in (1, 2):
        model = load_model(threads=threads)
        pixels = np.stack([model.pixels(photo) for photo in photos(max(SIZES))])
        model.engine(pixels)  # warm
        taken: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(rounds):
            for size in SIZES:
                start = time.perf_counter()
                model.engine(pixels[:size])
                taken[size].append(1000 * (time.perf_counter() - start) / size)
        print(f"{threads} threads: " + "; ".join(f"{size} at once {spread(taken[size])} ms" for size in SIZES))


if __name__ == "__main__":
    main()
