import asyncio
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, paint
from handmade import write_model

import spectraderm
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError, UnreadablePhoto
from spectraderm.inference.prediction import Prediction
from spectraderm.serving import pool as pools
from spectraderm.serving.middleware import Refusal, kind_of
from spectraderm.serving.pool import Crashed, Pool

CRASH, HANG = b"crash", b"hang"


class Painted:
    """In place of a worker process: gives each photo's bytes back as a reason, once `go` is set."""

    go = threading.Event()
    turns: list[bytes]

    def __init__(self, source: str | None, runtime: str) -> None:  # noqa: ARG002
        self.alive = False
        self.ended = threading.Event()

    def start(self) -> None:
        self.alive = True
        self.ended = threading.Event()

    def predict(self, photo: bytes) -> Prediction:
        self.turns.append(photo)
        self.go.wait(5)
        if photo == HANG:
            self.ended.wait(5)
        if photo == CRASH or self.ended.is_set():
            self.alive = False
            raise Crashed
        return Prediction(verdict="unusable_photo", reason=photo.decode(), coverage=0.9, model_id="m")

    def kill(self) -> None:
        self.alive = False
        self.ended.set()


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> type[Painted]:
    monkeypatch.setattr(pools, "Worker", Painted)
    monkeypatch.setattr(Painted, "turns", [], raising=False)
    monkeypatch.setattr(Painted, "go", threading.Event())
    Painted.go.set()
    return Painted


def with_pool(pool: Pool, steps: Callable[[Pool], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        try:
            await pool.start()
            await steps(pool)
        finally:
            pool.stop()

    asyncio.run(run())


async def results(pool: Pool, *photos: bytes) -> list[str]:
    """Of each photo the prediction's reason, or the error's kind."""

    async def one(photo: bytes) -> str:
        try:
            return (await pool.predict(photo)).reason
        except SpectraDermError as error:
            return kind_of(error)

    return await asyncio.gather(*map(one, photos))


def test_so_many_photos_wait_and_no_more(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        asyncio.get_running_loop().call_later(0.1, painted.go.set)
        assert await results(pool, *(b"%d" % n for n in range(7))) == [*"01234", "TooBusy", "TooBusy"]
        assert pool.pending == 0
        assert await results(pool, b"again") == ["again"]

    with_pool(Pool(None, 2, 3, 5.0), steps)


def test_what_waits_too_long_is_dropped_unread(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        first = asyncio.create_task(results(pool, b"first"))
        await asyncio.sleep(0.05)
        leaver = asyncio.create_task(pool.predict(b"leaves"))
        asyncio.get_running_loop().call_later(0.05, leaver.cancel)
        start = time.perf_counter()
        with pytest.raises(Refusal, match="waited too long"):
            await asyncio.wait_for(pool.predict(b"late"), 5)
        assert 0.15 < time.perf_counter() - start < 2
        assert pool.pending == 1
        painted.go.set()
        assert await first == ["first"]
        assert await results(pool, b"next") == ["next"]

    with_pool(Pool(None, 1, 9, 5.0, patience=0.2), steps)
    assert painted.turns == [b"first", b"next"]


def test_a_photo_that_crashes_or_hangs_its_process_harms_no_other(painted: type[Painted]) -> None:
    """It is tried twice; one that hangs once."""

    async def steps(pool: Pool) -> None:
        assert await results(pool, b"a", CRASH, b"b", HANG, b"c") == ["a", "UnreadablePhoto", "b", "TooSlow", "c"]
        assert pool.ready

    with_pool(Pool(None, 1, 9, 0.1, patience=5), steps)
    assert painted.turns == [b"a", CRASH, CRASH, b"b", HANG, b"c"]


def test_a_cancelled_photo_leaves_no_result_behind(painted: type[Painted]) -> None:
    """The next photo of that process would get it."""

    async def steps(pool: Pool) -> None:
        leaver = asyncio.create_task(pool.predict(HANG))
        await asyncio.sleep(0.05)
        leaver.cancel()
        assert await results(pool, b"next") == ["next"]

    with_pool(Pool(None, 1, 9, 5.0), steps)


@pytest.mark.parametrize("error", [UnreadablePhoto("a", "b"), MissingExtra("x is HEIC, and its decoder", "heic")])
def test_errors_survive_the_way_between_processes(error: UnreadablePhoto | MissingExtra) -> None:
    made = pools._error(pickle.loads(pickle.dumps((type(error), error.problem, error.remedy))))
    assert (type(made), made.problem, made.remedy, str(made)) == (type(error), error.problem, error.remedy, str(error))


def test_real_processes(tmp_path: Path) -> None:
    """Same predictions as in this process; kill -9, idle and at work, and a hang are survived; nothing is left."""
    folder = write_model(tmp_path / "model")
    photo = encode(paint(3, (230, 170)))
    expected = spectraderm.load_model(folder, threads=1).predict(photo)
    pids: list[int] = []

    def worker() -> int:
        (process,) = multiprocessing.active_children()
        assert process.pid
        assert process.pid not in pids
        pids.append(process.pid)
        return process.pid

    async def steps(pool: Pool) -> None:
        assert await pool.predict(photo) == expected
        with pytest.raises(UnreadablePhoto, match="not a photo"):
            await pool.predict(b"no photo")
        pid = worker()
        os.kill(pid, signal.SIGTERM)  # as a service manager does to all; only the server process minds
        os.kill(pid, signal.SIGINT)
        assert await pool.predict(photo) == expected
        os.kill(pid, signal.SIGKILL)  # idle
        assert await pool.predict(photo) == expected
        pid = worker()
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.1, os.kill, pid, signal.SIGKILL)  # at work
        assert await pool.predict(photo) == expected
        os.kill(worker(), signal.SIGSTOP)
        with pytest.raises(Refusal, match="more than 1 seconds"):
            await pool.predict(bytes(3_000_000))  # more than its pipe holds
        assert await pool.predict(photo) == expected
        worker()

    with_pool(Pool(str(folder), 1, 4, 1.0), steps)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(tmp_path: Path) -> None:
    pool = Pool(str(tmp_path), 1, 1, 1.0)
    with pytest.raises(ModelFolderError):
        with_pool(pool, lambda _: asyncio.sleep(0))
    assert not pool.ready


def test_every_process_gets_the_model_and_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str | None, str]] = []
    monkeypatch.setattr(pools, "Worker", lambda source, runtime: made.append((source, runtime)))
    Pool("some/model", 2, runtime="openvino")
    assert made == [("some/model", "openvino")] * 2
