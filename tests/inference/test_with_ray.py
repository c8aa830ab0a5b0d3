"""Ray's door. Every cluster takes some seconds to start, so that a test asks several things of one."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from spectraderm.core import ray_process, ray_worker, with_ray
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError, WriteError
from spectraderm.core.with_ray import spread

ray = pytest.mark.skipif(not with_ray.installed(), reason="Ray is not installed")


class Doing:
    """Notes when it is made; does what a task says."""

    def __init__(self, folder: str, large: bytes) -> None:
        Path(folder, f"made-{os.getpid()}").write_bytes(large[:3])
        self._folder = folder

    def __call__(self, task: Any) -> object:  # noqa: ANN401
        kind, value = task
        if kind == "wait":
            time.sleep(value)
        if kind == "die once" and not Path(self._folder, "died").exists():
            Path(self._folder, "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "print":
            sys.stdout.write(str(value))
        if kind == "bytes":
            return bytes(value)
        if kind == "full":
            raise OSError(28, "No space left on device", "there")
        if kind == "raise":
            raise ModelFolderError(f"model {value} is altered", "Export it again")
        return {"twice": 2 * value, "by": [os.getpid()]}


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"spectraderm\[ray\]"):
        list(spread(partial, (), []))


@pytest.mark.parametrize(
    "error",
    [
        SpectraDermError("a", "b"),
        ModelFolderError("a", "b"),
        MissingExtra("x", "y"),
        WriteError("x", OSError(28, "full")),
    ],
)
def test_errors_of_workers_arrive_as_they_were(error: SpectraDermError) -> None:
    found = with_ray._error(*ray_worker.parts(error))
    assert type(found) is type(error)
    assert (str(found), found.problem, found.remedy) == (str(error), error.problem, error.remedy)


def test_an_unknown_kind_of_error_is_still_one_of_ours() -> None:
    assert type(with_ray._error("spread", "a", "b")) is SpectraDermError


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    with ours, theirs:
        yield ours, theirs


def test_what_the_process_says_becomes_an_answer_or_an_error(
    ends: tuple[Connection, Connection], tmp_path: Path
) -> None:
    ours, theirs = ends
    log = tmp_path / "log"
    theirs.send(("done", 3, "{}", None))
    assert with_ray._receive(ours, log) == [3, "{}", None]
    theirs.send(("failed", "ModelFolderError", "model 7 is altered", "Export it again"))
    with pytest.raises(ModelFolderError, match=r"model 7 is altered\. Export it again"):
        with_ray._receive(ours, log)
    theirs.send(("broken", "Traceback: a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        with_ray._receive(ours, log)
    log.write_text("starting\nGCS was killed\n")
    theirs.close()
    with pytest.raises(SpectraDermError, match=r"died \(GCS was killed\)\. Run the same command again: it goes on"):
        with_ray._receive(ours, log)


def worker(monkeypatch: pytest.MonkeyPatch, *made: object) -> ray_worker.Worker:
    """One whose Ray just hands on what is asked for."""
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda held: held))
    return ray_worker.Worker(made)


def test_a_worker_makes_its_callable_once_and_tells_what_it_raises(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    tasks = [("nothing", 4), ("bytes", [0, 0]), ("raise", 7), ("full", 0)]
    asked = pa.table({"number": [1, 2, 3, 4], "task": [json.dumps(task) for task in tasks]})
    made: list[int] = []

    def make(folder: str, large: bytes) -> Doing:
        made.append(1)
        return Doing(folder, large)

    told = worker(monkeypatch, make, (str(tmp_path), b"x"))(asked).to_pylist()  # type: ignore[attr-defined]
    assert made == [1]
    assert told[0] == {"number": 1, "text": json.dumps({"twice": 8, "by": [os.getpid()]}), "data": None, "failed": None}
    assert told[1] == {"number": 2, "text": None, "data": b"\0\0", "failed": None}
    assert json.loads(told[2]["failed"]) == ["ModelFolderError", "model 7 is altered", "Export it again"]
    assert json.loads(told[3]["failed"])[:2] == ["WriteError", "there can't be written: the disk is full"]


def test_a_defect_of_a_callable_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    asked = pa.table({"number": [1], "task": ["[]"]})
    with pytest.raises(ZeroDivisionError):
        worker(monkeypatch, partial, (lambda _: 1 / 0,))(asked)


@ray
def test_every_task_is_answered_once_whatever_dies_and_a_dead_cluster_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(with_ray, "_AT_ONCE", 20)
    asked: list[int] = []
    others = set(psutil.Process().children(recursive=True))  # of other tests in this process

    def tasks() -> Iterator[tuple[str, object]]:
        yield "print", 1
        yield "die once", 2
        yield "bytes", [0, 255, 0]
        for number in range(3, 40):
            asked.append(number)
            yield "nothing", number
        asked.append(40)
        yield from [("wait", 60)] * 2

    answers = spread(Doing, (str(tmp_path), b"large" * 1000), tasks(), workers=2)
    found = dict(islice(answers, 40))
    assert asked[-1] == 39  # no task is looked at before it is needed
    assert sorted(found) == list(range(40))
    assert found.pop(2) == b"\x00\xff\x00"
    assert all(answer["twice"] == 2 * (number if number > 1 else number + 1) for number, answer in found.items())
    made = {int(file.name.removeprefix("made-")) for file in tmp_path.glob("made-*")}
    assert {answer["by"][0] for answer in found.values()} <= made
    assert len(made) <= 3  # one in place of the dead one
    started = set(psutil.Process().children(recursive=True)) - others
    cluster = [one for one in started if "resource_tracker" not in str(one.cmdline())]  # which ends with this process
    raylet = next(one for one in cluster if one.name() == "raylet")
    folder = next(Path(word.partition("=")[2]) for word in raylet.cmdline() if word.startswith("--log_dir=")).parents[1]
    assert folder.name.startswith("sd-")
    assert listening(cluster) <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    threading.Timer(1, raylet.kill).start()
    began = time.monotonic()
    with pytest.raises(SpectraDermError, match="Run the same command again: it goes on"):
        list(answers)
    assert time.monotonic() - began < 15
    assert capfd.readouterr() == ("", "")
    assert not folder.exists()
    _, alive = psutil.wait_procs(cluster, timeout=10)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses that some processes can be reached at."""
    found = set()
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {own.laddr.ip for own in one.net_connections("tcp") if own.status == psutil.CONN_LISTEN}
    return found


