"""One ASGI middleware around every request: its key, size and time, its line in the access log, its error as JSON.

A request reaches the application only with its whole body in memory and within the limits.
"""

import asyncio
import hmac
import json
import os
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto
from spectraderm.inference.engine import ONNXRUNTIME

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

REFUSALS = {
    "Malformed": (400, "The request is malformed."),
    "NoKey": (401, "The API key is missing or wrong."),
    "NotFound": (404, "There is no such path."),
    "WrongMethod": (405, "The path does not take this method."),
    "SlowBody": (408, "The body took too long to arrive."),
    "TooLarge": (413, "The body is too large."),
    "WrongType": (415, "The body is of a type that is never opened."),
    "TooSlow": (422, "The body can't be read as a photo, or not in time."),
    "TooBusy": (429, "The queue is full; `Retry-After` says when to try again."),
    "NotReady": (503, "The server is about to stop."),
    "TooLate": (503, "About to stop, or the photo waited too long in the queue; `Retry-After` says when to try again."),
}
"""Kind of refusal -> HTTP status, and what it means."""
_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
_HEADERS_OF = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}, 503: {"retry-after": "1"}}
_WITHOUT_KEY = frozenset({"/health", "/ready"})
_DECODER_MESSAGE = re.compile(r" \(.*", re.DOTALL)
"""Pillow's message about damaged bytes: it could quote them, or name where they lie in memory."""


