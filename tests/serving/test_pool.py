import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, paint
from handmade import write_model

import spectraderm
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError, UnreadablePhoto, WriteError
from spectraderm.inference.engine import Runtime
from spectraderm.inference.prediction import Prediction
from spectraderm.serving import pool as pools
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.pool import Pool
from spectraderm.serving.refusals import Refusal, kind_of
from spectraderm.serving.worker import from_message, to_message

CRASH, HANG, LATE_HANG = b"crash", b"hang", b"hang in the network"
UNUSABLE: Any = {"verdict": "unusable_photo", "coverage": 0.9, "calibrated_on": "home", "model_id": "m"}


class Painted:
    """In place of a worker process: gives each photo's bytes back as a reason, once `go` is set."""

    go: asyncio.Event
    turns: list[bytes]
    loads = True

    def __init__(self, line: socket.socket, *_: object) -> None:
        self._task = asyncio.create_task(self._work(line.dup()))

    async def _work(self, line: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=line)

        def send(message: bytes) -> None:
            writer.write(len(message).to_bytes(4) + message)

        try:
            if self.loads:
                send(to_message(None))
            while self.loads:
                photo = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                self.turns.append(photo)
                await self.go.wait()
                if photo == CRASH:
                    return
                await asyncio.sleep(5 if photo == HANG else 0)
                send(b"")
                await asyncio.sleep(5 if photo == LATE_HANG else 0)
                send(to_message(Prediction(reason=photo.decode(), **UNUSABLE)))
        finally:
            writer.close()

    def is_alive(self) -> bool:
        return not self._task.done()

    def kill(self) -> None:
        self._task.cancel()

    def join(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> type[Painted]:
    monkeypatch.setattr(pools, "start_process", Painted)
    monkeypatch.setattr(Painted, "turns", [], raising=False)
    monkeypatch.setattr(Painted, "go", asyncio.Event(), raising=False)
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


def small(seconds: float = 5, queue: int = 9, model: str | None = None) -> Pool:
    """A pool of one worker."""
    return Pool(ServeOptions(model, workers=1, queue=queue, seconds=seconds))


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
        assert await results(pool, *(b"%d" % n for n in range(6))) == [*"0123", "TooBusy", "TooBusy"]
        assert pool.pending == 0
        assert await results(pool, b"again") == ["again"]

    with_pool(small(queue=3), steps)


def test_what_waits_too_long_is_dropped_unread(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        pool.patience = 0.2
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

    with_pool(small(), steps)
    assert painted.turns == [b"first", b"next"]


def test_a_photo_that_crashes_or_hangs_its_process_harms_no_other(
    painted: type[Painted], caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried twice, the second time after those that wait; one that hangs once."""

    async def steps(pool: Pool) -> None:
        pool.patience = 5
        photos = b"a", CRASH, b"b", HANG, b"c"
        assert await results(pool, *photos) == ["a", "UnreadablePhoto", "b", "TooSlow", "c"]
        assert painted.turns == [*photos, CRASH]
        leaver = asyncio.create_task(pool.predict(HANG))
        await asyncio.sleep(0.05)
        leaver.cancel()
        assert await results(pool, b"next") == ["next"]
        assert pool.ready

    with_pool(small(seconds=0.1), steps)
    assert painted.turns[6:] == [HANG, b"next"]
    gc.collect()
    assert not caplog.records  # of the error that nobody waited for


def test_a_photo_is_sent_behind_one_that_was_looked_at_and_again_where_that_hangs(painted: type[Painted]) -> None:
    async def steps(pool: Pool) -> None:
        pool.patience = 5
        assert await results(pool, LATE_HANG, b"a", b"b") == ["TooSlow", "a", "b"]
        assert pool.pending == 0

    with_pool(small(seconds=0.2), steps)
    assert painted.turns == [LATE_HANG, b"b", b"a"]  # the first `a` was sent and never read


def test_a_photo_goes_to_the_process_that_has_least_to_do(painted: type[Painted]) -> None:
    async def steps(pool: Pool) -> None:
        start = time.perf_counter()
        slow = asyncio.create_task(results(pool, LATE_HANG))
        await asyncio.sleep(0.05)
        for _ in range(3):
            assert await results(pool, b"a") == ["a"]
        assert time.perf_counter() - start < 0.5
        assert await slow == ["TooSlow"]

    with_pool(Pool(ServeOptions(workers=2, seconds=0.5)), steps)


@pytest.mark.parametrize(
    "error", [UnreadablePhoto("a", "b"), MissingExtra("x", "heic"), WriteError("x", OSError(28, "full"))]
)
def test_errors_survive_the_way_between_processes(error: SpectraDermError) -> None:
    for made in (pickle.loads(pickle.dumps(error)), from_message(to_message(error))):
        assert isinstance(made, SpectraDermError)
        told = (type(made), made.problem, made.remedy, str(made))
        assert told == (type(error), error.problem, error.remedy, str(error))


def test_answers_survive_the_way_to_the_server(tmp_path: Path) -> None:
    model = spectraderm.load_model(write_model(tmp_path / "model"))
    said = model.predict_opened([(paint(3, (230, 170)), None), (paint(3, (20, 20)), None)])
    assert [from_message(to_message(one)) for one in said] == said
    assert from_message(to_message(None)) is None
    assert "no more" in str(from_message(to_message(ValueError("no more"))))


def test_real_processes(tmp_path: Path) -> None:
    """Same predictions as in this process; kill -9, idle and at work, and a hang are survived; nothing is left."""
    folder = write_model(tmp_path / "model")
    photo = encode(paint(3, (230, 170)))
    expected = spectraderm.load_model(folder, threads=1).predict(photo)
    pids: list[int] = []
    before = {process.pid for process in multiprocessing.active_children()}  # what other tests may have left

    def worker() -> int:
        (process,) = (process for process in multiprocessing.active_children() if process.pid not in before)
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
        with pytest.raises(Refusal, match=r"more than 0.5 seconds"):
            await pool.predict(bytes(3_000_000))  # more than its pipe holds
        assert await pool.predict(photo) == expected
        worker()

    with_pool(small(0.5, model=str(folder)), steps)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(tmp_path: Path) -> None:
    pool = small(model=str(tmp_path))
    with pytest.raises(ModelFolderError, match=tmp_path.name):
        with_pool(pool, lambda _: asyncio.sleep(0))
    assert not pool.ready


def test_a_process_that_ends_while_it_loads_is_an_error_at_the_start_and_later_a_reason_to_ask_again(
    painted: type[Painted], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(pool: Pool) -> None:
        monkeypatch.setattr(painted, "loads", False)
        assert await results(pool, CRASH) == ["NotReady"]
        assert not pool.ready
        monkeypatch.setattr(painted, "loads", True)
        assert await results(pool, b"a") == ["a"]

    with_pool(small(), steps)
    monkeypatch.setattr(painted, "loads", False)
    with pytest.raises(ModelFolderError, match="can't be started"):
        with_pool(small(), steps)


def test_every_process_gets_the_model_and_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str | None, Runtime]] = []
    monkeypatch.setattr(pools, "Worker", lambda source, runtime, _: made.append((source, runtime)))
    Pool(ServeOptions("some/model", workers=2, runtime="openvino", precision="bf16"))
    assert made == [("some/model", Runtime("openvino", "bf16"))] * 2
