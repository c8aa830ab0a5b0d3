"""The page's other side: what Gradio's clients get, what attackers do not, and where a photo never lands."""

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

gradio_client = pytest.importorskip("gradio_client", reason="the web page needs the extra `page`")

from conftest import encode, paint  # noqa: E402
from served_page import Served, served  # noqa: E402

from spectraderm.serving.refusals import TooBusy  # noqa: E402

Client: TypeAlias = Any


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page") / "model", max_mb=4) as page:
        yield page


@pytest.fixture
def page(whole: Served) -> Iterator[Served]:
    whole.asked.clear()
    yield whole
    whole.trouble = None


@pytest.fixture(scope="module")
def client(whole: Served) -> Client:
    return gradio_client.Client(whole.url, verbose=False)


def kinds() -> dict[str, bytes]:
    photo = paint(3)
    turned = photo.getexif()
    turned[0x0112] = 6
    see_through = photo.convert("RGBA")
    see_through.putalpha(photo.convert("L"))
    return {
        "turned.jpg": encode(photo, exif=turned),
        "alpha.png": encode(see_through, "PNG"),
        "a.webp": encode(photo, "WEBP"),
        "a.gif": encode(photo, "GIF"),
    }


@pytest.mark.parametrize("name", kinds())
def test_gradios_client_gets_what_the_model_says_of_the_same_bytes(
    page: Served, client: Client, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(kinds()[name])
    said = client.predict(gradio_client.handle_file(tmp_path / name), api_name="/predict")
    assert page.asked == [kinds()[name]]
    assert said == page.model.predict(kinds()[name]).to_dict()
    assert said["heatmap"]


def test_a_refusal_reaches_the_client_in_words(page: Served, client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(gradio_client.exceptions.AppError, match="not a photo in a known format"):
        client.predict(gradio_client.handle_file(tmp_path / "a.jpg"), api_name="/predict")


def test_a_defect_of_ours_tells_nothing(page: Served) -> None:
    page.trouble = RuntimeError("/secret/place")
    name, told = page.call(uploaded(page, encode(paint(1))))
    assert (name, json.loads(told)) == ("error", {"error": None})


def uploaded(page: Served, data: bytes, name: str = "a.jpg") -> dict[str, Any]:
    (path,) = httpx.post(f"{page.url}/gradio_api/upload", files={"files": (name, data)}).json()
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_routes_beside_the_page_go_first(page: Served) -> None:
    assert httpx.get(f"{page.url}/health").json() == {"alive": True}
    assert httpx.post(page.url).json() == {"inputs": True}
    assert httpx.get(f"{page.url}/predict").status_code == 405
    first = httpx.get(page.url)
    assert "<gradio-app" in first.text
    for place in (str(Path(__file__).parents[2]), os.environ["GRADIO_TEMP_DIR"], str(Path.home()), "fonts.g"):
        assert place not in first.text


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        "file/etc/passwd",
        "file=../../../../etc/passwd",
        "proxy=http://127.0.0.1:1/",
        "custom_component/x/client/component/index.js",
        "run-history/buckets",
        "runs",
        "openapi.json",
        "deep_link?session_hash=x",
        "vibe-code",
        "upload_progress?upload_id=x",
    ],
)
def test_gradio_has_nothing_else_to_offer(page: Served, path: str) -> None:
    assert httpx.get(f"{page.url}/gradio_api/{path}").status_code in (404, 405)
    assert httpx.post(f"{page.url}/gradio_api/{path}", json={}).status_code in (404, 405)


@pytest.mark.parametrize("path", ["static/../../../../etc/passwd", "assets/%2e%2e/%2e%2e/%2e%2e/package.json"])
def test_no_file_of_the_server_is_read_by_its_path(page: Served, path: str) -> None:
    host, port = page.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:  # httpx would tidy the path
        line.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert int(line.makefile("rb").readline().split()[1]) in (400, 403, 404)


def claims(port: int) -> list[Any]:
    url, own = f"http://127.0.0.1:{port}/a.jpg", str(Path(__file__))
    kind = {"meta": {"_type": "gradio.FileData"}}
    return [
        {"path": "/etc/passwd", **kind},
        {"path": own, **kind},
        {"path": own, "is_stream": True, **kind},
        {"path": url, **kind},
        {"path": "photo/guess", "url": url, **kind},
        {"path": "data:image/png;base64,iVBORw0KGgo=", **kind},
        {"path": "../" * 9 + "etc/passwd", "orig_name": "../x", **kind},
        {"path": ""},
        url,
        None,
    ]


def test_no_path_and_no_address_passes_for_a_photo(page: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        for claim in claims(trap.getsockname()[1]):
            assert page.call(claim)[0] == "error", claim
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert page.asked == []


def test_the_queue_takes_no_address_either(page: Served) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        for number in range(len(httpx.get(f"{page.url}/config").json()["dependencies"])):
            for claim in claims(trap.getsockname()[1])[:6]:
                job = {"data": [claim], "fn_index": number, "session_hash": "s"}
                httpx.post(f"{page.url}/gradio_api/queue/join", json=job)
                events = httpx.get(f"{page.url}/gradio_api/queue/data?session_hash=s", timeout=20).text
                done = [json.loads(line[6:]) for line in events.splitlines() if "process_completed" in line]
                assert [event["success"] for event in done] == [False]
        with pytest.raises(BlockingIOError):
            trap.accept()
    assert page.asked == []


def test_a_photo_is_never_a_file(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    for name in ("NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, lambda *_, **__: made.append("file"))
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda _: made.append("rolled"))
    data = encode(paint(2), "PNG") + bytes(3_000_000)
    assert page.call(uploaded(page, data))[0] == "complete"
    assert made == []
    assert not Path(os.environ["GRADIO_TEMP_DIR"]).exists()


def test_a_photo_is_asked_about_once_and_has_no_name(page: Served) -> None:
    photo = uploaded(page, encode(paint(1)), "../../Jane Doe.jpg")
    assert "Jane" not in photo["path"]
    assert [page.call(photo)[0] for _ in range(2)] == ["complete", "error"]


def test_two_models_answer_side_by_side(tmp_path: Path) -> None:
    with served(tmp_path / "model", models=2) as both:
        name, said = both.call(uploaded(both, encode(paint(4))))
        assert name == "complete"
        assert json.loads(said)[0] == [both.model.predict(encode(paint(4))).to_dict()] * 2
        both.trouble = TooBusy("All places are taken", "Try again in a moment")
        assert "All places are taken" in both.call(uploaded(both, encode(paint(4))))[1]
