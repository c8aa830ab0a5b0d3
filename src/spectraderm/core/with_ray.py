"""Ray's door: many tasks, done by callables that every worker of a cluster makes once. An extra.

Ray lives in a process of its own (`ray_process`): it ends the process it is in when its cluster dies, and prints when
it likes. What goes between the two is plain: a task is anything that JSON has, its answer that or bytes.
"""

import contextlib
import importlib.util
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from spectraderm.core import errors, ray_process
from spectraderm.core.errors import MissingExtra, SpectraDermError
from spectraderm.core.ray_process import AGAIN, Make

_AT_ONCE, _MOST = 1000, 50_000
"""So many tasks per worker, and in all, are handed to Ray at once: what bounds memory, whatever their number. After
them it starts its workers anew, which takes some seconds."""
_LOG = "ray.log"


def installed() -> bool:
    """The extra is there."""
    return importlib.util.find_spec("ray") is not None


def spread(
    make: Make, arguments: tuple[object, ...], tasks: Iterable[object], *, address: str = "", workers: int = 0
) -> Iterator[tuple[int, Any]]:
    """Do tasks on a Ray cluster: each one's number, counted from 0, and its answer, in the order in which they end.

    A worker that dies is replaced, and its tasks are done again: what a task writes must bear that.

    Args:
        make: called once per worker; what it returns is called with a task at a time. Importable on every machine.
        arguments: of `make`; however large, they go to each machine once.
        tasks: made of what JSON has. At most a thousand per worker are held at once.
        address: of a cluster, as `auto` or `HOST:PORT`; without, one on this machine's cores is
            started, which only this user's programs on this machine may ask, and ended.
        workers: how many; 0 is one per core.

    Raises:
        MissingExtra: Ray is not installed.
        SpectraDermError: there is no such cluster, or it died, or a callable raised one or an `OSError`.
        RuntimeError: a callable raised anything else; it has the traceback.
    """
    if not installed():
        raise MissingExtra("Ray", "ray")
    left = ((number, json.dumps(task)) for number, task in enumerate(tasks))
    with _driver(make, arguments, address, workers) as (connection, log):
        size = _receive(connection, log)[0]
        while window := list(islice(left, min(_AT_ONCE * size, _MOST))):
            connection.send(window)
            for _ in window:
                number, text, data = _receive(connection, log)
                yield number, json.loads(text) if data is None else data


@contextlib.contextmanager
def _driver(make: Make, arguments: tuple[object, ...], address: str, workers: int) -> Iterator[tuple[Connection, Path]]:
    """A process that has Ray: the way to it, and where it writes what it says."""
    there = None if len(tempfile.gettempdir()) < 30 else "/tmp"  # noqa: S108  # a socket's name may have 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="sd-", dir=there))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    asked = (theirs, folder / _LOG, address, workers, make, arguments)
    process = context.Process(target=ray_process.run, args=asked, daemon=True, name="ray")
    try:
        process.start()
        theirs.close()
        yield ours, folder / _LOG
    finally:
        ours.close()
        _end(process)
        _remove(folder)


def _receive(connection: Connection, log: Path) -> list[Any]:
    """What the process with Ray says next. Raises what it failed with."""
    try:
        kind, *said = connection.recv()
    except (EOFError, ConnectionError):
        said = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
        lines = [line for line in said if "WARNING" not in line and "INFO" not in line]
        last = f" ({lines[-1][-300:]})" if lines else ""
        raise SpectraDermError(f"the Ray cluster died{last}", AGAIN) from None
    if kind == "failed":
        raise _error(*said)
    if kind == "broken":
        raise RuntimeError(f"in a worker of Ray:\n{said[0]}")
    return list(said)


def _error(kind: str, problem: str, remedy: str) -> SpectraDermError:
    """The error that a worker met, of its own class, however that is made."""
    own = getattr(errors, kind, SpectraDermError)
    error: SpectraDermError = own.__new__(own)
    SpectraDermError.__init__(error, problem, remedy)
    return error


def _end(process: BaseProcess) -> None:
    """Have it leave: by itself where it waits for tasks, by a signal where it works."""
    process.join(1)
    for stop in (process.terminate, process.kill):
        if process.is_alive():
            stop()
            process.join(20)


def _remove(folder: Path) -> None:
    """Delete a folder that processes which are just ending may still write into."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
