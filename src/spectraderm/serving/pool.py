"""A bounded queue of photos before some engine processes."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.inference.prediction import Prediction
from spectraderm.serving.refusals import NotReady, TooBusy, TooLate, TooSlow
from spectraderm.serving.worker import Died, EngineProcess, cores

QUEUE_PER_WORKER = 16
_BEFORE_RETRY = 1.0
"""Seconds until a process that could not be started again is tried once more."""

Said = Prediction | SpectraDermError


@dataclass
class _Job:
    """A photo and who waits for what is said of it."""

    data: bytes
    answer: asyncio.Future[Prediction]
    taken: bool = False

    def give_up(self) -> None:
        """Of one that has waited long enough, unless its turn has come."""
        if not self.taken and not self.answer.done():
            self.answer.set_exception(TooLate("the photo waited too long for its turn", "Send it again later"))

    def settle(self, said: Said) -> None:
        if self.answer.done():  # who asked has gone
            return
        if isinstance(said, Prediction):
            self.answer.set_result(said)
        else:
            self.answer.set_exception(said)


class Pool:
    """Engine processes behind one queue. Belongs to the event loop that starts it.

    Args:
        source: the model; see `spectraderm.load_model`.
        workers: how many processes, each with two threads; 0 is one per core.
        queue: how many photos may wait; 0 is 16 per process.
        seconds: how long looking at a photo may take.
        batch: how many waiting photos a free process takes at a time, to look at one by one.
        patience: how many seconds a photo may wait for its turn; by default `seconds`.

    Attributes:
        pending: photos that wait or are being looked at.
        draining: the server is about to stop: `ready` is False, and what comes nevertheless is answered.
    """

    def __init__(
        self,
        source: str | None,
        workers: int,
        queue: int,
        seconds: float,
        batch: int = 1,
        patience: float | None = None,
    ) -> None:
        self.workers = workers or cores()
        self.queue = queue or QUEUE_PER_WORKER * self.workers
        self.pending, self.draining, self._answered = 0, False, 0.0
        self._seconds, self._batch = seconds, batch
        self._patience = seconds if patience is None else patience
        self._processes = [EngineProcess(source) for _ in range(self.workers)]
        self._threads = ThreadPoolExecutor(2 * self.workers, "engine")  # one may still be waiting for a killed process
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._loops: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Loaded, alive, and not about to stop."""
        return bool(self._loops) and not self.draining and any(process.alive for process in self._processes)

    @property
    def over(self) -> bool:
        """The server is about to stop, and the last answer was given more than a second ago."""
        return self.draining and not self.pending and time.monotonic() - self._answered > 1

    @property
    def waiting(self) -> int:
        """How many photos wait for their turn."""
        return self._jobs.qsize()

    @property
    def pids(self) -> list[int | None]:
        """The numbers of the engine processes."""
        return [process.pid for process in self._processes]

    async def start(self) -> None:
        """Start all processes and wait until each has loaded the model. Raises as `spectraderm.load_model`."""
        run = asyncio.get_running_loop().run_in_executor
        await asyncio.gather(*(run(self._threads, process.start) for process in self._processes))
        self._loops = [asyncio.create_task(self._serve(process)) for process in self._processes]

    async def predict(self, data: bytes) -> Prediction:
        """What the model says of a photo's bytes.

        Raises:
            NotReady: the pool has not been started.
            TooBusy: as many photos wait as may.
            TooLate: it waited for `patience` seconds, and was not looked at.
            TooSlow: looking at it took more than `seconds`.
            UnreadablePhoto, MissingExtra, ModelFolderError: as `Classifier.predict`; the first, too, where the photo
                made two processes end.
        """
        if not self._loops:
            raise NotReady("the model is still being loaded", "Send it again in some seconds")
        if self.pending >= self.workers * self._batch + self.queue:
            raise TooBusy(f"{self.queue} photos wait already", "Send it again later")
        loop = asyncio.get_running_loop()
        job = _Job(data, loop.create_future())
        patience = loop.call_later(self._patience, job.give_up)
        self._jobs.put_nowait(job)
        self.pending += 1
        try:
            return await job.answer
        finally:
            patience.cancel()
            job.data = b""
            self.pending -= 1
            self._answered = time.monotonic()

    async def stop(self) -> None:
        """End all processes; what still waits gets `NotReady`."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops = []
        self.kill()
        while not self._jobs.empty():
            self._jobs.get_nowait().settle(NotReady("the server stops", "Send it again later"))
        self._threads.shutdown(wait=False)

    def kill(self) -> None:
        """End all processes at once."""
        for process in self._processes:
            process.close()

    async def _serve(self, process: EngineProcess) -> None:
        """One process's turns, for as long as the pool lives."""
        while True:
            jobs = await self._next()
            try:
                await self._answer(process, jobs)
            finally:  # stopped meanwhile
                for job in jobs:
                    job.settle(NotReady("the server stops", "Send it again later"))

    async def _next(self) -> list[_Job]:
        """The jobs of one turn: those that wait, up to `batch`, without waiting for more; the given up ones aside."""
        jobs: list[_Job] = []
        while not jobs or (len(jobs) < self._batch and not self._jobs.empty()):
            job = await self._jobs.get()
            if not job.answer.done():
                job.taken = True
                jobs.append(job)
        return jobs

    async def _answer(self, process: EngineProcess, jobs: Sequence[_Job], again: bool = True) -> None:
        """Settle the jobs. Where they bring down the process, or take too long together, each is tried alone."""
        failed: SpectraDermError
        try:
            for job, said in zip(jobs, await self._ask(process, [job.data for job in jobs]), strict=True):
                job.settle(said)
            return
        except TimeoutError:
            again = len(jobs) > 1
            failed = TooSlow(f"looking at the photo took more than {self._seconds:g} seconds", "Scale it down")
        except Died:
            failed = UnreadablePhoto("the photo made the program that reads it fail, twice", "Save it again as JPEG")
        for job in jobs:
            if again:
                await self._answer(process, [job], again=False)
            else:
                job.settle(failed)

    async def _ask(self, process: EngineProcess, photos: list[bytes]) -> list[Said]:
        """Ask in a thread. Raises `Died`, or, having ended the process, `TimeoutError`."""
        run = asyncio.get_running_loop().run_in_executor
        while not process.alive:
            with suppress(SpectraDermError):
                await run(self._threads, process.start)
                break
            await asyncio.sleep(_BEFORE_RETRY)
        try:
            return await asyncio.wait_for(run(self._threads, process.ask, photos), self._seconds * len(photos))
        except TimeoutError:
            process.kill()
            raise
