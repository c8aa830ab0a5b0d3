"""What a worker process does: it loads the model and classifies the photos that come over a line, in order."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from threading import Thread

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.calibration import Choice
from spectraderm.inference.classifier import Classifier, Opened, Prediction, load_model
from spectraderm.inference.engine import Runtime

_THREADS = 2
"""Of each process: a photo is done sooner while other cores rest, and under load it costs nothing."""
_NICE = 2
"""Lower priority than the server process, so that it refuses at once however busy the workers are."""


def work(line: socket.socket, source: str | None, runtime: Runtime, calibration: Choice) -> None:
    """Load a model, see `spectraderm.load_model`, then classify photos until the line's other end closes.

    Messages are framed as `Connection` frames them. None, pickled, or an error says that the model is loaded or is not.
    Then each photo's bytes are answered with an empty message when the next can be sent, then its prediction or error.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # the server process minds them
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(_NICE)
    Thread(target=_end_with_parent, daemon=True).start()
    server = Connection(line.detach())
    try:
        classifier = load_model(source, _THREADS, runtime.name, calibration, runtime.precision)
    except Exception as error:
        server.send(error)
        return
    server.send(None)
    with suppress(EOFError, OSError):
        while True:
            server.send(_answer(classifier, server, server.recv_bytes()))


def _answer(classifier: Classifier, server: Connection, photo: bytes) -> Prediction | Exception:
    def photos() -> Iterator[Opened | SpectraDermError]:
        yield classifier.opened(photo)
        server.send_bytes(b"")  # asked for another: this one is looked at, and only the network is left

    try:
        [answer] = classifier.predict_opened(photos())
        return answer
    except Exception as error:
        return error


def _end_with_parent() -> None:
    """End whatever is at work when the server has gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)
