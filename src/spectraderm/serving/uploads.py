"""The bodies that are in memory: bounded together, and so that no few clients can keep all others out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.types import Receive

from spectraderm.serving.refusals import ClientGone, Refusal

RATE = 10_000
"""Bytes a second that are no stall."""
AT_ONCE = 8
"""How many bodies of the largest size may be in memory."""
_SMALL = 1_000_000
"""Bytes of a body for which a quarter of the memory is kept free."""


@dataclass(eq=False)
class _Body:
    content: bytearray = field(default_factory=bytearray)  # not its chunks: the holes that they leave stay memory
    size: int = 0
    start: float = field(default_factory=time.monotonic)
    deadline: asyncio.Timeout | None = None  # while it arrives

    @property
    def cost(self) -> float:
        """Bytes times seconds in memory."""
        return self.size * (time.monotonic() - self.start)


class Uploads:
    """Reads bodies.

    Where memory is full, the body that has held most of it for longest gives way, among those that still arrive: who
    sends much and then little loses to who sends a photo and is done.

    Args:
        most: bytes of a photo.
        seconds: in which a body must bring `RATE` bytes a second on average, again and again.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._room, self._seconds, self._held = AT_ONCE * most, seconds, 0
        self._arriving: set[_Body] = set()

    @asynccontextmanager
    async def body(self, receive: Receive, most: int) -> AsyncIterator[bytes]:
        """The whole body of a request, of at most so many bytes; they count from their arrival to the context's end.

        Raises:
            Refusal: `TooLarge`, `SlowBody` or, where memory is full, `TooBusy`.
            ClientGone: the client disconnected.
        """
        body = _Body()
        self._arriving.add(body)
        try:
            await self._read(body, receive, most)
            self._arriving.discard(body)
            content = bytes(body.content)
            body.content.clear()
            yield content
        finally:
            self._arriving.discard(body)
            self._held -= body.size

    async def _read(self, body: _Body, receive: Receive, most: int) -> None:
        loop, step = asyncio.get_running_loop(), RATE * self._seconds
        more, due = True, step
        try:
            async with asyncio.timeout(self._seconds) as body.deadline:
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    self._add(body, message.get("body", b""), most)
                    more = message.get("more_body", False)
                    if body.size >= due:  # it came in time, so that as much more gets the same
                        due = body.size + step
                        body.deadline.reschedule(loop.time() + self._seconds)
        except TimeoutError as error:
            if body not in self._arriving:
                raise _full() from error
            problem = f"the body stalled: it brought less than {step / 1000:g} kB in {self._seconds:g} seconds"
            raise Refusal("SlowBody", problem, "Send it again") from error

    def _add(self, body: _Body, chunk: bytes, most: int) -> None:
        size = body.size + len(chunk)
        if size > most:
            raise Refusal("TooLarge", f"more than {most / 1e6:g} MB", "Scale the photo down")
        room = self._room if size <= _SMALL else self._room * 3 // 4
        while body in self._arriving and self._held + len(chunk) > room:
            self._drop(max(self._arriving, key=lambda one: one.cost))
        if body not in self._arriving:
            raise _full()
        self._held += len(chunk)
        body.size = size
        body.content += chunk

    def _drop(self, body: _Body) -> None:
        self._arriving.discard(body)
        self._held -= body.size
        body.size = 0
        body.content.clear()
        if body.deadline is not None:
            body.deadline.reschedule(0)


def _full() -> Refusal:
    return Refusal("TooBusy", "too many uploads at once", "Send it again later")
