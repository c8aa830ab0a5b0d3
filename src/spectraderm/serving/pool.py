"""A bounded pool of processes, each of which holds the model; a photo that crashes or hangs one harms no other."""

import asyncio
import multiprocessing
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess
from typing import Any

from spectraderm.core import Choice
from spectraderm.core.errors import ModelFolderError, UnreadablePhoto
from spectraderm.core.parallel import cores
from spectraderm.inference.engine import Runtime
from spectraderm.inference.prediction import Prediction
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.refusals import Refusal
from spectraderm.serving.worker import from_message, work

QUEUE_PER_WORKER = 16
_LOAD_SECONDS = 120.0


class WorkerGone(Exception):
    """A worker process has ended before it answered."""


class NotLoaded(Exception):
    """A worker process has ended, or took too long, before it had loaded the model."""


def start_process(line: socket.socket, source: str | None, runtime: Runtime, calibration: Choice) -> BaseProcess:
    """A process that begins to load a model and to classify what comes over the line."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # inherited: NumPy's threads would wait by spinning
    spawn = multiprocessing.get_context("spawn")  # never forked: the server process has threads
    process = spawn.Process(target=work, args=(line, source, runtime, calibration))
    process.start()
    return process


class Worker:
    """One process that holds the model, and the photos that it was sent and has not answered: two at most.

    Args:
        source, runtime, calibration: the model, what computes it and what it judges by; see `spectraderm.load_model`.
    """

    def __init__(self, source: str | None, runtime: Runtime, calibration: Choice) -> None:
        self._model = (source, runtime, calibration)
        self._process: BaseProcess | None = None
        self._line: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None
        self._sent: deque[tuple[asyncio.Future[Any], Callable[[], None]]] = deque()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.is_alive()

    @property
    def load(self) -> int:
        """How many photos it has to answer."""
        return len(self._sent)

    async def start(self) -> None:
        """Start the process anew and wait until it has loaded the model.

        Raises:
            SpectraDermError: as `spectraderm.load_model`.
            NotLoaded: it ended before it had, or took too long.
        """
        self.kill()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = start_process(theirs, *self._model)
        reader, self._line = await asyncio.open_connection(sock=ours)
        self._listener = asyncio.create_task(self._listen(reader))
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                await self._expect()
        except Exception as error:
            self.kill()
            if isinstance(error, (WorkerGone, TimeoutError)):
                raise NotLoaded from error
            raise

    async def predict(self, photo: bytes, seconds: float, looked_at: Callable[[], None]) -> Prediction:
        """The prediction of a photo's bytes; `looked_at` is called when the next can be sent, if before the end.

        Raises as `Classifier.predict`, `WorkerGone`, or `TimeoutError` where the process works on it for too long.
        """
        assert self._line
        ahead = [answer for answer, _ in self._sent]
        self._line.write(len(photo).to_bytes(4, signed=True))
        self._line.write(memoryview(photo))  # of whose rest, where it is large, asyncio makes one copy
        answer: asyncio.Future[Prediction] = self._expect(looked_at)
        if ahead:
            await asyncio.wait(ahead)
        async with asyncio.timeout(seconds):
            return await answer

    def kill(self) -> None:
        """End the process at once; who waits for its answers gets `WorkerGone`."""
        if self._process:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._listener:
            self._listener.cancel()
        if self._line:
            self._line.transport.abort()
        while self._sent:
            answer, _ = self._sent.popleft()
            if not answer.done():
                answer.set_exception(WorkerGone())
                answer.exception()  # which is not logged now where nobody waits any more

    def _expect(self, looked_at: Callable[[], None] = lambda: None) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._sent.append((answer, looked_at))
        return answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Take what comes, framed as `multiprocessing.connection.Connection` frames it, until its end."""
        with suppress(Exception):  # it has ended, or sends what it should not
            while True:
                message = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                if not message:
                    self._sent[0][1]()
                    continue
                made = from_message(message)
                answer, _ = self._sent.popleft()
                if answer.done():  # who waited has gone
                    continue
                if isinstance(made, Exception):
                    answer.set_exception(made)
                else:
                    answer.set_result(made)
        self.kill()


