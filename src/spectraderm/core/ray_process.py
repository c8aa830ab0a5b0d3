"""The process that has Ray: it joins or starts a cluster, hands tasks to it, and ends with it."""

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.parallel import cores
from spectraderm.core.ray_worker import COLUMNS, Worker, parts

Make = Callable[..., Callable[[Any], Any]]

AGAIN = "Run the same command again: it goes on where it was"
_TRIES_AGAIN = 3
"""So often is a task done again whose worker died: one that kills every worker must end."""
_WAITS = (10.0, 20.0, 30.0)
"""Seconds before what is left is handed out again where a machine of a cluster died: it takes Ray some to notice."""
_STORE = 200 << 20
"""Bytes of a local cluster's object store; what does not fit goes into its temporary folder."""
_SECONDS = 10
"""So long a cluster may take to be reached."""
_PR_SET_CHILD_SUBREAPER = 36
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def run(
    connection: Connection, log: Path, address: str, workers: int, make: Make, arguments: tuple[object, ...]
) -> None:
    """Be that process, until who asks closes the connection: tasks come in lists, answers leave one by one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C, the one who asks tells this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _adopt()
    threading.Thread(target=_watch, args=(log.parent, not address), daemon=True).start()
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        size = _join(log.parent, address, workers)
        connection.send(("ready", size))
        made = _ray().put((make, arguments))
        while window := connection.recv():
            for row in _through(window, made, size, _WAITS if address else ()):
                failed = row.pop("failed")
                connection.send(("failed", *json.loads(failed)) if failed else ("done", *row.values()))
    except (EOFError, ConnectionError):
        pass  # who asked has gone, or has all that was asked for
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send(_told(error))
    finally:
        _clean_up(log.parent)


def _ray() -> ModuleType:
    return importlib.import_module("ray")


def _join(folder: Path, address: str, workers: int) -> int:
    """Join a cluster, or start one of our own; how many workers it is to have."""
    os.environ.update(_QUIET)
    if not address:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_worker_niceness="0")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))  # workers find what is found here
    if address.startswith("ray://"):  # Ray Data does not run through Ray Client
        problem = "Ray Client (ray://) can't be used"
        raise SpectraDermError(problem, "Run the command on a machine of the cluster, with --address auto")
    ray = _ray()
    with contextlib.suppress(AttributeError):
        ray._private.services.resolve_ip_for_localhost = str  # or 127.0.0.1 would become what other machines reach
    try:
        _knock(address)
        ray.init(**_options(folder, address, workers), log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        if not address:
            raise
        remedy = "Start one with `ray start --head`, or leave --address out"
        raise SpectraDermError(f"no Ray cluster at {address} ({_first_line(error)})", remedy) from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # Ray has set its own
    return workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens at `HOST:PORT`; Ray would wait for minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()


def _options(folder: Path, address: str, workers: int) -> dict[str, object]:
    if address:
        return {"address": address}
    return {
        "address": "local",
        "num_cpus": workers or cores(),
        "include_dashboard": False,
        "object_store_memory": _STORE,
        "_node_ip_address": "127.0.0.1",
        "_temp_dir": str(folder),
    }


def _watch(folder: Path, own: bool) -> None:
    """End this process when the one that asked is gone, or the cluster that it started is; Ray itself may just wait."""
    parent = multiprocessing.parent_process()
    assert parent
    while parent.is_alive() and not (own and _is_dead()):
        parent.join(0.5)
    _clean_up(folder)
    os._exit(1)


def _clean_up(folder: Path) -> None:
    """End all that was started here; first delete the folder, where the one who would is gone.

    First, for where the raylet ends, Ray may end this process, too.
    """
    parent = multiprocessing.parent_process()
    for _ in range(_SECONDS):
        if folder.exists() and parent and not parent.is_alive():
            shutil.rmtree(folder, ignore_errors=True)
    _end_children()


def _is_dead() -> bool:
    """A process has ended without which the cluster that was started here can't be."""
    ray = sys.modules.get("ray")
    node: Any = getattr(getattr(getattr(ray, "_private", None), "worker", None), "_global_node", None)
    return bool(node and {"gcs_server", "raylet"} & {kind for kind, _ in node.dead_processes()})


def _adopt() -> None:
    """Have processes become this one's children when who started them dies, where the system knows that."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_children() -> None:
    """Kill what is left of what was started here, and of what that has started."""
    for _ in range(_SECONDS):
        lists = Path("/proc/self/task").glob("*/children")
        pids = [int(pid) for one in lists for pid in one.read_text().split()]
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if not pids:
            return


def _through(
    window: list[tuple[int, str]], made: object, size: int, waits: tuple[float, ...]
) -> Iterator[dict[str, Any]]:
    """Rows as `_rows` has them, each task's once, also where a machine dies and Ray can't ask the workers it had."""
    failures, left = _ray().exceptions, dict(window)
    for wait in (*waits, None):
        try:
            for row in _rows(list(left.items()), made, size):
                left.pop(row["number"])
                yield row
            return
        except failures.RayError as error:
            if wait is None or isinstance(error, failures.RayTaskError):
                raise
            time.sleep(wait)


def _rows(window: list[tuple[int, str]], made: object, size: int) -> Iterator[dict[str, Any]]:
    """Rows of `Worker`, as they come. A task is a block of Ray Data."""
    ray, arrow = importlib.import_module("ray.data"), importlib.import_module("pyarrow")
    ray.DataContext.get_current().enable_progress_bars = False
    tables = [arrow.table({"number": [number], "task": [task]}) for number, task in window]
    data = ray.from_arrow(tables).map_batches(
        Worker,
        fn_constructor_args=(made,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.ActorPoolStrategy(min_size=1, max_size=size, initial_size=min(size, len(window))),
        num_cpus=1,
        max_task_retries=_TRIES_AGAIN,
    )
    for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from table.select(list(COLUMNS)).to_pylist()


def _told(error: Exception) -> tuple[str, ...]:
    """What to say of an error: that of a callable which is none of ours is a defect."""
    failures = _ray().exceptions
    if isinstance(error, SpectraDermError):
        return ("failed", *parts(error))
    if isinstance(error, failures.RayError) and not isinstance(error, failures.RayTaskError):
        return "failed", SpectraDermError.__name__, f"the Ray cluster failed ({_first_line(error)})", AGAIN
    return "broken", traceback.format_exc()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [repr(error)])[0]
