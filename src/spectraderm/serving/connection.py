"""HTTP on one connection, which nobody holds by sending or reading slowly, in crumbs, or what is not due."""

import asyncio
import sys
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from functools import cache
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from spectraderm.serving.uploads import RATE

HEAD_SECONDS = 10.0
"""For a request's head."""
STALL_SECONDS = 5.0
"""In which a client must take what is sent at 10 kB a second, and, once refused, stop sending."""
HEAD_BYTES = 16_384
_CONNECTIONS, _OTHER_FILES = 4000, 200
_READ_HEAD, _READ_BODY, _DISCARD = 16_384, 65_536, 262_144
"""Bytes that are read at once of a head, a body, and what is not due: those of heads take longest, and others wait."""
_PAUSE = 0.02
"""Seconds between two reads of what is not due."""
_CRUMBS = 64, 256
"""How many chunks a body may have, and one more for every so many bytes."""
_buffer = memoryview(bytearray(_DISCARD))  # of all connections: what is read into it is copied at once


@cache
def most_connections() -> int:
    """How many connections there may be: 4000, or what the system allows this process, which asks for as many."""
    if sys.platform == "win32":
        return _CONNECTIONS
    import resource  # noqa: PLC0415

    wanted = _CONNECTIONS + _OTHER_FILES
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < wanted:
        limit = min(wanted, most) if most >= 0 else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    return _CONNECTIONS if limit < 0 else min(_CONNECTIONS, max(limit - _OTHER_FILES, limit // 2))


class StrictHttp(h11.Connection):
    """HTTP/1.1 without requests of two lengths, which could smuggle another past a proxy, and bodies in crumbs."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:  # noqa: ANN401 - as h11
        """The next event. Raises `h11.RemoteProtocolError`."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("two lengths")
        elif isinstance(event, h11.Data):
            self._chunks, self._bytes = self._chunks + 1, self._bytes + len(event.data)
            if self._chunks > _CRUMBS[0] + self._bytes // _CRUMBS[1]:
                raise h11.RemoteProtocolError("a body in crumbs")
        return event


class _Line:
    """A transport whose `close` lets a client that still sends read the last response: reset, it would be lost.

    Everything else is the transport's own.

    Args:
        transport: the connection's.
        http: what is spoken over it.
        closing: called when it begins to close, which can take a while.
    """

    def __init__(self, transport: Transport, http: h11.Connection, closing: Callable[[], None]) -> None:
        self._transport, self._http, self._on_close = transport, http, closing
        self._written, self._closing = 0, False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)

    @property
    def sent(self) -> int:
        """Bytes that have left."""
        return self._written - self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        self._written += len(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        if not self.is_closing():
            self._closing = True
            if self._http.their_state in (h11.SEND_BODY, h11.ERROR):
                self._transport.write_eof()
                self._transport.resume_reading()  # until the client closes
            else:
                self._transport.close()
            self._on_close()


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """Uvicorn's protocol with deadlines for the head and for what the client shall take, in small reads."""

    transport: _Line  # type: ignore[assignment]
    _head: TimerHandle | None = None
    _stall: TimerHandle | None = None
    since = 0.0
    """When it began to wait for what it waits for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.conn = StrictHttp(h11.SERVER, HEAD_BYTES)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start to wait for a head; where there are too many connections, the one that waits longest makes room."""
        super().connection_made(_Line(transport, self.conn, self._watch_progress))  # type: ignore[arg-type]
        self._wait_for_head()
        if len(self.connections) > most_connections():
            waiting = (one for one in self.connections if isinstance(one, Connection) and one.idle)
            oldest = min(waiting, key=lambda one: one.since)
            self.connections.discard(oldest)
            oldest.transport.abort()

    @property
    def idle(self) -> bool:
        """Whether it waits for a head."""
        return self.conn.their_state is h11.IDLE

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Where to the next bytes are read."""
        return _buffer[: _DISCARD if self.transport.is_closing() else _READ_HEAD if self.idle else _READ_BODY]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read, or drop it where nothing is due any more."""
        if not self.transport.is_closing():
            self.data_received(bytes(_buffer[:nbytes]))
            return
        self.transport.pause_reading()
        self.loop.call_later(_PAUSE, self.transport.resume_reading)

    def data_received(self, data: bytes) -> None:
        """Wait on where this was not all of a head; the limit is that of the whole head, not since its last byte."""
        super().data_received(data)
        self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; a request that it is the body of has gone."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def shutdown(self) -> None:
        """End what is not answered yet after its answer, the rest now."""
        if not self.transport.is_closing():
            super().shutdown()

    def pause_writing(self) -> None:
        """The client takes less than is sent."""
        super().pause_writing()
        self._watch_progress()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        for timer in (self._head, self._stall):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self.idle and self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif not self.idle and self._head is not None:
            self._head.cancel()
            self._head = None
        if self._head is None or not self.since:
            self.since = self.loop.time()

    def _watch_progress(self) -> None:
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_SECONDS, self._check_progress, self.transport.sent)

    def _check_progress(self, before: int) -> None:
        """End the connection where the client took little of what it shall take."""
        self._stall = None
        if self.transport.is_closing() or self.flow.write_paused:
            if self.transport.sent - before < RATE * STALL_SECONDS:
                self.transport.abort()
            else:
                self._watch_progress()
