"""How far a stage is, for people, on stderr: a bar on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from spectraderm.core.progress import T, Track

_SECONDS = 30
"""Between two lines, where there is no terminal."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for people."""
    console.print(Text(text))


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
            return bars.track(items, total=total, description=description)

        yield track


def _lines(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    say(f"{description} ({total})")
    said = time.monotonic()
    for done, item in enumerate(items, start=1):
        if time.monotonic() - said > _SECONDS:
            say(f"{description}: {done} of {total}")
            said = time.monotonic()
        yield item
