"""Photos on their way to the page's model. They stay in memory: a dropped photo never becomes a file."""

import asyncio
import secrets

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import Message, Receive

from spectraderm.serving import uploads
from spectraderm.serving.refusals import Malformed, Refusal, TooBusy, TooLarge, headers_of

KEPT_SECONDS = 60.0
"""A photo that nobody asks about is forgotten after so long."""
_ROOM = 16
"""So many photos of full size are held at once."""
_ENVELOPE = 4096
"""Bytes of a form beside its photo."""


class Uploads:
    """Takes what Gradio's clients upload, and hands each photo out once.

    Args:
        most: bytes that one photo may have.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, bytes] = {}
        self._coming = 0

    async def receive(self, request: Request) -> Response:
        """`POST /gradio_api/upload`: a form with one photo -> JSON list of the one name it goes by from now on."""
        try:
            return JSONResponse([self._keep(await self._read(request))])
        except Refusal as error:
            return PlainTextResponse(str(error), error.status, headers_of(error.status))
        except ClientDisconnect:
            return PlainTextResponse("The upload broke off", 400)

    def take(self, name: str) -> bytes:
        """The photo of that name, forgotten here from now on. Raises `Malformed` for any other name."""
        data = self._held.pop(name, None)
        if data is None:
            raise Malformed("the photo did not arrive, or was asked about before", "Upload it once more")
        return data

    def _keep(self, data: bytes) -> str:
        name = f"photo/{secrets.token_urlsafe(18)}"
        self._held[name] = data
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._held.pop, name, None)
        return name

    async def _read(self, request: Request) -> bytes:
        if self._coming + sum(map(len, self._held.values())) + self._most > _ROOM * self._most:
            raise TooBusy("too many photos are on their way", "Try again in a moment")
        self._coming += self._most
        try:
            photos = await uploads.several(Request(request.scope, self._bounded(request.receive)))
        finally:
            self._coming -= self._most
        if len(photos) != 1:
            raise Malformed("the form holds several photos", "Upload one at a time")
        return photos[0]

    def _bounded(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._most + _ENVELOPE:
                raise TooLarge(f"the photo has more than {self._most / 1e6:g} MB", "Scale it down")
            return message

        return counted
