"""A server process: a socket, the engine processes behind it, and an end that loses no photo. Uvicorn's door."""

import asyncio
import importlib.util
import os
import signal
import socket
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.serving.app import create_app
from spectraderm.serving.middleware import Guards
from spectraderm.serving.pool import Pool

KEY_VARIABLE = "SPECTRADERM_API_KEY"
HEAD_SECONDS = 10.0
_LINGER = 0.5
"""Seconds of an orderly end in which new requests are still answered: those on their way when it began."""
_HELD_BODIES = 16


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        model: see `spectraderm.load_model`.
        host, port: where; port 0 is any that is free.
        workers: engine processes; 0 is one per core.
        batch: how many waiting photos a free process takes at a time, to look at one by one.
        queue: how many photos may wait; 0 is 16 per process.
        max_mb: of one request's body, in 10^6 bytes; 16 such bodies may be in memory.
        seconds: how long a photo may wait, and how long looking at it may take.
        body_seconds: for a body to arrive.
        api_key: what clients have to send; by default what `SPECTRADERM_API_KEY` says; empty: no key.
        cors: origins of pages elsewhere that may ask from a browser.
        page: with the web page.
        grace: seconds in which the requests under way are finished at the end.
    """

    model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 0
    batch: int = 1
    queue: int = 0
    max_mb: float = 16
    seconds: float = 10
    body_seconds: float = 15
    api_key: str = field(default="", repr=False)
    cors: tuple[str, ...] = ()
    page: bool = True
    grace: float = 20

    @property
    def guards(self) -> Guards:
        """What a request may cost."""
        size = int(self.max_mb * 1_000_000)
        key = self.api_key or os.environ.get(KEY_VARIABLE, "")
        return Guards(size, _HELD_BODIES * size, self.body_seconds, key, self.cors)


def serve(options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM; a second one ends it at once.

    Raises:
        ModelFolderError: as `spectraderm.load_model`.
        SpectraDermError: the address is taken, or not this machine's.
    """
    folder = open_model(options.model)
    pool = Pool(options.model, options.workers, options.queue, options.seconds, options.batch)
    app = create_app(pool, folder, options.guards)
    app = _with_page(app, pool, folder, options.max_mb) if options.page else app
    run(app, [pool], options, folder.model_id, "  (interface at /openapi.json)")


def run(app: FastAPI, pools: Sequence[Pool], options: ServeOptions, what: str, more: str = "") -> None:
    """Serve an app until SIGINT or SIGTERM, and its pools with it; says `what` it serves once all are ready."""
    with _listen(options.host, options.port) as listener:
        try:
            asyncio.run(_run(Server(app, pools, options.grace), pools, listener, what, more))
        finally:
            for pool in pools:
                pool.kill()


async def _run(server: "Server", pools: Sequence[Pool], listener: socket.socket, what: str, more: str) -> None:
    """Answer from the start on, if only that the model is being loaded."""
    serving = asyncio.create_task(server.serve([listener]))
    starting = asyncio.create_task(_start(pools))
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            while not (server.started or serving.done()):
                await asyncio.sleep(0.01)
            _say(f"Serving {what} on {address}{more}")
            await serving
    finally:
        server.should_exit = True
        if not starting.done():
            starting.cancel()
            for pool in pools:
                pool.kill()
        await asyncio.gather(serving, starting, return_exceptions=True)
        for pool in pools:
            await pool.stop()


async def _start(pools: Sequence[Pool]) -> None:
    await asyncio.gather(*(pool.start() for pool in pools))


class Server(uvicorn.Server):
    """Uvicorn with an end of its own: not ready at once, then a moment for what is on its way, then no new requests."""

    def __init__(self, app: FastAPI, pools: Sequence[Pool], grace: float) -> None:
        settings: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False}
        settings |= {"server_header": False, "proxy_headers": False, "ws": "none", "http": PatientHttp}
        super().__init__(uvicorn.Config(app, timeout_graceful_shutdown=max(1, int(grace)), lifespan="on", **settings))
        self._pools = pools

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Of a signal: the first asks for an orderly end, the second for an end."""
        if self.should_exit:  # the engines notice
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True
        self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way."""
        self._drain()
        await asyncio.sleep(_LINGER)
        await super().shutdown(sockets)

    def _drain(self) -> None:
        for pool in self._pools:
            pool.draining = True


class PatientHttp(H11Protocol):
    """HTTP whose patience has an end: for a request's head, and for the rest of a body that was refused."""

    _clock: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start to wait for a head."""
        super().connection_made(transport)
        self._wind()

    def data_received(self, data: bytes) -> None:
        """Wait on where this was not yet all of it; the time is that of the whole head, not since its last byte."""
        super().data_received(data)
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is h11.IDLE or (self.conn.their_state is h11.SEND_BODY and answered):
            self._wind()
        else:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        super().connection_lost(exc)

    def _wind(self) -> None:
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise SpectraDermError(f"can't serve on {host}, port {port} ({why})", "Choose another with --port") from error
    return listener


def _with_page(app: FastAPI, pool: Pool, folder: ModelFolder, max_mb: float) -> FastAPI:
    """With the web page, where what shows it is installed."""
    if importlib.util.find_spec("gradio") is None:
        _say('There is no web page: it needs pip install "spectraderm[page]"')
        return app
    from spectraderm.serving.page.mount import mount_page  # noqa: PLC0415

    return mount_page(app, pool.predict, folder, max_mb)


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
