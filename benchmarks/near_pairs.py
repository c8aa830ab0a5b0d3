"""Our search for copies among hashes against faiss': `python benchmarks/audit_scale.py --pairs 100000 1000000`.

Random 64-bit hashes in eight turns; every tenth photo has, as it is, one of the turns of an earlier one with up to six
bits changed. Each search has a process of its own, and all cores. Those of faiss are given queries for a minute at
most; of what then lacks, time is extrapolated, and recall is that of the queries asked.
"""

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import faiss
import numpy as np
import numpy.typing as npt

from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.images.perceptual_hash import MAX_DISTANCE

APART, BITS, CHUNK = 10, 64, 20_000
SEARCHES = ("near_pairs", "IndexBinaryMultiHash", "IndexBinaryFlat")

Hashes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Searched:
    """One search: seconds, megabytes beyond the hashes', share of the planted pairs found, and share of it done."""

    seconds: float
    memory: float
    recall: float
    done: float


def show(counts: list[int], limit: float) -> None:
    """Measure all searches on so many hashes, and print a line each."""
    print(f"{'hashes':>9} {'search':>22} {'seconds':>9} {'MB':>7} {'recall %':>9} {'asked %':>8}", flush=True)
    for count in counts:
        for name in SEARCHES:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                m = alone.submit(measure, name, count, limit).result()
            numbers = f"{m.seconds:9.1f} {m.memory:7.0f} {100 * m.recall:9.2f} {100 * m.done:8.1f}"
            print(f"{count:9} {name:>22} {numbers}", flush=True)


def measure(name: str, count: int, limit: float) -> Searched:
    """Search so many hashes, for about `limit` seconds if it is one of faiss'."""
    hashes, planted = plant(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    if name == SEARCHES[0]:
        groups = photo_groups(count, near_pairs(hashes))
        seconds, done = time.perf_counter() - start, 1.0
        found = groups[planted[:, 0]] == groups[planted[:, 1]]
    else:
        found, done = faiss_pairs(index_of(name), hashes, planted, limit)
        seconds = (time.perf_counter() - start) / done
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Searched(seconds, memory, float(found.mean()), done)


def plant(count: int, seed: int = 0) -> tuple[Hashes, Places]:
    """Hashes `uint8[n, 8, 8]`, and the planted pairs `int64[m, 2]`: the photo that is copied, and its copy."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 256, (count, 8, 8), dtype=np.uint8)
    copies = np.arange(APART - 1, count, APART)
    sources, turns = copies - APART + 1, random.integers(0, 8, len(copies))
    changed = random.random((len(copies), BITS)).argsort(axis=1) < random.integers(
        0, MAX_DISTANCE + 1, (len(copies), 1)
    )
    hashes[copies, 0] = hashes[sources, turns] ^ np.packbits(changed, axis=1)
    return hashes, np.stack([sources, copies], axis=1)


def index_of(name: str) -> faiss.IndexBinary:
    """An index that finds every hash within six bits: of four parts, one has one bit changed at most."""
    if name == "IndexBinaryFlat":
        return faiss.IndexBinaryFlat(BITS)
    index = faiss.IndexBinaryMultiHash(BITS, 4, BITS // 4)
    index.nflip = 1
    return index


def faiss_pairs(
    index: faiss.IndexBinary, hashes: Hashes, planted: Places, limit: float
) -> tuple[npt.NDArray[np.bool_], float]:
    """Which of the planted pairs asked for were found, and the share of the hashes that were asked for."""
    index.add(np.ascontiguousarray(hashes[:, 0]))
    count, end = len(hashes), time.perf_counter() + limit
    found: set[tuple[int, int]] = set()
    asked = 0
    while asked < count and (asked == 0 or time.perf_counter() < end):
        queries = hashes[asked : asked + CHUNK // 8]
        limits, _, met = index.range_search(queries.reshape(-1, 8), MAX_DISTANCE + 1)
        ends: Places = limits.astype(np.int64)
        which = asked + np.repeat(np.arange(len(ends) - 1), ends[1:] - ends[:-1]) // 8
        found |= set(zip(which[which != met].tolist(), met[which != met].tolist(), strict=True))
        asked += len(queries)
    own = planted[planted[:, 0] < asked]
    return np.array([tuple(pair) in found for pair in own.tolist()]), asked / count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hashes", type=int, nargs="*", default=[100_000])
    show(parser.parse_args().hashes, 60)