class Pool:
    """Worker processes and the photos that wait for one. Belongs to the event loop that starts it.

    A worker is sent the next photo when it has looked at the one before, so that it never waits for one. What crashes
    or hangs does so until then: no photo is behind it.

    Attributes:
        pending: how many photos wait or are being classified.
        draining: the server is about to stop: `ready` is False, but photos are still classified.
        patience: seconds that a photo may wait for a process.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.pending, self.draining = 0, False
        self._seconds = self.patience = options.seconds
        model = (options.model, Runtime(options.runtime, options.precision), options.calibration)
        self._workers = [Worker(*model) for _ in range(options.workers or cores())]
        self.size = len(self._workers)
        self.queue = options.queue or QUEUE_PER_WORKER * self.size
        self._free = set(self._workers)
        self._turns = asyncio.Semaphore(self.size)

    @property
    def ready(self) -> bool:
        """Whether photos are classified and will be for a while."""
        return not self.draining and any(worker.alive for worker in self._workers)

    async def start(self) -> None:
        """Start every process and wait until each has loaded the model. Raises as `spectraderm.load_model`."""
        try:
            await asyncio.gather(*(worker.start() for worker in self._workers))
        except NotLoaded as error:
            raise ModelFolderError("a worker process can't be started", "Try again") from error

    def stop(self) -> None:
        """End every process at once."""
        for worker in self._workers:
            worker.kill()

    async def predict(self, photo: bytes) -> Prediction:
        """The prediction of a photo's bytes.

        Raises:
            Refusal: `TooBusy`, the queue is full; `TooLate`, the photo waited for `patience` seconds and was dropped
                unread; `TooSlow`, no result came within the time limit, and its process was ended; `NotReady`, a new
                process ended before it had loaded the model.
            UnreadablePhoto, MissingExtra: as `Classifier.predict`; the first, too, where it crashed two processes.
            ModelFolderError: a process that crashed can't load the model again.
        """
        if self.pending >= self.size + self.queue:
            raise Refusal("TooBusy", f"{self.queue} photos wait already", "Send it again later")
        self.pending += 1
        worker = None
        try:
            worker = await self._turn()
        finally:
            self.pending -= worker is None  # its place is free, also where the client has left
        answer = asyncio.create_task(self._predict_and_leave(worker, photo))
        answer.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # or asyncio logs what nobody awaits
        return await asyncio.shield(answer)  # who leaves later ends no worker

    async def _turn(self) -> Worker:
        """A worker that can be sent a photo, and that is taken from then on."""
        try:
            async with asyncio.timeout(self.patience):
                await self._turns.acquire()
        except TimeoutError as error:
            raise Refusal("TooLate", "the photo waited too long for its turn", "Send it again later") from error
        worker = min(self._free, key=lambda one: one.load)
        self._free.remove(worker)
        return worker

    def _end_turn(self, worker: Worker) -> None:
        self._free.add(worker)
        self._turns.release()

    async def _predict_and_leave(self, worker: Worker, photo: bytes) -> Prediction:
        """Let a process predict; where it crashes, the photo waits for another turn, once."""
        try:
            with suppress(WorkerGone):
                return await self._predict(worker, photo)
            with suppress(WorkerGone):
                return await self._predict(await self._turn(), photo)
        finally:
            self.pending -= 1
        raise UnreadablePhoto("the photo made the program that reads it fail, twice", "Save it again as JPEG")

    async def _predict(self, worker: Worker, photo: bytes) -> Prediction:
        """Let a process predict, after it is started where it has ended."""
        with ExitStack() as turn:
            turn.callback(self._end_turn, worker)
            try:
                if not worker.alive:
                    await worker.start()
                return await worker.predict(photo, self._seconds, turn.close)
            except NotLoaded as error:
                raise Refusal("NotReady", "the server restarts its workers", "Ask again in a second") from error
            except TimeoutError as error:
                worker.kill()
                problem = f"the photo took more than {self._seconds:g} seconds"
                raise Refusal("TooSlow", problem, "Scale it down") from error
            except asyncio.CancelledError:
                worker.kill()  # or the next photo would get in line behind this one
                raise
