"""How far a stage is. It wraps what it loops over in a `Track`; who calls it decides what is shown, on stderr."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from spectraderm.core.printable import line, say

T = TypeVar("T")

_SECONDS = 30
"""Between two lines, where there is no terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


class Track(Protocol):
    """Passes items on, while showing `description` and how many of `total` are done."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        """Give every item once, in order."""


def no_track(items: Iterable[T], description: str, total: int) -> Iterable[T]:  # noqa: ARG001
    """Shows nothing."""
    return items


def as_one(track: Track, description: str, work: Callable[[], T]) -> T:
    """Do some work that can't be divided while a bar of its own says so."""
    (result,) = [work() for _ in track((None,), description, 1)]
    return result


@contextmanager
def progress() -> Iterator[Track]:
    """One view for all stages: a bar each, with the time left. Plain lines where there is no terminal."""
    if not console.is_terminal:
        yield _lines
        return
    columns = (
        TextColumn("{task.description:22}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
            return bars.track(items, total=total, description=line(description))

        yield track


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    say(f"{description} ({total})" if total > 1 else description)
    said = time.monotonic()
    for done, item in enumerate(items, start=1):
        if time.monotonic() - said > _SECONDS:
            say(f"{description}: {done} of {total}")
            said = time.monotonic()
        yield item
