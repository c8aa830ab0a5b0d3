import asyncio
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, paint
from handmade import write_model

import spectraderm
from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError, UnreadablePhoto
from spectraderm.inference.prediction import Prediction, unusable
from spectraderm.serving import pool as workers
from spectraderm.serving.pool import Pool
from spectraderm.serving.refusals import NotReady, TooBusy, TooLate, TooSlow
from spectraderm.serving.worker import Died, _Failure

CRASH, HANG = b"crash", b"hang"


class Painted:
    """In place of an engine process: says each photo's bytes back as a reason, once `go` is set."""

    go = threading.Event()
    turns: list[list[bytes]]

    def __init__(self, source: str | None) -> None:  # noqa: ARG002
        self.alive = False
        self.pid = 0
        self.ended = threading.Event()

    def start(self) -> None:
        self.alive = True
        self.ended = threading.Event()

    def ask(self, photos: Sequence[bytes]) -> list[Prediction | SpectraDermError]:
        self.turns.append(list(photos))
        self.go.wait(5)
        if HANG in photos:
            self.ended.wait(5)
        if CRASH in photos or self.ended.is_set():
            self.alive = False
            raise Died
        return [unusable(photo.decode(), 0.9, "m") for photo in photos]

    def kill(self) -> None:
        self.alive = False
        self.ended.set()

    def close(self) -> None:
        self.kill()


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> type[Painted]:
    monkeypatch.setattr(workers, "EngineProcess", Painted)
    monkeypatch.setattr(Painted, "turns", [], raising=False)
    monkeypatch.setattr(Painted, "go", threading.Event())
    Painted.go.set()
    return Painted


def with_pool(pool: Pool, steps: Callable[[Pool], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await pool.start()
        try:
            await steps(pool)
        finally:
            await pool.stop()

    asyncio.run(run())


async def said(pool: Pool, *photos: bytes) -> list[str]:
    """Of each photo what was said of it, or the error's name."""
    answers = await asyncio.gather(*map(pool.predict, photos), return_exceptions=True)
    return [one.reason if isinstance(one, Prediction) else type(one).__name__ for one in answers]


def test_so_many_photos_wait_and_no_more(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, painted.go.set)
        assert await said(pool, *(b"%d" % n for n in range(7))) == [*"01234", "TooBusy", "TooBusy"]
        assert (pool.pending, pool.waiting) == (0, 0)
        assert await said(pool, b"again") == ["again"]

    with_pool(Pool(None, 2, 3, 5.0), steps)
    with pytest.raises(NotReady):
        asyncio.run(Pool(None, 1, 1, 5.0).predict(b"early"))


def test_what_waits_too_long_is_given_up_and_never_computed(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        first = asyncio.create_task(said(pool, b"first"))
        await asyncio.sleep(0.05)
        leaver = asyncio.create_task(pool.predict(b"leaves"))
        asyncio.get_running_loop().call_later(0.05, leaver.cancel)
        start = time.perf_counter()
        with pytest.raises(TooLate):
            await asyncio.wait_for(pool.predict(b"late"), 5)
        assert 0.15 < time.perf_counter() - start < 2
        assert pool.pending == 1
        painted.go.set()
        assert await first == ["first"]
        assert await said(pool, b"next") == ["next"]

    with_pool(Pool(None, 1, 9, 5.0, patience=0.2), steps)
    assert painted.turns == [[b"first"], [b"next"]]


def test_a_photo_that_ends_its_process_harms_no_other(painted: type[Painted]) -> None:
    """It is tried twice; one that hangs once. In a batch, each is then tried alone."""

    async def steps(pool: Pool) -> None:
        assert await said(pool, b"a", CRASH, b"b", HANG, b"c") == ["a", "UnreadablePhoto", "b", "TooSlow", "c"]
        assert pool.ready

    with_pool(Pool(None, 1, 9, 0.1, patience=5), steps)
    assert painted.turns == [[b"a"], [CRASH], [CRASH], [b"b"], [HANG], [b"c"]]
    painted.turns.clear()
    with_pool(Pool(None, 1, 9, 0.1, batch=5, patience=5), steps)
    assert painted.turns == [[b"a", CRASH, b"b", HANG, b"c"], [b"a"], [CRASH], [b"b"], [HANG], [b"c"]]


def test_a_batch_takes_what_waits_and_waits_for_nothing(painted: type[Painted]) -> None:
    painted.go.clear()

    async def steps(pool: Pool) -> None:
        first = asyncio.create_task(pool.predict(b"0"))
        await asyncio.sleep(0.05)
        asyncio.get_running_loop().call_later(0.05, painted.go.set)
        assert await said(pool, *(b"%d" % n for n in range(1, 7))) == [*"123456"]
        assert (await first).reason == "0"

    with_pool(Pool(None, 1, 9, 5.0, batch=4), steps)
    assert [len(turn) for turn in painted.turns] == [1, 4, 2]


def test_stopping_answers_whoever_waits(painted: type[Painted]) -> None:
    painted.go.clear()
    pool = Pool(None, 1, 9, 5.0)

    async def steps() -> None:
        await pool.start()
        asked = asyncio.create_task(said(pool, b"a", b"b"))
        await asyncio.sleep(0.05)
        await pool.stop()
        assert await asyncio.wait_for(asked, 2) == ["NotReady", "NotReady"]
        assert not pool.ready

    asyncio.run(steps())


@pytest.mark.parametrize(
    "error", [UnreadablePhoto("a", "b"), MissingExtra("x is HEIC, and its decoder", "heic"), TooBusy("c")]
)
def test_errors_survive_the_way_between_processes(error: SpectraDermError) -> None:
    made = pickle.loads(pickle.dumps(_Failure(type(error), error.problem, error.remedy))).error()
    assert (type(made), made.problem, made.remedy, str(made)) == (
        type(error),
        error.problem,
        error.remedy,
        str(error),
    )


def test_real_processes(tmp_path: Path) -> None:
    """Same answers as in this process; kill -9, idle and at work, and a hang are survived; nothing is left behind."""
    folder = write_model(tmp_path / "model")
    photo = encode(paint(3, (230, 170)))
    expected = spectraderm.load_model(folder, threads=1).predict(photo)
    pids: list[int | None] = []

    async def steps(pool: Pool) -> None:
        assert await pool.predict(photo) == expected
        with pytest.raises(UnreadablePhoto, match="not a photo"):
            await pool.predict(b"no photo")
        (first,) = pool.pids
        assert first
        os.kill(first, signal.SIGTERM)  # as a service manager does to all; only the front process minds
        os.kill(first, signal.SIGINT)
        assert await pool.predict(photo) == expected
        os.kill(first, signal.SIGKILL)  # idle
        assert await pool.predict(photo) == expected
        (second,) = pool.pids
        assert second
        assert second != first
        os.kill(second, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.1, os.kill, second, signal.SIGKILL)  # at work
        assert await pool.predict(photo) == expected
        (third,) = pool.pids
        assert third
        assert third != second
        os.kill(third, signal.SIGSTOP)
        with pytest.raises(TooSlow):
            await pool.predict(photo)
        pids.extend([first, second, third])

    with_pool(Pool(str(folder), 1, 4, 1.0), steps)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(tmp_path: Path) -> None:
    pool = Pool(str(tmp_path), 1, 1, 1.0)
    with pytest.raises(ModelFolderError):
        asyncio.run(pool.start())
    assert not pool.ready
    pool.kill()
