"""One ASGI middleware around every request: its key, size and time, its line in the access log, its error as JSON.

A request reaches the application only with its whole body in memory and within the limits; one that is due no body has
none. Uvicorn's and Starlette's ways with HEAD, CORS and clients that leave are made ours here.
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
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spectraderm.core import Choice
from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto
from spectraderm.inference.engine import FP32, ONNXRUNTIME
from spectraderm.serving.bodies import most_bytes
from spectraderm.serving.refusals import ClientGone, Refusal, kind_of, public
from spectraderm.serving.uploads import Uploads

_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
_WITHOUT_KEY = frozenset({"/health", "/ready"})
_WITH_BODY = frozenset({"/", "/predict"})
_ORIGIN = re.compile(r"https?://(\*\.)?[\w.-]+(:\d+)?|https?://\[[\da-f:]+\](:\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class ServeOptions:
    """How to serve.

    Attributes:
        model, runtime, precision, calibration: see `spectraderm.load_model`.
        host, port: where; port 0 is any that is free.
        workers: processes that classify; 0 is one per core.
        queue: how many photos may wait; 0 is 16 per process.
        max_mb: of one request's photos, in 10^6 bytes; 8 such bodies may be in memory at once.
        seconds: how long a photo may wait, and how long classifying it may take.
        body_seconds: a body that brings less than 10 kB a second in so many seconds is a stall; slow lines are not.
        api_key: what `Authorization: Bearer` or `X-API-Key` must hold; by default `SPECTRADERM_API_KEY`; empty: no key.
        cors: origins whose pages may call the server from a browser; `*` is every one.
        frame_ancestors: origins, beside the server's own, whose pages may show its page in a frame.
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
    frame_ancestors: tuple[str, ...] = ()
    grace: float = 20
    runtime: str = ONNXRUNTIME
    precision: str = FP32
    calibration: Choice = "auto"

    def __post_init__(self) -> None:
        """Raise `SpectraDermError` where an origin is none: browsers would take it for nothing, without a word."""
        for name, origins, any_of_host in (("cors", self.cors, False), ("frame-ancestors", self.frame_ancestors, True)):
            for origin in origins:
                if origin != "*" and (not _ORIGIN.fullmatch(origin) or ("*" in origin and not any_of_host)):
                    problem = f"--{name} takes no {origin!r}"
                    raise SpectraDermError(problem, "Give an origin as https://HOST or https://HOST:PORT, or *")


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
        self._app, self._options, self._draining, self._log = self._shared(app, options), options, draining, log
        self._most = int(1e6 * options.max_mb)
        self._uploads = Uploads(self._most, options.body_seconds)
        ancestors = " ".join(("'self'", *options.frame_ancestors))
        self._headers = _HEADERS | {"content-security-policy": f"frame-ancestors {ancestors}"}

    @staticmethod
    def _shared(app: ASGIApp, options: ServeOptions) -> ASGIApp:
        """An application whose responses, errors among them, pages of the named origins may read."""
        return (
            app
            if not options.cors
            else CORSMiddleware(
                app,
                allow_origins=options.cors,
                allow_methods=["GET", "HEAD", "POST"],
                allow_headers=["authorization", "content-type", "x-api-key"],
                expose_headers=["x-request-id", "x-verdict", "x-notice", "retry-after"],
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        entry, headers = LogEntry(), Headers(scope=scope)
        scope.setdefault("state", {})["entry"] = entry
        unread = headers.get("content-length", "0").strip("0") != "" or "transfer-encoding" in headers

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                sent = MutableHeaders(scope=message)
                for name, value in {**self._headers, "x-request-id": entry.request_id}.items():
                    sent.setdefault(name, value)
                if unread or self._draining():  # the rest of a body is not waited for
                    sent["connection"] = "close"
            elif scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        try:
            if not self._takes_body(scope, headers, unread):
                await self._answer(scope, b"", None, respond)
            else:
                async with self._uploads.body(receive, self._limit(scope, headers)) as body:
                    unread = False
                    await self._answer(scope, body, receive, respond)
        except ClientGone:
            entry.error = "ClientGone"
        except Exception as error:  # every error becomes a response
            entry.error = kind_of(error)
            if not isinstance(error, SpectraDermError):  # the log gets its place, not its text: it could quote a photo
                frame = traceback.extract_tb(error.__traceback__)[-1]
                entry.where = f"{Path(frame.filename).name}:{frame.lineno}"
            status, more = 422 if isinstance(error, (UnreadablePhoto, MissingExtra)) else 500, {}
            if isinstance(error, Refusal):
                status, more = error.status, error.headers
            if not entry.status:
                response = JSONResponse({"error": public(error), "request_id": entry.request_id}, status, more)
                await self._shared(response, self._options)(scope, receive, respond)
            _forget(error)
        finally:
            scope["state"].pop("body", None)
            self._log(entry)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive | None, respond: Send) -> None:
        """Let the application answer; it gets a HEAD as a GET, and the body, whole, as its `request.state.body`.

        Raises:
            ClientGone: the client left before, which `receive` tells; its photos wait no longer.
        """

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope["state"]["body"] = body
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        if receive is None:
            await self._app(asked, nothing, respond)
            return
        gone, answer = asyncio.ensure_future(receive()), None
        try:
            for _ in range(2):
                await asyncio.sleep(0)  # who sent a photo and left is seen to have gone before it takes a place
            if not gone.done():
                answer = asyncio.ensure_future(self._app(asked, nothing, respond))
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer is None or (not answer.done() and not scope["state"]["entry"].status):
                raise ClientGone
            await answer
        finally:
            gone.cancel()
            if answer:
                answer.cancel()

    def _takes_body(self, scope: Scope, headers: Headers, sent: bool) -> bool:
        """Whether a body is due. Raises a `Refusal` where the request's head is reason enough."""
        method, path = scope["method"], scope["path"]
        preflight = self._options.cors and method == "OPTIONS" and "access-control-request-method" in headers
        if path not in _WITHOUT_KEY and not preflight and not self._has_key(headers):
            page = "text/html" in headers.get("accept", "")  # a browser asks its user for a name and a password
            remedy = "Send it as X-API-Key, as Authorization: Bearer KEY, or from a browser as the password of any name"
            scheme = {"www-authenticate": 'Basic realm="SpectraDerm", charset="UTF-8"' if page else "Bearer"}
            raise Refusal("NoKey", "this server needs an API key", remedy, scheme)
        if any(value.strip().lower() not in ("", "identity") for value in headers.getlist("content-encoding")):
            raise Refusal("WrongType", "compressed bodies are not opened", "Send the photo as it is")
        if sent and method in ("GET", "HEAD", "OPTIONS"):
            raise Refusal("Malformed", "a request of this method takes no body", "Send it without")
        return method == "POST" and path in _WITH_BODY

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """Bytes that the body may have. Raises a `Refusal` where the head claims more."""
        most = most_bytes(self._most, headers.get("content-type", "") if scope["path"] == "/" else "")
        if int(headers.get("content-length", 0)) > most:  # h11 has checked its form
            raise Refusal("TooLarge", f"more than {self._options.max_mb:g} MB", "Scale the photo down")
        return most

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


def _forget(error: BaseException | None) -> None:
    """Free what the calls that an error ended held, a body among it; else it would stay until a collection."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
