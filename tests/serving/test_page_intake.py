"""Photos on their way to the page: bounded, in memory, handed out once."""

import asyncio
from typing import Any

import httpx
import pytest

pytest.importorskip("multipart", reason="needs the extra `serve`")

from starlette.applications import Starlette
from starlette.routing import Route

from spectraderm.serving.page import intake
from spectraderm.serving.page.intake import Uploads
from spectraderm.serving.refusals import Malformed


async def post(uploads: Uploads, **body: Any) -> httpx.Response:  # noqa: ANN401
    app = Starlette(routes=[Route("/", uploads.receive, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as door:
        return await door.post("/", **body)


def test_uploads_are_bounded() -> None:
    async def attack() -> list[int]:
        uploads = Uploads(10_000)
        bodies: list[dict[str, Any]] = [
            {"files": {"files": ("a", bytes(10_000))}},
            {"files": {"files": ("a", bytes(20_000))}},
            {"content": b"no form"},
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}},
            {"content": b"--y\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            {"files": [("files", ("a", b"1")), ("files", ("b", b"2"))]},
        ]
        return [(await post(uploads, **body)).status_code for body in bodies]

    assert asyncio.run(attack()) == [200, 413, 400, 400, 400, 400]


def test_more_than_there_is_room_for_is_turned_away_until_some_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "KEPT_SECONDS", 0.3)

    async def flood() -> list[int]:
        uploads, body = Uploads(1000), {"files": {"files": ("a", bytes(1000))}}
        codes = [(await post(uploads, **body)).status_code for _ in range(17)]
        await asyncio.sleep(0.4)
        return [*codes, (await post(uploads, **body)).status_code]

    assert asyncio.run(flood()) == [200] * 16 + [429, 200]


def test_what_was_not_uploaded_is_no_photo() -> None:
    with pytest.raises(Malformed, match="did not arrive"):
        Uploads(10).take("/etc/passwd")
