"""A request's body -> the bytes of its photos, in memory. The multipart parser's door."""

import base64
import binascii
import logging
import sys
from email.message import Message

from pydantic import ValidationError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from spectraderm.serving.refusals import Malformed, WrongType
from spectraderm.serving.schemas import Asked

MAX_PHOTOS = 16
_MAX_FIELDS = 4
_MAX_FIELD_BYTES = 1000
BYTES, FORM = "application/octet-stream", "multipart/form-data"
_OURS = frozenset({"inputs", "parameters", "top_k"})
"""Names that an error may repeat; any other is the client's own."""

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # its warnings quote what was sent


class _InMemory(MultiPartParser):
    spool_max_size = sys.maxsize  # from where on it would go to disk


def kind(request: Request) -> str:
    """The body's media type without its parameters, in lower case; empty where the request does not say."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    return message.get_content_type() if request.headers.get("content-type") else ""


def is_photo(media: str) -> bool:
    """A body of this type is a photo and nothing else."""
    return media == BYTES or media.startswith("image/")


def wrong_type(media: str, *known: str) -> WrongType:
    """The error of a body that is none of these."""
    what = "that type" if media else "no type"
    return WrongType(f"a body of {what} is not read here", f"Send {', '.join(known)} as Content-Type")


async def one(request: Request) -> bytes:
    """The photo that is the body. Raises `Malformed` where there is none."""
    data = await request.body()
    if not data:
        raise Malformed("the body is empty", "Send a photo")
    return data


async def several(request: Request) -> list[bytes]:
    """The photos of a form's files, in order, whatever they are called.

    Raises:
        Malformed: no form, no file in it, a part that is none, or more than `MAX_PHOTOS`.
    """
    parser = _InMemory(
        request.headers, request.stream(), max_files=MAX_PHOTOS, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError, LookupError) as error:
        raise Malformed(
            "the form can't be read", f"Send multipart/form-data with 1 to {MAX_PHOTOS} files and nothing else"
        ) from error
    try:
        found = [value for _, value in form.multi_items()]
        if not found or any(isinstance(value, str) for value in found):
            raise Malformed("the form has no file, or a part that is none", "Send each photo as a file with a name")
        return [await file.read() for file in found if not isinstance(file, str)]
    finally:
        await form.close()


def asked(body: bytes) -> tuple[bytes, int]:
    """The photo and the number of classes that Hugging Face's JSON asks for. Raises `Malformed`."""
    try:
        said = Asked.model_validate_json(body)
        return base64.b64decode(said.inputs, validate=True), said.parameters.top_k
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"] if part in _OURS) or "the body"
        raise Malformed(f"{where} is not what is asked for", 'Send {"inputs": base64 of a photo}') from error
    except (binascii.Error, ValueError) as error:
        raise Malformed("inputs is not base64", "Send the photo's bytes; addresses are never opened") from error
