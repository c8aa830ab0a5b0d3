"""Why a request is not answered, as errors, as HTTP statuses and as JSON."""

import re

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto

JSON = "application/json"
RETRY_AFTER = "1"
"""Seconds that a client should wait where the server only has too much to do just now."""
_CAUSE = re.compile(r" \(.*", re.DOTALL)
"""What Pillow says of damaged bytes: it could quote them, or name where they lie in memory."""


class Refusal(SpectraDermError):
    """A request that is not answered; `status` is HTTP's word for why."""

    status = 400


class Malformed(Refusal):
    """The request is not what the interface asks for."""


class NoKey(Refusal):
    """The key that this server asks for is missing or wrong."""

    status = 401


class SlowBody(Refusal):
    """The body did not arrive in time."""

    status = 408


class TooLarge(Refusal):
    """The body is larger than this server takes."""

    status = 413


class WrongType(Refusal):
    """The body is of a kind that is never opened."""

    status = 415


class TooSlow(Refusal):
    """Looking at this photo took longer than any photo should."""

    status = 422


class TooBusy(Refusal):
    """So much waits already that this would wait too long."""

    status = 429


class NotReady(Refusal):
    """The model is still being loaded, or the server is about to stop."""

    status = 503


class TooLate(Refusal):
    """The photo waited so long for its turn that it was given up, unseen."""

    status = 503


def status_of(error: SpectraDermError) -> int:
    """HTTP's status: 422 for what can't be read as a photo, and 500 where the fault is this server's."""
    if isinstance(error, Refusal):
        return error.status
    return 422 if isinstance(error, (UnreadablePhoto, MissingExtra)) else 500


def headers_of(status: int) -> dict[str, str]:
    """What a refusal's answer carries beside its words."""
    if status in (429, 503):
        return {"retry-after": RETRY_AFTER}
    return {"www-authenticate": "Bearer"} if status == 401 else {}


def told(error: SpectraDermError) -> dict[str, str]:
    """`type`, `problem` and `remedy` for who asked. Says nothing of this server's files, nor quotes the photo."""
    kind = type(error).__name__
    if isinstance(error, MissingExtra):
        return {"type": kind, "problem": "this server reads no HEIC photos", "remedy": "Save it as JPEG"}
    if isinstance(error, UnreadablePhoto):
        return {"type": kind, "problem": _CAUSE.sub("", error.problem), "remedy": error.remedy}
    if isinstance(error, Refusal):
        return {"type": kind, "problem": error.problem, "remedy": error.remedy}
    return defect(kind)


def defect(kind: str) -> dict[str, str]:
    """The same of a fault of this server's own."""
    return {"type": kind, "problem": "the server failed", "remedy": "Tell whoever runs it the request's id"}