def test_ray_client_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpectraDermError, match=r"ray://.*can't be used\. Run .* on a machine of the cluster"):
        ray_process._join(tmp_path, "ray://127.0.0.1:10001", 0)


class RayError(Exception):
    """As Ray has it."""


class RayTaskError(RayError):
    """As Ray has it."""


def failing(monkeypatch: pytest.MonkeyPatch, errors: list[RayError | None]) -> list[list[int]]:
    """Have Ray answer one task, then fail, as often as there are errors; which tasks it was given comes back."""
    asked: list[list[int]] = []

    def rows(window: list[tuple[int, str]], *_: object) -> Iterator[dict[str, int]]:
        asked.append([number for number, _ in window])
        for number in asked[-1]:
            yield {"number": number}
            if error := errors.pop(0) if errors else None:
                raise error

    failures = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    monkeypatch.setattr(ray_process, "_ray", lambda: SimpleNamespace(exceptions=failures))
    monkeypatch.setattr(ray_process, "_rows", rows)
    return asked


TASKS = [(number, "") for number in range(4)]


def test_where_a_machine_dies_what_is_left_is_handed_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = failing(monkeypatch, [None, RayError("gone"), RayError("gone")])
    found = [row["number"] for row in ray_process._through(TASKS, None, 2, (0.0, 0.0))]
    assert found == [0, 1, 2, 3]
    assert asked == [[0, 1, 2, 3], [2, 3], [3]]


@pytest.mark.parametrize(("error", "waits"), [(RayError("gone"), ()), (RayTaskError("a defect"), (0.0,))])
def test_what_would_fail_again_is_raised(
    error: RayError, waits: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = failing(monkeypatch, [error])
    with pytest.raises(type(error)):
        list(ray_process._through(TASKS, None, 2, waits))
    assert len(asked) == 1


@ray
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_process, "_ray", lambda: SimpleNamespace(_private=None))
    with pytest.raises(SpectraDermError, match=r"no Ray cluster at 127.0.0.1:1 \(.*refused\)\. Start one"):
        ray_process._join(tmp_path, "127.0.0.1:1", 0)
