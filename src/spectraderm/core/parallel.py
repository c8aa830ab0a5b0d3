"""How many cores there are, and work on many things by several threads, in memory that does not grow with them."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 4
"""So many things are done by a thread at a time: what each step needs is still in the processor's cache for the next,
and few are left to one thread at the end."""


def cores() -> int:
    """How many cores this process may use: those it is bound to, and no more than its container's share of time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # of Linux's control groups, version 2
        return max(1, min(bound, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # none, or "max"
        return bound


def in_order(work: Callable[[T], R], things: Iterable[T], threads: int, ahead: int = 4) -> Iterator[tuple[T, R]]:
    """Each thing and what `work` made of it; `ahead` things per thread are begun before the first is taken.

    `things` are asked for by the thread that takes the results. Who stops listening waits for what is at work.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for thing in things:
            waiting.append((thing, pool.submit(work, thing)))
            if len(waiting) > ahead * threads:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def chunks(things: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Things in lists of a size; the last may be shorter."""
    coming = iter(things)
    while chunk := list(islice(coming, size)):
        yield chunk


def in_chunks(work: Callable[[list[T]], Sequence[R]], things: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """As `in_order`, for work that takes a few things at once, and gives a result for each."""
    for chunk, results in in_order(work, chunks(things), threads, ahead=1):
        yield from zip(chunk, results, strict=True)
