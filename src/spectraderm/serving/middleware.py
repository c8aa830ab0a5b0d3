"""What a request may cost before anything looks at it: a key, a body's size, its time, and all bodies' memory. ASGI."""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from spectraderm.serving.refusals import Malformed, NoKey, SlowBody, TooBusy, TooLarge, WrongType

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FREE = frozenset({"/health", "/ready"})
"""Paths that need no key."""
_GLANCE = 0.5
"""Seconds between looks at whether all is over."""


@dataclass(frozen=True)
class Guards:
    """The bounds.

    Attributes:
        max_bytes: of one body.
        held_bytes: of all bodies that are in memory at once.
        body_seconds: for a whole body to arrive.
        api_key: what `Authorization: Bearer` or `X-API-Key` has to say; empty where no key is needed.
        cors: the origins of pages that may ask from a browser.
    """

    max_bytes: int = 16_000_000
    held_bytes: int = 256_000_000
    body_seconds: float = 15.0
    api_key: str = field(default="", repr=False)
    cors: tuple[str, ...] = ()


class Gone(Exception):
    """The client has left before its body was complete."""


class Limits:
    """Middleware that lets a request through once its whole body is in memory, or raises a `Refusal`.

    The bytes of a body count as they come, whatever its head says of them; they are given back when it is answered.

    Args:
        app: what answers.
        guards: the bounds.
        over: whether the server only waits for answers without an end, such as a page's, to stop.
    """

    def __init__(self, app: App, guards: Guards, over: Callable[[], bool]) -> None:
        self._app, self._guards, self._over = app, guards, over
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, read, and pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._check(scope)
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(self._guards.body_seconds):
                    await self._read(body, receive)
            except TimeoutError as error:
                raise SlowBody(f"the body took more than {self._guards.body_seconds:g} seconds") from error
            await self._app(scope, _replay(body, receive, self._over), send)
        finally:
            self._held -= len(body)

    def _check(self, scope: Scope) -> None:
        """What the head alone tells. Raises a `Refusal`."""
        if scope["path"] not in FREE and not self._has_key(scope):
            raise NoKey("this server asks for a key", "Send it as Authorization: Bearer KEY, or as X-API-Key")
        if any(value.strip().lower() not in (b"", b"identity") for value in _values(scope, b"content-encoding")):
            raise WrongType("compressed bodies are not opened", "Send the photo as it is")
        for value in _values(scope, b"content-length"):
            if not value.isdigit():
                raise Malformed("Content-Length is no number")
            if len(value) > 18 or int(value) > self._guards.max_bytes:
                raise self._too_large()

    def _has_key(self, scope: Scope) -> bool:
        """Compares in constant time."""
        if not self._guards.api_key:
            return True
        given = list(_values(scope, b"x-api-key"))
        for value in _values(scope, b"authorization"):
            scheme, _, key = value.partition(b" ")
            given += [key.strip()] if scheme.lower() == b"bearer" else []
        return any(hmac.compare_digest(key, self._guards.api_key.encode()) for key in given)

    async def _read(self, body: bytearray, receive: Receive) -> None:
        """The whole body, counted. Raises `TooLarge`, `TooBusy` or `Gone`."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > self._guards.max_bytes:
                raise self._too_large()
            if self._held + len(chunk) > self._guards.held_bytes:
                raise TooBusy("too many uploads at once", "Send it again later")
            self._held += len(chunk)
            body += chunk
            more = message.get("more_body", False)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"more than {self._guards.max_bytes / 1e6:g} MB", "Scale the photo down")


def _values(scope: Scope, name: bytes) -> Iterable[bytes]:
    """Of a header, in lower case; it may come more than once."""
    return (value for key, value in scope["headers"] if key == name)


def _replay(body: bytearray, receive: Receive, over: Callable[[], bool]) -> Receive:
    """The body in one piece, then what the client does afterwards; when all is over, it has gone."""
    whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        if whole:
            return whole.pop()
        while not over():
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(receive(), _GLANCE)
        return {"type": "http.disconnect"}

    return again
