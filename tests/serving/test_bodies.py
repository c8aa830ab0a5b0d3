"""Photos in forms and in JSON, in every spelling that clients have, and what is refused."""

import base64
import json
import time
from collections.abc import Callable

import pytest

from spectraderm.serving.bodies import form_photos, json_photo
from spectraderm.serving.refusals import Refusal

PHOTO = bytes(range(256)) + b"?>\xff\xfe"
TEXT = base64.b64encode(PHOTO).decode()
LINES = base64.encodebytes(PHOTO).decode()
NAMED = b'Content-Disposition: form-data; name="a"; filename="b"\r\n\r\n'


def of(inputs: str, **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


@pytest.mark.parametrize(
    "body",
    [
        of(TEXT),
        of(LINES),
        of(LINES.replace("\n", "\r\n")),
        f'{{"inputs": "{LINES}"}}'.encode(),  # as a shell puts it there
        f'\ufeff {{"inputs"\n:\t"{TEXT}"}}'.encode(),
        of(TEXT).replace(b"/", b"\\/"),
        of(f" {TEXT}\t"),
        of(TEXT.rstrip("=")),
        of(base64.urlsafe_b64encode(PHOTO).decode()),
        of(f"data:image/jpeg;base64,{TEXT}"),
        of(f"DATA:image/jpeg;charset=utf-8;base64,{LINES}"),
        of(f"data:;base64,{TEXT}"),
        of(TEXT, parameters={"top_k": 5}),
        of(TEXT, parameters={}),
    ],
)
def test_base64_in_every_spelling_is_the_same_photo(body: bytes) -> None:
    assert json_photo(body, 1000) == (PHOTO, 5)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        of(""),
        of("="),
        of("data:image/jpeg;base64,"),
        of("data:image/jpeg," + TEXT),
        of("https://example.org/a.jpg"),
        of("\ud800"),
        of("\0" + TEXT),
        of(TEXT[:-3]),
        of(TEXT) + b"x",
        of(TEXT, canary=1),
        of(TEXT, parameters=None),
        of(TEXT, parameters={"top_k": 1, "canary": 1}),
        *(of(TEXT, parameters={"top_k": bad}) for bad in (0, 1001, True, "5", 5.0, float("nan"), 10**4000)),
        of(TEXT)[:-1] + b', "inputs": "AAAA"}',
        of("AAAA")[:-1] + b', "inputs": "' + TEXT.encode() + b'"}',
        json.dumps({"parameters": {"inputs": TEXT}, "inputs": ""}).encode(),
        json.dumps({'x"inputs': TEXT}).encode(),
        of(TEXT).decode().encode("utf-16"),
        b"[" * 7000,
        b"\xff\xfe",
    ],
)
def test_other_json_is_one_error(body: bytes) -> None:
    with pytest.raises(Refusal, match="not of this shape") as caught:
        json_photo(body, 1000)
    assert caught.value.kind == "Malformed"
    assert "canary" not in str(caught.value)


def test_a_photo_of_json_is_bounded_as_any_other() -> None:
    assert json_photo(of(base64.b64encode(b"x" * 1000).decode()), 1000)[0] == b"x" * 1000
    with pytest.raises(Refusal, match=r"more than 0\.001 MB"):
        json_photo(of(base64.b64encode(b"x" * 1001).decode()), 1000)


def form(*parts: bytes, line: bytes = b"--x") -> bytes:
    return b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--"


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (form(NAMED + PHOTO), "x"),
        (form(NAMED + PHOTO) + b"\r\nepilogue", "x"),
        (b"preamble\r\n" + form(NAMED + PHOTO), "x"),
        (form(NAMED + PHOTO).replace(b"--x\r\n", b"--x \t\r\n"), "x"),
        (form(NAMED + PHOTO, line=b"--a b"), '"a b"'),
        (form(NAMED + PHOTO, line=b"-----"), "---"),
        (form(NAMED.replace(b'"b"', '"; \xe4\u20ac.jpg"'.encode()) + PHOTO), "x"),
        (form(NAMED.replace(b'filename="b"', b"filename*=UTF-8''%e2%82%ac") + PHOTO), "x"),
        (form(b"content-type: image/jpeg\r\n" + NAMED.lower() + PHOTO), "x"),
    ],
)
def test_forms_as_clients_write_them(body: bytes, boundary: str) -> None:
    assert form_photos(body, f"multipart/form-data; charset=x; boundary={boundary}") == [PHOTO]


def test_no_form_of_sixteen_megabytes_takes_long() -> None:
    """Many parts, headers or half boundaries: 15 s in what splits and parses before it counts."""
    parse: list[tuple[Callable[..., object], bytes, object]] = [
        (form_photos, form(*[NAMED] * 200_000), "multipart/form-data; boundary=x"),
        (form_photos, form(b"A: b\r\n" * 2_600_000), "multipart/form-data; boundary=x"),
        (form_photos, b"\r\n--" * 4_000_000, "multipart/form-data; boundary=-"),
        (json_photo, b'{"inputs":"",' + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}", 1000),
        (json_photo, b'"inputs" ' * 1_700_000, 1000),
        (json_photo, b'{"inputs":"' + b"\\n" * 8_000_000 + b'"}', 1000),
    ]
    for call, body, more in parse:
        start = time.thread_time()
        with pytest.raises(Refusal):
            call(body, more)
        assert time.thread_time() - start < 1
