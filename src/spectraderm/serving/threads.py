"""Work on many things by several threads, given back in order, in memory that does not grow with their number."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_AHEAD = 4
"""So many per thread are begun before the first of them is taken."""


def in_order(work: Callable[[T], R], things: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each thing and what `work` made of it. `things` are asked for by the thread that takes the results."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for thing in things:
            waiting.append((thing, pool.submit(work, thing)))
            if len(waiting) > _AHEAD * threads:
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:  # also of who stops listening
        pool.shutdown(wait=False, cancel_futures=True)


def _next(waiting: deque[tuple[T, Future[R]]]) -> tuple[T, R]:
    thing, result = waiting.popleft()
    return thing, result.result()
