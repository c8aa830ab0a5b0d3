"""How a stage says how far it is: it wraps what it loops over in a `Track`; who calls it decides what is shown."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Passes items on, while showing `description` and how many of `total` are done."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        """Give every item once, in order."""


def no_track(items: Iterable[T], description: str, total: int) -> Iterable[T]:  # noqa: ARG001
    """Shows nothing."""
    return items
