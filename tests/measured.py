"""What a call answers, how long it takes and how much memory it needs: each in a forked child that can be killed.

Run as a program, it answers for `python tests/measured.py MODULE` (all of `MODULE.ATTACKS`) with a JSON line each.
"""

import functools
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import spectraderm
from spectraderm.core.errors import SpectraDermError

LIMIT = 20.0
"""Seconds after which a child is killed."""
SECONDS, MEGABYTES = 5, 256
"""Measured: 1 s and 100 MB; the machine may be busy."""
_OWN = tuple(
    os.path.realpath(place)
    for place in (
        sys.prefix,
        sys.base_prefix,
        Path(__file__).parents[1],
        Path(spectraderm.__file__).parent,
        tempfile.gettempdir(),
        "/proc",
        "/sys",
    )
)


class Attack(Protocol):
    """What `answers` asks of an attack."""

    def build(self) -> bytes:
        """Make the input."""

    def call(self, data: bytes) -> object:
        """Do with it what shall be measured."""


class Answer(NamedTuple):
    """What came of one call: the error's or result's words, the wall seconds and the growth of memory in MB."""

    kind: str
    words: str
    seconds: float
    megabytes: float


def measured(call: Callable[[], object], limit: float = LIMIT) -> Answer:
    """The answer of one call. `kind` is `ok`, an error's class, `hang`, or `signal 11` and such."""
    start = time.perf_counter()
    said, status = forked(lambda: json.dumps(_answer(call)).encode(), limit)
    seconds = time.perf_counter() - start
    if said is None:
        return Answer("hang", "", seconds, 0)
    return Answer(*json.loads(said)) if said else Answer(f"signal {os.WTERMSIG(status)}", "", seconds, 0)


def forked(call: Callable[[], bytes], limit: float) -> tuple[bytes | None, int]:
    """What a call gives in a child, nothing where it dies, None where it is killed for taking too long; its status."""
    deadline, (reading, writing) = time.perf_counter() + limit, os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(call())
        os._exit(0)  # without any clean-up of the parent's things
    os.close(writing)
    said = _read(reading, deadline)
    if said is None:
        os.kill(child, signal.SIGKILL)
    return said, os.waitpid(child, 0)[1]


def _answer(call: Callable[[], object]) -> Answer:
    warnings.simplefilter("ignore")
    opened: list[str] = []
    sys.addaudithook(lambda event, found: _watch(event, found, opened))
    before, start = _peak(), time.perf_counter()
    try:
        kind, words = "ok", str(call())
        if opened:
            raise PermissionError(f"opened {opened}")
    except SpectraDermError as error:
        kind, words = type(error).__name__, str(error) if not opened else f"opened {opened}"
    except BaseException as error:  # whatever else escapes is what we are after
        kind, words = f"uncaught {type(error).__name__}", str(error)
    return Answer(kind, words[:500], time.perf_counter() - start, _peak() - before)


def _watch(event: str, found: tuple[object, ...], opened: list[str]) -> None:
    """Keep what is opened beside Python's own files and the temporary folder. Audit hooks stay: only in a child."""
    if event != "open" or not isinstance(found[0], str):
        return
    if not os.path.realpath(found[0]).startswith(_OWN) or (found[1] or "r") != "r":
        opened.append(found[0])


def _read(reading: int, deadline: float) -> bytes | None:
    """All that the child says, or None where it says nothing in time."""
    said = []
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(deadline - time.perf_counter(), 0))[0]:
            said.append(pipe.read(1 << 20))
            if not said[-1]:
                return b"".join(said)
    return None


def _peak() -> float:
    """The most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def answers(attacks: Mapping[str, Attack]) -> Iterator[tuple[str, Answer]]:
    """Every attack by its name, one after the other. Built in a child of its own, whose memory is then free again."""
    for name, attack in attacks.items():
        data = forked(attack.build, 60)[0]
        if not isinstance(data, bytes):
            raise TimeoutError(f"{name} takes too long to build")
        yield name, measured(functools.partial(attack.call, data))


def answers_of(module: str, temporary: Path) -> dict[str, Answer]:
    """What every attack of a module meets."""
    command = [sys.executable, __file__, module]
    environment = os.environ | {"TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, check=True, env=environment, timeout=120)
    return {name: Answer(*answer) for name, *answer in map(json.loads, done.stdout.splitlines())}


if __name__ == "__main__":
    for attacked, answer in answers(importlib.import_module(sys.argv[1]).ATTACKS):
        print(json.dumps([attacked, *answer]), flush=True)  # noqa: T201
