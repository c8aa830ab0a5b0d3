"""What photos a request's body holds: as it is, in a form, or as base64 in JSON. Pure functions of a body's bytes.

None makes an object per part, header or key before their number is known to be small, however large the body.
"""

import base64
import json
import re
from email.parser import BytesHeaderParser
from typing import Any, NoReturn

from spectraderm.serving.refusals import Refusal

BYTES, FORM, JSON = "application/octet-stream", "multipart/form-data", "application/json"
MAX_PHOTOS = 16
"""In one form."""
TOP_K = 5, 1000
"""How many classes Hugging Face's interface gives: unless told, and at most."""
_HEAD = 4000
"""Bytes of the head of a form's part."""
_REST = 8000
"""Bytes of a JSON body beside the photo."""
_INPUTS = re.compile(rb'"inputs"[ \t\r\n]*+:[ \t\r\n]*+"')
_DATA_URL = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_SHAPE = 'Send {"inputs": the photo\'s bytes as base64}, never an address'


def media_type(content_type: str) -> str:
    """A media type without parameters, in lower case; empty where there is none."""
    return content_type.partition(";")[0].strip().lower()


def most_bytes(most: int, content_type: str) -> int:
    """How large a body may be whose photo may have `most` bytes: base64 with line breaks is longer by five twelfths."""
    return most * 17 // 12 + _REST if media_type(content_type) == JSON else most


def whole_photo(body: bytes, media: str, other: str) -> bytes:
    """A body that is a photo. Raises a `Refusal` where its type is another, or it is empty."""
    if media != BYTES and not media.startswith("image/"):
        raise Refusal("WrongType", "a body of this type is not read here", f"Send image/jpeg, {BYTES} or {other}")
    if not body:
        raise Refusal("Malformed", "the body is empty", "Send a photo")
    return body


def form_photos(body: bytes, content_type: str) -> list[bytes]:
    """The photos of a form's files, in order, whatever their names. Raises a `Refusal`."""
    head = BytesHeaderParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1"))
    boundary = head.get_boundary("").encode("latin-1", "replace")
    if not 0 < len(boundary) <= 70:
        _no_form()
    line = b"--" + boundary
    start = 0 if body.startswith(line) else body.find(b"\r\n" + line) + 2
    parts = body[start:].removeprefix(line).split(b"\r\n" + line, MAX_PHOTOS + 1)
    end = parts.pop()
    if start == 1 or not end.startswith(b"--") or not 0 < len(parts) <= MAX_PHOTOS:
        _no_form()
    return [_file(part) for part in parts]


def _file(part: bytes) -> bytes:
    """What a form's part holds between its head and the next boundary."""
    at = part.find(b"\r\n\r\n", 0, _HEAD)
    first, _, head = part[: max(at, 0)].partition(b"\r\n")
    named = BytesHeaderParser().parsebytes(head)
    if at < 0 or first.strip(b" \t") or named.get_content_disposition() != "form-data":
        _no_form()
    if named.get_param("filename", header="content-disposition") is None:
        raise Refusal("Malformed", "the form has no file, or a part that is none", "Send each photo as a file")
    return part[at + 4 :]


def _no_form() -> NoReturn:
    remedy = f"Send {FORM} with 1 to {MAX_PHOTOS} files and nothing else"
    raise Refusal("Malformed", "the form can't be read", remedy)


def json_photo(body: bytes, most: int) -> tuple[bytes, int]:
    """The photo in the JSON of Hugging Face's clients, and how many classes it asks for.

    The one long string is cut out first; what is left is small.

    Args:
        body: `{"inputs": BASE64, "parameters": {"top_k": 5}}`, where the base64 may have line breaks, the letters for
            addresses, or no padding, and may be a `data:` URL.
        most: bytes of the photo.

    Raises:
        Refusal: `Malformed`, one for all that is wrong with it; `TooLarge`.
    """
    inputs = _INPUTS.search(body)
    start = inputs.end() if inputs else len(body)
    end = max(body.find(b'"', start), start)
    try:
        if len(body) - (end - start) > _REST:
            raise ValueError
        top_k = _top_k(json.loads(body[:start] + body[end:], object_pairs_hook=_once))
        text = body[start:end]
        if b"\\" in text:
            text = json.loads(b'"' + text + b'"', strict=False).encode("ascii")
        photo = _decoded(text)
    except (ValueError, RecursionError) as error:
        raise Refusal("Malformed", "the JSON is not of this shape", _SHAPE) from error
    if len(photo) > most:
        raise Refusal("TooLarge", f"a photo of more than {most / 1e6:g} MB", "Scale the photo down")
    return photo, top_k


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError
    return dict(pairs)


def _top_k(fields: object) -> int:
    """From the JSON without its photo, checked. Raises `ValueError`."""
    if not isinstance(fields, dict) or fields.pop("inputs", None) != "":
        raise ValueError
    options = fields.pop("parameters", {})
    if fields or not isinstance(options, dict):
        raise ValueError
    top_k = options.pop("top_k", TOP_K[0])
    if options or type(top_k) is not int or not 1 <= top_k <= TOP_K[1]:
        raise ValueError
    return top_k


def _decoded(text: bytes) -> bytes:
    """The bytes of some base64. Raises `ValueError`."""
    address = _DATA_URL.match(text)
    letters = text[address.end() if address else 0 :].translate(_URL_SAFE, b" \t\r\n").rstrip(b"=")
    if not letters:
        raise ValueError
    return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
