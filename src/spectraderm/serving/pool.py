"""A bounded pool of processes, each of which holds the model; a photo that crashes or hangs one harms no other."""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing.connection import wait
from threading import Thread

from spectraderm.core.errors import ModelFolderError, SpectraDermError, UnreadablePhoto
from spectraderm.core.parallel import cores
from spectraderm.inference.calibration import Choice
from spectraderm.inference.classifier import Classifier, Prediction, load_model
from spectraderm.inference.engine import Runtime
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.refusals import Refusal

QUEUE_PER_WORKER = 16
_LOAD_SECONDS = 120.0
_THREADS = 2
"""Of each process: a photo is done sooner while other cores rest, and under load it costs nothing."""
_NICE = 2
"""Lower priority than the server process, so that it refuses at once however busy the workers are."""


class Worker:
    """One process that holds the model: an executor of its own, so that it can be ended and replaced alone.

    Args:
        source, runtime, calibration: the model, what computes it and what it judges by; see `spectraderm.load_model`.
    """

    def __init__(self, source: str | None, runtime: Runtime, calibration: Choice) -> None:
        self._model = (source, runtime, calibration)
        self._executor: ProcessPoolExecutor | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return any(process.pid == self._pid for process in multiprocessing.active_children())

    async def start(self) -> None:
        """Start the process anew and wait until it has loaded the model.

        Raises:
            ModelFolderError: the model can't be loaded, or not in time.
        """
        self.kill()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # inherited: NumPy's threads would wait by spinning
        spawn = multiprocessing.get_context("spawn")  # never forked: the server process has threads
        self._executor = ProcessPoolExecutor(1, spawn, _prepare)
        run = asyncio.get_running_loop().run_in_executor
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                self._pid = await run(self._executor, os.getpid)
                await run(self._executor, _load, *self._model)
        except (SpectraDermError, BrokenProcessPool, TimeoutError) as error:
            self.kill()
            if isinstance(error, SpectraDermError):
                raise
            raise ModelFolderError("a worker process can't be started", "Try again") from error

    async def predict(self, photo: bytes) -> Prediction:
        """The prediction of a photo's bytes. Raises as `Classifier.predict`, or `BrokenProcessPool`."""
        assert self._executor
        return await asyncio.get_running_loop().run_in_executor(self._executor, _predict, *self._model, photo)

    def kill(self) -> None:
        """End the process at once; it is not alive from then on, whoever reaps it."""
        pid, self._pid = self._pid, 0
        for process in multiprocessing.active_children():
            if process.pid == pid:
                process.kill()
                process.join()
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _prepare() -> None:
    """Make a new process leave the server's signals to the server, and end when that has gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


@cache
def _classifier(source: str | None, runtime: Runtime, calibration: Choice) -> Classifier:
    """The model of this process."""
    return load_model(source, _THREADS, runtime.name, calibration, runtime.precision)


def _load(source: str | None, runtime: Runtime, calibration: Choice) -> None:
    _classifier(source, runtime, calibration)


def _predict(source: str | None, runtime: Runtime, calibration: Choice, photo: bytes) -> Prediction:
    _, answer = next(_classifier(source, runtime, calibration).predict_each([("", photo)]))
    if isinstance(answer, SpectraDermError):
        raise answer
    return answer


class Pool:
    """Worker processes and the photos that wait for one. Belongs to the event loop that starts it.

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
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()

    @property
    def ready(self) -> bool:
        """Whether photos are classified and will be for a while."""
        return not self.draining and any(worker.alive for worker in self._workers)

    async def start(self) -> None:
        """Start every process and wait until each has loaded the model. Raises as `spectraderm.load_model`."""
        await asyncio.gather(*(worker.start() for worker in self._workers))
        for worker in self._workers:
            self._idle.put_nowait(worker)

    def stop(self) -> None:
        """End every process at once."""
        for worker in self._workers:
            worker.kill()

    async def predict(self, photo: bytes) -> Prediction:
        """The prediction of a photo's bytes.

        Raises:
            Refusal: `TooBusy`, the queue is full; `TooLate`, the photo waited for `patience` seconds and was dropped
                unread; `TooSlow`, no result came within the time limit, and its process was ended.
            UnreadablePhoto, MissingExtra: as `Classifier.predict`; the first, too, where it crashed two processes.
            ModelFolderError: a process that crashed can't load the model again.
        """
        if self.pending >= self.size + self.queue:
            raise Refusal("TooBusy", f"{self.queue} photos wait already", "Send it again later")
        self.pending += 1
        worker = None
        try:
            async with asyncio.timeout(self.patience):
                worker = await self._idle.get()
        except TimeoutError as error:
            raise Refusal("TooLate", "the photo waited too long for its turn", "Send it again later") from error
        finally:
            self.pending -= worker is None  # its place is free, also where the client has left
        return await asyncio.shield(self._predict_and_free(worker, photo))  # who leaves later ends no worker

    async def _predict_and_free(self, worker: Worker, photo: bytes) -> Prediction:
        try:
            return await self._predict(worker, photo)
        finally:
            self.pending -= 1
            self._idle.put_nowait(worker)

    async def _predict(self, worker: Worker, photo: bytes) -> Prediction:
        """Let a process predict; one that crashes is replaced, and the photo tried once more."""
        for _ in range(2):
            try:
                if not worker.alive:
                    await worker.start()
                async with asyncio.timeout(self._seconds):
                    return await worker.predict(photo)
            except BrokenProcessPool:
                worker.kill()
            except TimeoutError as error:
                worker.kill()
                problem = f"the photo took more than {self._seconds:g} seconds"
                raise Refusal("TooSlow", problem, "Scale it down") from error
            except asyncio.CancelledError:
                worker.kill()  # or the next photo would get in line behind this one
                raise
        raise UnreadablePhoto("the photo made the program that reads it fail, twice", "Save it again as JPEG")
