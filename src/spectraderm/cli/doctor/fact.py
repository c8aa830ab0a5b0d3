"""One thing that was looked at, and whether it is in the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How well a thing is."""

    ok = "ok"
    absent = "absent"
    """Not there, and nobody may miss it."""
    warning = "warning"
    """Works, but is slow, untested or about to fail; or fails outside the basic use."""
    broken = "broken"
    """Photos can't be classified."""


@dataclass(frozen=True)
class Fact:
    """What was found of one thing.

    Attributes:
        theme: the table it belongs into.
        name: of the thing.
        value: what was found, for people.
        state: how well it is.
        remedy: what to do about it; empty where nothing is to be done.
    """

    theme: str
    name: str
    value: str
    state: State = State.ok
    remedy: str = ""


def broken(facts: Iterable[Fact]) -> bool:
    """Whether photos can't be classified here."""
    return any(fact.state == State.broken for fact in facts)
