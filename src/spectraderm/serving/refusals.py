"""Why a request is refused, and how errors are told to a client and to the log."""

import re

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto

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
_DECODER_MESSAGE = re.compile(r" \(.*", re.DOTALL)
"""Pillow's message about damaged bytes: it could quote them, or name where they lie in memory."""


class Refusal(SpectraDermError):
    """A request, or a photo of it, that is refused; `kind` is a key of `REFUSALS`."""

    def __init__(self, kind: str, problem: str, remedy: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(problem, remedy)
        self.kind, self.status = kind, REFUSALS[kind][0]
        self.headers = headers or ({"retry-after": "1"} if self.status in (429, 503) else {})


class ClientGone(Exception):
    """The client disconnected before its response began."""


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