class Refusal(SpectraDermError):
    """A request, or a photo of it, that is refused; `kind` is a key of `REFUSALS`."""

    def __init__(self, kind: str, problem: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(problem, remedy)
        self.kind, self.status = kind, REFUSALS[kind][0]
        self.headers = headers or _HEADERS_OF.get(self.status, {})


class ClientGone(Exception):
    """The client disconnected before its body was complete."""


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        model, runtime: see `spectraderm.load_model`.
        host, port: where; port 0 is any that is free.
        workers: processes that classify; 0 is one per core.
        queue: how many photos may wait; 0 is 16 per process.
        max_mb: of one request's body, in 10^6 bytes; 16 such bodies may be in memory at once.
        seconds: how long a photo may wait, and how long classifying it may take.
        body_seconds: for a body to arrive.
        api_key: what `Authorization: Bearer` or `X-API-Key` must hold; by default `SPECTRADERM_API_KEY`; empty: no key.
        cors: origins whose pages may call the server from a browser.
        grace: seconds after SIGTERM to finish the requests under way.
    """

    model: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 0
    queue: int = 0
    max_mb: float = 16
    seconds: float = 10
    body_seconds: float = 15
    api_key: str = field(default_factory=lambda: os.environ.get("SPECTRADERM_API_KEY", ""), repr=False)
    cors: tuple[str, ...] = ()
    grace: float = 20
    runtime: str = ONNXRUNTIME


@dataclass
class LogEntry:
    """One request in the access log: nothing of the photo, its name, or who sent it.

    Attributes:
        outcomes: of each photo its verdict, or its error's kind.
        status: of the response; 0 until it has begun.
        error: the kind of the error that is the response.
        where: file and line of an unexpected error.
        request_id: drawn here: one of a client could carry anything into the log.
    """

    outcomes: list[str] = field(default_factory=list)
    status: int = 0
    error: str = ""
    where: str = ""
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    start: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since the request's head."""
        return time.perf_counter() - self.start

    def line(self) -> str:
        """The entry as one JSON object."""
        verdict = self.outcomes[0] if len(self.outcomes) == 1 else self.outcomes or None
        entry: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        entry |= {"request_id": self.request_id, "verdict": self.error or verdict, "ms": round(1000 * self.seconds)}
        return json.dumps(entry | ({"where": self.where} if self.where else {}))


def kind_of(error: Exception) -> str:
    """The name of an error for programs."""
    return error.kind if isinstance(error, Refusal) else type(error).__name__


def public(error: Exception) -> dict[str, str]:
    """`type`, `problem` and `remedy` of an error for the client: names no file of the server, quotes no photo."""
    problem, remedy = "the server failed", "Report the request's id to whoever runs it"
    if isinstance(error, MissingExtra):
        problem, remedy = "this server reads no HEIC photos", "Save it as JPEG"
    elif isinstance(error, UnreadablePhoto):
        problem, remedy = _DECODER_MESSAGE.sub("", error.problem), error.remedy
    elif isinstance(error, Refusal):
        problem, remedy = error.problem, error.remedy
    return {"type": kind_of(error), "problem": problem, "remedy": remedy}


class Gate:
    """The middleware.

    Args:
        app: the application; its exceptions become JSON responses.
        options: the limits.
        draining: whether the server is about to stop; its responses then close their connections.
        log: receives the entry of each finished request.
    """

    def __init__(
        self, app: App, options: ServeOptions, draining: Callable[[], bool], log: Callable[[LogEntry], None]
    ) -> None:
        self._app, self._options, self._draining, self._log = app, options, draining, log
        self._most = int(1e6 * options.max_mb)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry, body = LogEntry(), bytearray()
        scope.setdefault("state", {})["entry"] = entry

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                more = {**_HEADERS, "x-request-id": entry.request_id}
                more |= {"connection": "close"} if self._draining() else {}
                present = {name for name, _ in message["headers"]}
                added = [(n.encode(), value.encode()) for n, value in more.items() if n.encode() not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            self._check_head(scope)
            await self._read(body, receive)
            await self._app(scope, _replay(bytes(body), receive), respond)
        except ClientGone:
            entry.error = "ClientGone"
        except Exception as error:  # every error becomes a response
            await _refuse(entry, error, respond)
        finally:
            self._held -= len(body)
            self._log(entry)

    def _check_head(self, scope: Scope) -> None:
        """Raise a `Refusal` where the request's head is reason enough."""
        if scope["path"] not in _WITHOUT_KEY and not self._has_key(scope):
            raise Refusal("NoKey", "this server needs an API key", "Send it as X-API-Key, or Authorization: Bearer KEY")
        if any(value.strip().lower() not in (b"", b"identity") for value in _values(scope, b"content-encoding")):
            raise Refusal("WrongType", "compressed bodies are not opened", "Send the photo as it is")
        if any(int(value) > self._most for value in _values(scope, b"content-length")):  # h11 has checked its form
            raise self._too_large()

    def _has_key(self, scope: Scope) -> bool:
        """Whether a key was sent and is right, compared in constant time; True where none is needed."""
        given = _values(scope, b"x-api-key")
        for value in _values(scope, b"authorization"):
            scheme, _, key = value.partition(b" ")
            given += [key.strip()] if scheme.lower() == b"bearer" else []
        key = self._options.api_key.encode()
        return not key or any(hmac.compare_digest(one, key) for one in given)

    async def _read(self, body: bytearray, receive: Receive) -> None:
        """Read the whole body; its bytes count as they arrive, whatever its head claims."""
        more = True
        try:
            async with asyncio.timeout(self._options.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > self._most:
                        raise self._too_large()
                    if self._held + len(chunk) > 16 * self._most:
                        raise Refusal("TooBusy", "too many uploads at once", "Send it again later")
                    self._held += len(chunk)
                    body += chunk
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise Refusal("SlowBody", f"the body took more than {self._options.body_seconds:g} seconds") from error

    def _too_large(self) -> Refusal:
        return Refusal("TooLarge", f"more than {self._options.max_mb:g} MB", "Scale the photo down")


async def _refuse(entry: LogEntry, error: Exception, send: Send) -> None:
    """Send an error as JSON. Of an unexpected one the log gets the place, but not the text: it could quote a photo."""
    entry.error = kind_of(error)
    if not isinstance(error, SpectraDermError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        entry.where = f"{Path(frame.filename).name}:{frame.lineno}"
    if entry.status:  # the response has begun
        return
    headers = error.headers if isinstance(error, Refusal) else {}
    status = error.status if isinstance(error, Refusal) else 500
    status = 422 if isinstance(error, (UnreadablePhoto, MissingExtra)) else status
    body = json.dumps({"error": public(error), "request_id": entry.request_id}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _values(scope: Scope, name: bytes) -> list[bytes]:
    """The values of a header, which may come more than once."""
    return [value for key, value in scope["headers"] if key == name]


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece, then what the client does afterwards."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
