"""One ASGI middleware around every request: its key, size and time, its line in the access log, its error as JSON.

A request reaches the application only with its whole body in memory and within the limits.
"""

import asyncio
import base64
import hmac
import json
import os
import re
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto
from spectraderm.inference.calibration import Choice
from spectraderm.inference.engine import FP32, ONNXRUNTIME

REFUSALS = {
    "Malformed": (400, "The request is malformed."),
    "NoKey": (401, "The API key is missing or wrong."),
    "NotFound": (404, "There is no such path."),
    "WrongMethod": (405, "The path does not take this method."),
    "SlowBody": (408, "The body stalled on its way."),
    "TooLarge": (413, "The body is too large."),
    "WrongType": (415, "The body is of a type that is never opened."),
    "TooSlow": (422, "The body can't be read as a photo, or not in time."),
    "TooBusy": (429, "The queue is full; `Retry-After` says when to try again."),
    "NotReady": (503, "The server is about to stop."),
    "TooLate": (503, "About to stop, or the photo waited too long in the queue; `Retry-After` says when to try again."),
}
"""Kind of refusal -> HTTP status, and what it means."""
_RATE = 10_000
"""Bytes a second, on average over `body_seconds`, that are no stall."""
_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
_WITHOUT_KEY = frozenset({"/health", "/ready"})
_DECODER_MESSAGE = re.compile(r" \(.*", re.DOTALL)
"""Pillow's message about damaged bytes: it could quote them, or name where they lie in memory."""


class Refusal(SpectraDermError):
    """A request, or a photo of it, that is refused; `kind` is a key of `REFUSALS`."""

    def __init__(self, kind: str, problem: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(problem, remedy)
        self.kind, self.status = kind, REFUSALS[kind][0]
        self.headers = headers or ({"retry-after": "1"} if self.status in (429, 503) else {})


class ClientGone(Exception):
    """The client disconnected before its body was complete."""


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        model, runtime, precision, calibration: see `spectraderm.load_model`.
        host, port: where; port 0 is any that is free.
        workers: processes that classify; 0 is one per core.
        queue: how many photos may wait; 0 is 16 per process.
        max_mb: of one request's body, in 10^6 bytes; 16 such bodies may be in memory at once.
        seconds: how long a photo may wait, and how long classifying it may take.
        body_seconds: a body that brings less than 10 kB a second in so many seconds is a stall; slow lines are not.
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
    precision: str = FP32
    calibration: Choice = "auto"


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
        self, app: ASGIApp, options: ServeOptions, draining: Callable[[], bool], log: Callable[[LogEntry], None]
    ) -> None:
        self._app, self._options, self._draining, self._log = app, options, draining, log
        self._most = int(1e6 * options.max_mb)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        entry, body = LogEntry(), bytearray()
        scope.setdefault("state", {})["entry"] = entry

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "x-request-id": entry.request_id}.items():
                    headers.setdefault(name, value)
                if self._draining():
                    headers["connection"] = "close"
            await send(message)

        async def replay() -> Message:
            """The body in one piece."""
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        try:
            self._check_head(scope["path"], Headers(scope=scope))
            await self._read(body, receive)
            await self._app(scope, replay, respond)
        except ClientGone:
            entry.error = "ClientGone"
        except Exception as error:  # every error becomes a response
            entry.error = kind_of(error)
            if not isinstance(error, SpectraDermError):  # the log gets its place, not its text: it could quote a photo
                frame = traceback.extract_tb(error.__traceback__)[-1]
                entry.where = f"{Path(frame.filename).name}:{frame.lineno}"
            status, headers = 422 if isinstance(error, (UnreadablePhoto, MissingExtra)) else 500, {}
            if isinstance(error, Refusal):
                status, headers = error.status, error.headers
            if not entry.status:
                content = {"error": public(error), "request_id": entry.request_id}
                await JSONResponse(content, status, headers)(scope, receive, respond)
        finally:
            self._held -= len(body)
            self._log(entry)

    def _check_head(self, path: str, headers: Headers) -> None:
        """Raise a `Refusal` where the request's head is reason enough."""
        if path not in _WITHOUT_KEY and not self._has_key(headers):
            page = "text/html" in headers.get("accept", "")  # a browser asks its user for a name and a password
            remedy = "Send it as X-API-Key, as Authorization: Bearer KEY, or from a browser as the password of any name"
            scheme = {"www-authenticate": 'Basic realm="SpectraDerm", charset="UTF-8"' if page else "Bearer"}
            raise Refusal("NoKey", "this server needs an API key", remedy, scheme)
        if any(value.strip().lower() not in ("", "identity") for value in headers.getlist("content-encoding")):
            raise Refusal("WrongType", "compressed bodies are not opened", "Send the photo as it is")
        if int(headers.get("content-length", 0)) > self._most:  # h11 has checked its form
            raise self._too_large()

    def _has_key(self, headers: Headers) -> bool:
        """Whether a key was sent and is right, compared in constant time; True where none is needed."""
        given = [value.encode("latin-1") for value in headers.getlist("x-api-key")]
        for value in headers.getlist("authorization"):
            scheme, _, credentials = value.partition(" ")
            if scheme.lower() == "bearer":
                given.append(credentials.strip().encode("latin-1"))
            elif scheme.lower() == "basic":
                with suppress(ValueError):
                    given.append(base64.b64decode(credentials).partition(b":")[2])
        key = self._options.api_key.encode()
        return not key or any(hmac.compare_digest(one, key) for one in given)

    async def _read(self, body: bytearray, receive: Receive) -> None:
        """Read the whole body; its bytes count as they arrive, whatever its head claims."""
        loop, seconds = asyncio.get_running_loop(), self._options.body_seconds
        more, due = True, _RATE * seconds
        try:
            async with asyncio.timeout(seconds) as limit:
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
                    if len(body) >= due:  # it came in time, so that as much more gets the same
                        due = len(body) + _RATE * seconds
                        limit.reschedule(loop.time() + seconds)
        except TimeoutError as error:
            problem = f"the body stalled: it brought less than {_RATE * seconds / 1000:g} kB in {seconds:g} seconds"
            raise Refusal("SlowBody", problem, "Send it again") from error

    def _too_large(self) -> Refusal:
        return Refusal("TooLarge", f"more than {self._options.max_mb:g} MB", "Scale the photo down")
