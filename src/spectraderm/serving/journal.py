"""Around every request: its id, what it came to in one line, and the last word where all else failed. ASGI."""

import json
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectraderm.core.errors import SpectraDermError
from spectraderm.serving.metrics import Metrics
from spectraderm.serving.middleware import App, Gone, Message, Receive, Scope, Send
from spectraderm.serving.refusals import JSON, defect, headers_of, status_of, told

KEY = "record"
"""Where a request's `Record` lies in the ASGI scope's state."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass
class Record:
    """One request, as it becomes known.

    Attributes:
        request_id: drawn here; a client's own could carry anything into the journal.
        outcomes: of each photo its verdict or its error's type.
        status: HTTP's; 0 until an answer has begun.
        error: the type of what kept the request from being answered.
        where: of a defect, file and line.
    """

    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    outcomes: list[str] = field(default_factory=list)
    status: int = 0
    error: str = ""
    where: str = ""

    def line(self, seconds: float) -> str:
        """One JSON object: nothing of the photo, its name, or who sent it."""
        verdict = self.outcomes[0] if len(self.outcomes) == 1 else self.outcomes or None
        facts: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        facts |= {"request_id": self.request_id, "verdict": self.error or verdict, "ms": round(1000 * seconds)}
        return json.dumps(facts | ({"where": self.where} if self.where else {}))


def refuse(record: Record, error: SpectraDermError) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Note why a request is not answered; returns its status, headers and JSON."""
    status = status_of(error)
    record.error = type(error).__name__
    return status, headers_of(status), {"error": told(error), "request_id": record.request_id}


def to_stderr(line: str) -> None:
    """Write a line for who runs the server."""
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")


class Journal:
    """The outermost middleware.

    Args:
        app: what answers; a `SpectraDermError` of its becomes JSON, and so does any other exception.
        metrics: what counts.
        draining: whether the server is about to stop, so that clients are told to come on another connection.
        write: takes the journal's lines.
    """

    def __init__(
        self, app: App, metrics: Metrics, draining: Callable[[], bool], write: Callable[[str], None] = to_stderr
    ) -> None:
        self._app, self._metrics, self._draining, self._write = app, metrics, draining, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, whatever happens."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record, start = Record(), time.perf_counter()
        scope.setdefault("state", {})[KEY] = record
        marked = self._marking(record, send)
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, marked)
            except SpectraDermError as error:
                await _send_json(marked, *refuse(record, error))
            except Gone:
                record.error = Gone.__name__
            except Exception as error:  # a defect of ours: say where, and not what, for that could quote a photo
                record.error, record.where = type(error).__name__, _origin(error)
                if not record.status:
                    said = {"error": defect(record.error), "request_id": record.request_id}
                    await _send_json(marked, 500, {}, said)
            finally:
                seconds = time.perf_counter() - start
                self._metrics.count(record.status, record.outcomes, seconds)
                self._write(record.line(seconds))

    def _marking(self, record: Record, send: Send) -> Send:
        """Puts the id and what keeps browsers safe into the answer's head."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = list(message.get("headers", []))
                own = _HEADERS | {"x-request-id": record.request_id}
                own |= {"connection": "close"} if self._draining() else {}
                given = {name.lower() for name, _ in headers}
                headers += [(n.encode(), v.encode()) for n, v in own.items() if n.encode() not in given]
                message = {**message, "headers": headers}
            await send(message)

        return marked


def _origin(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


async def _send_json(send: Send, status: int, headers: dict[str, str], content: dict[str, Any]) -> None:
    body = json.dumps(content).encode()
    headers = {"content-type": JSON, "content-length": str(len(body)), **headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
