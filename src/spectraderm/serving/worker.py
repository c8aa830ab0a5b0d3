"""What a worker process does: it loads the model and classifies the photos that come over a line, in order."""

import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from threading import Thread

from spectraderm.core import Choice, errors
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.classifier import Classifier, Opened, Prediction, load_model
from spectraderm.inference.engine import Runtime

_THREADS = 2
"""Of each process: a photo is done sooner while other cores rest, and under load it costs nothing."""
_NICE = 2
"""Lower priority than the server process, so that it refuses at once however busy the workers are."""


def work(line: socket.socket, source: str | None, runtime: Runtime, calibration: Choice) -> None:
    """Load a model, see `spectraderm.load_model`, then classify photos until the line's other end closes.

    Messages are framed as `Connection` frames them. The first, of `to_message`, says that the model is loaded, or why
    not. Then each photo's bytes are answered with an empty one when the next can be sent, and with one of `to_message`.
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
        server.send_bytes(to_message(error))
        return
    server.send_bytes(to_message(None))
    with suppress(EOFError, OSError):
        while True:
            server.send_bytes(to_message(_answer(classifier, server, server.recv_bytes())))


def to_message(made: Prediction | Exception | None) -> bytes:
    """JSON: what reads hostile photos must not have what reads its answers run code, as pickles would."""
    if isinstance(made, Prediction):
        return json.dumps({"prediction": vars(made)}).encode()
    if isinstance(made, SpectraDermError):
        return json.dumps({"error": type(made).__name__, "problem": made.problem, "remedy": made.remedy}).encode()
    return json.dumps({"failed": repr(made)} if made else {}).encode()


def from_message(message: bytes) -> Prediction | Exception | None:
    """What `to_message` was given; of another error than our own what it said."""
    made = json.loads(message)
    if "prediction" in made:
        return Prediction(**made["prediction"])
    if "error" in made:
        kind = getattr(errors, made["error"])
        error: SpectraDermError = kind.__new__(kind)
        SpectraDermError.__init__(error, made["problem"], made["remedy"])
        return error
    return RuntimeError(made["failed"]) if made else None


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
