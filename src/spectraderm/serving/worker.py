"""A process that holds the model and answers for photos; a photo that brings it down brings down nothing else."""

import atexit
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Thread

from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference.classifier import Classifier, load_model
from spectraderm.inference.prediction import Prediction

_SPAWN = multiprocessing.get_context("spawn")  # never forked: the front process has threads
_LOAD_SECONDS = 120.0
_NICE = 2
"""Less urgent than the front process, so that it refuses at once however much the engines have to do."""
_THREADS = 2
"""Of each engine: while others rest, a photo is done sooner, and under load it costs nothing."""


class Died(Exception):
    """The process ended before it answered."""


@dataclass(frozen=True)
class _Failure:
    """A `SpectraDermError` between processes: exceptions with arguments of their own do not survive pickling."""

    kind: type[SpectraDermError]
    problem: str
    remedy: str

    def error(self) -> SpectraDermError:
        made = self.kind.__new__(self.kind)
        SpectraDermError.__init__(made, self.problem, self.remedy)
        return made


class EngineProcess:
    """One such process. Its methods block, and are called by one thread at a time; `kill` by any.

    Args:
        source: the model; see `spectraderm.load_model`.
    """

    def __init__(self, source: str | None) -> None:
        self._source = source
        self._process: BaseProcess | None = None
        self._link: Connection | None = None
        atexit.register(self.kill)  # before multiprocessing's own, which would wait for it for ever

    @property
    def alive(self) -> bool:
        """It runs."""
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it anew, and wait until the model has been loaded and has answered once.

        Raises:
            ModelFolderError: the model can't be loaded, or not in time.
        """
        self.kill()
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # inherited: NumPy's own threads would wait by spinning
        self._link, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(self._source, theirs), name="engine", daemon=True)
        self._process.start()
        theirs.close()  # or its end would not be noticed
        try:
            loaded = self._link.recv() if self._link.poll(_LOAD_SECONDS) else None
        except (EOFError, OSError):
            loaded = None
        if loaded is not True:
            self.kill()
            raise loaded.error() if loaded else ModelFolderError("an engine process can't be started", "Try again")

    def ask(self, photos: Sequence[bytes]) -> list[Prediction | SpectraDermError]:
        """What the model says of each photo. Raises `Died`."""
        assert self._link is not None
        try:
            self._link.send(photos)
            said = self._link.recv()
        except (EOFError, OSError) as error:
            self.kill()  # its pipe closes a moment before it counts as ended
            raise Died from error
        return [one.error() if isinstance(one, _Failure) else one for one in said]

    def kill(self) -> None:
        """End it, whatever it does; who waits for its answer learns that it died."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        atexit.unregister(self.kill)


def _work(source: str | None, link: Connection) -> None:
    """What the process does until its parent has gone. A signal to all of a terminal or a service is not for it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        classifier = load_model(source, threads=_THREADS)
    except SpectraDermError as error:
        link.send(_Failure(type(error), error.problem, error.remedy))
        return
    link.send(True)
    try:
        while True:
            link.send([_answer(classifier, photo) for photo in link.recv()])
    except (EOFError, OSError):
        pass  # the parent has gone


def _answer(classifier: Classifier, photo: bytes) -> Prediction | _Failure:
    try:
        return classifier.predict(photo)
    except SpectraDermError as error:
        return _Failure(type(error), error.problem, error.remedy)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


def cores() -> int:
    """How many this program may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
