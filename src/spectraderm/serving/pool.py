"""A bounded pool of processes, each of which holds the model; a photo that crashes or hangs one harms no other."""

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import cast

from spectraderm.core.errors import ModelFolderError, SpectraDermError, UnreadablePhoto
from spectraderm.core.parallel import cores
from spectraderm.inference.classifier import Prediction, load_model
from spectraderm.inference.engine import ONNXRUNTIME
from spectraderm.serving.middleware import Refusal

QUEUE_PER_WORKER = 16
_SPAWN = multiprocessing.get_context("spawn")  # never forked: the server process has threads
_LOAD_SECONDS = 120.0
_THREADS = 2
"""Of each process: a photo is done sooner while other cores rest, and under load it costs nothing."""
_NICE = 2
"""Lower priority than the server process, so that it refuses at once however busy the workers are."""

_Failure = tuple[type[SpectraDermError], str, str]
"""A `SpectraDermError` between processes, for not every one survives pickling: class, problem and remedy."""


class Crashed(Exception):
    """The process ended before it answered."""


class Worker:
    """One process that holds the model. Its methods block; one thread at a time calls them, `kill` any.

    Args:
        source, runtime: the model, and what computes it; see `spectraderm.load_model`.
    """

    def __init__(self, source: str | None, runtime: str) -> None:
        self._source, self._runtime = source, runtime
        self._process: BaseProcess | None = None
        self._link: Connection | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        """Start the process anew and wait until it has loaded the model.

        Raises:
            ModelFolderError: the model can't be loaded, or not in time.
        """
        self.kill()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # inherited: NumPy's threads would wait by spinning
        self._link, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_work, args=(self._source, self._runtime, theirs), name="worker", daemon=True
        )
        self._process.start()
        theirs.close()  # or the end of the process would go unnoticed
        loaded: bool | _Failure = False
        with suppress(EOFError, OSError):
            loaded = self._link.poll(_LOAD_SECONDS) and self._link.recv()
        if loaded is not True:
            self.kill()
            raise _error(loaded) if loaded else ModelFolderError("a worker process can't be started", "Try again")

    def predict(self, photo: bytes) -> Prediction:
        """The prediction of a photo's bytes. Raises as `Classifier.predict`, or `Crashed`."""
        link, process = self._link, self._process  # `start` may put others in their place, once this one was killed
        assert link is not None
        assert process is not None
        try:
            link.send(photo)
            result = cast("Prediction | _Failure", link.recv())
        except (EOFError, OSError) as error:
            process.kill()  # its pipe closes a moment before the process counts as ended
            process.join()
            raise Crashed from error
        if isinstance(result, tuple):
            raise _error(result)
        return result

    def kill(self) -> None:
        """End the process at once; a `predict` that waits for it raises `Crashed`."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _error(failure: _Failure) -> SpectraDermError:
    kind, problem, remedy = failure
    made = kind.__new__(kind)
    SpectraDermError.__init__(made, problem, remedy)
    return made


def _work(source: str | None, runtime: str, link: Connection) -> None:
    """Load the model and predict until the server process has gone; its signals are not for this process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        classifier = load_model(source, _THREADS, runtime)
    except SpectraDermError as error:
        link.send((type(error), error.problem, error.remedy))
        return
    link.send(True)
    with suppress(EOFError, OSError):  # the server process has gone
        while True:
            try:
                result: Prediction | _Failure = classifier.predict(link.recv())
            except SpectraDermError as error:
                result = (type(error), error.problem, error.remedy)
            link.send(result)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


class Pool:
    """Worker processes and the photos that wait for one. Belongs to the event loop that starts it.

    Args:
        source: the model; see `spectraderm.load_model`, as for `runtime`.
        workers: how many processes, of two threads each; 0 is one per core.
        queue: how many photos may wait; 0 is 16 per process.
        seconds: time limit of one photo in its process.
        patience: seconds that a photo may wait for a process; by default `seconds`.

    Attributes:
        pending: how many photos wait or are being classified.
        draining: the server is about to stop: `ready` is False, but photos are still classified.
    """

    def __init__(
        self,
        source: str | None,
        workers: int = 0,
        queue: int = 0,
        seconds: float = 10,
        patience: float = 0,
        runtime: str = ONNXRUNTIME,
    ) -> None:
        self.pending, self.draining = 0, False
        self._seconds, self._patience = seconds, patience or seconds
        self._workers = [Worker(source, runtime) for _ in range(workers or cores())]
        self.queue = queue or QUEUE_PER_WORKER * self.size
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._threads = ThreadPoolExecutor(2 * self.size, "worker")  # one more each: it may wait for a killed process

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._workers)

    @property
    def ready(self) -> bool:
        """Whether photos are classified and will be for a while."""
        return not self.draining and any(worker.alive for worker in self._workers)

    async def start(self) -> None:
        """Start every process and wait until each has loaded the model. Raises as `spectraderm.load_model`."""
        run = asyncio.get_running_loop().run_in_executor
        await asyncio.gather(*(run(self._threads, worker.start) for worker in self._workers))
        for worker in self._workers:
            self._idle.put_nowait(worker)

    def stop(self) -> None:
        """End every process at once."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=False)

    async def predict(self, photo: bytes) -> Prediction:
        """The prediction of a photo's bytes.

        Raises:
            Refusal: `TooBusy`, the queue is full; `TooLate`, the photo waited for `patience` seconds and was dropped
                unread; `TooSlow`, no result came within `seconds`, and its process was ended.
            UnreadablePhoto, MissingExtra: as `Classifier.predict`; the first, too, where it crashed two processes.
            ModelFolderError: a process that crashed can't load the model again.
        """
        if self.pending >= self.size + self.queue:
            raise Refusal("TooBusy", f"{self.queue} photos wait already", "Send it again later")
        self.pending += 1
        try:
            try:
                async with asyncio.timeout(self._patience):
                    worker = await self._idle.get()
            except TimeoutError as error:
                raise Refusal("TooLate", "the photo waited too long for its turn", "Send it again later") from error
            try:
                return await self._predict(worker, photo)
            finally:
                self._idle.put_nowait(worker)
        finally:
            self.pending -= 1

    async def _predict(self, worker: Worker, photo: bytes) -> Prediction:
        """Let a process predict, in a thread; one that crashes is replaced, and the photo tried once more."""
        run = asyncio.get_running_loop().run_in_executor
        for _ in range(2):
            if not worker.alive:
                await run(self._threads, worker.start)
            try:
                async with asyncio.timeout(self._seconds):
                    return await run(self._threads, worker.predict, photo)
            except Crashed:
                continue
            except TimeoutError as error:
                worker.kill()
                problem = f"the photo took more than {self._seconds:g} seconds"
                raise Refusal("TooSlow", problem, "Scale it down") from error
            except asyncio.CancelledError:
                worker.kill()  # or the next photo would get the result of this one
                raise
        raise UnreadablePhoto("the photo made the program that reads it fail, twice", "Save it again as JPEG")
