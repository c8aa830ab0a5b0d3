"""What `spectraderm doctor` asks the Hugging Face Hub, how long it waits, and what it never tells."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from spectraderm.cli.doctor import hub, training
from spectraderm.cli.doctor.fact import State
from spectraderm.cli.options import DEFAULT_BACKBONE


class _Hub(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    code = 200

    def do_HEAD(self) -> None:
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
        self.send_response(self.code)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    _Hub.asked.clear()
    with HTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://me:secret@127.0.0.1:{server.server_port}")
        yield hub.endpoint()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("code", "answer"), [(200, ""), (302, ""), (503, "answers HTTP 503")])
def test_the_hub_is_asked_once_for_its_headers(
    address: str, monkeypatch: pytest.MonkeyPatch, code: int, answer: str
) -> None:
    monkeypatch.setattr(_Hub, "code", code)
    monkeypatch.setenv("HF_TOKEN", "hf_dummy")
    assert hub.reach(offline=False) == answer
    assert _Hub.asked in (["HEAD / None"], ["HEAD  None"])
    told = [f"{fact.value} {fact.remedy}" for fact in hub.hub(answer)]
    assert "set (HF_TOKEN)" in told[1]
    assert not any("secret" in each or "hf_dummy" in each for each in told)


def test_the_hub_is_left_alone_where_we_are_told_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.reach(offline=True) == "not asked (--offline)"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.reach(offline=False) == "not asked (HF_HUB_OFFLINE)"
    assert _Hub.asked == []
    assert hub.connection("not asked (--offline)", True).state == State.absent


def test_a_hub_that_does_not_answer_is_waited_for_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert hub.reach(offline=False)
        assert time.monotonic() - began < 2
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc/passwd")
    assert hub.reach(offline=False) == "no address of the web"
    assert hub.connection("refused", True).state == State.warning
    assert hub.connection("refused", False).state == State.absent


def test_looking_up_a_name_is_waited_for_no_longer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Event()
    monkeypatch.setattr(hub, "_SECONDS", 0.1)
    monkeypatch.setattr(hub, "_head", lambda _: str(asked.wait(5)))
    assert hub.reach(offline=False) == "no answer in 0.1 s"
    asked.set()


def test_where_the_backbone_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert training.BACKBONE == DEFAULT_BACKBONE
    model = tmp_path / "models--microsoft--resnet-50"
    (model / "snapshots" / "abc").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc\n")
    (model / "snapshots" / "abc" / "config.json").write_text("{}")
    assert "open-nsfw-thin, which is here" in training.backbone("refused", True).remedy
    assert "will be downloaded" in training.backbone("", False).value
    (model / "snapshots" / "abc" / "model.safetensors").write_text("x")
    assert training.backbone("refused", True).value.endswith("snapshots/abc")
