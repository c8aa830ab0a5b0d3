"""A server process: a socket, the pool of workers behind it, and an end that loses no photo. Uvicorn's door."""

import asyncio
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.printable import say
from spectraderm.images.decoding import reuse_memory
from spectraderm.inference.model_folder import open_model
from spectraderm.inference.prediction import experience, promise
from spectraderm.serving.app import create_app
from spectraderm.serving.connection import Connection
from spectraderm.serving.middleware import ServeOptions
from spectraderm.serving.pool import Pool

__all__ = ["ServeOptions", "serve"]
_SEND_BYTES = 1 << 18
"""That the system keeps of what a client has not taken: unasked, it would be megabytes for each that never reads."""
_LINGER = 0.5
"""Seconds after SIGTERM in which new requests are still answered: those on their way when it came."""


def serve(options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was accepted; a second signal ends it at once.

    Raises:
        ModelFolderError: as `spectraderm.load_model`.
        SpectraDermError: the address is taken, or not this machine's.
    """
    model = open_model(options.model)
    pool, host = Pool(options), options.host
    app = create_app(pool, model, options)
    try:
        listener = socket.create_server((host, options.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        problem = f"can't serve on {host}, port {options.port} ({getattr(error, 'strerror', None) or error})"
        raise SpectraDermError(problem, "Choose another with --port") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or a body waits 40 ms for its head to be confirmed
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    promised = f"{experience(model.facts['calibration'])} {promise(model.calibrations)}".strip()
    reuse_memory("nothing")  # the workers decode
    server = Server(app, pool, options.grace, f"Serving {model.model_id} on {address}", promised)

    async def run() -> None:
        await pool.start()  # connections wait meanwhile
        await server.serve([listener])

    with listener, asyncio.Runner() as runner:
        try:
            runner.run(run())
        finally:
            pool.stop()


class Server(uvicorn.Server):
    """Uvicorn that, signalled to stop, first reports not ready and for a moment still takes what is on its way."""

    def __init__(self, app: FastAPI, pool: Pool, grace: float, ready: str, promised: str) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # it would log paths, which could hold names
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, int(grace)),
            )
        )
        self._pool, self._ready, self._promised = pool, ready, promised

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and print that the server is ready."""
        await super().startup(sockets)
        say(f"{self._ready}  (interface at /openapi.json)", self._promised)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Take a signal: the first asks for an orderly end, the second for the end."""
        self.force_exit = self.should_exit
        self.should_exit = self._pool.draining = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was accepted."""
        await asyncio.sleep(_LINGER)
        await super().shutdown(sockets)
