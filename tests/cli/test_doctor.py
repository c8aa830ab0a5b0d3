"""`spectraderm doctor` finds this machine fit, says what is broken and how to mend it, and asks the Hub politely."""

import io
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from conftest import listening
from console import call, entered_by

import spectraderm
from spectraderm.cli import doctor
from spectraderm.cli.check_tables import show_checks
from spectraderm.cli.doctor import Check, State, examine, is_broken
from spectraderm.core.errors import ModelFolderError
from spectraderm.inference import classifier

HEAVY = {"torch", "transformers", "kornia", "sklearn", "faiss", "cv2", "openvino", "huggingface_hub", "pydantic"}


def named(checks: list[Check], name: str) -> Check:
    (check,) = [check for check in checks if check.name == name]
    return check


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return examine(offline=True)


def test_photos_can_be_classified_here(checks: list[Check]) -> None:
    assert not is_broken(checks)
    assert named(checks, "a painted photo").state == State.ok
    assert f"numpy {metadata.version('numpy')}" in named(checks, "always needed").value
    assert named(checks, "connection").value == "not asked"
    assert not [check for check in checks if check.name == "error"]
    assert not [check for check in checks if check.state in (State.warning, State.broken) and not check.remedy]
    done = call("doctor", "--json", "--offline")
    content = json.loads(done.out)
    assert (done.code, content["broken"]) == (0, False)
    assert [(check["theme"], check["name"]) for check in content["checks"]] == [(own.theme, own.name) for own in checks]


def test_nothing_large_is_imported() -> None:
    assert not entered_by("doctor", "--offline").keys() & HEAVY


def test_problems_stand_first_and_lines_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    shown = [
        Check("A", "one", "1"),
        Check("A", "two", "slow " * 30, State.warning, "Do this"),
        Check("B", "three", "none", State.absent, "pip install x"),
        Check("B", "four", "4", State.broken, "Do that"),
    ]
    show_checks(shown, stream)
    lines = [line.strip() for line in stream.getvalue().splitlines() if line.strip()]
    assert lines[0] == "To be mended"
    assert lines[1].startswith("broken")
    assert stream.getvalue().count("Do this") == stream.getvalue().count("pip install x") == 1
    assert lines[-1] == "Photos can't be classified here; 1 warning."
    assert max(map(len, lines)) <= 60


def test_a_damaged_default_model_is_broken_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> None:
        raise ModelFolderError("model.onnx was altered", "Export it again")

    monkeypatch.setattr(classifier, "load_model", damaged)
    checks = examine(offline=True)
    (check,) = [check for check in checks if check.state == State.broken]
    assert (check.theme, check.value, check.remedy) == ("Predictions", "model.onnx was altered", "Export it again")
    assert {"Packages", "Machine", "Graphics card"} <= {check.theme for check in checks}


def test_probabilities_that_do_not_sum_to_one_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    model = spectraderm.load_model()

    class Halved:
        model_id, labels = model.model_id, model.labels

        def predict(self, photo: bytes) -> spectraderm.Prediction:
            prediction = model.predict(photo)
            halves = {label: value / 2 for label, value in prediction.probabilities.items()}
            return replace(prediction, probabilities=halves)

    monkeypatch.setattr(classifier, "load_model", Halved)
    assert named(examine(offline=True), "a painted photo").state == State.broken


@pytest.mark.parametrize(
    ("versions", "state", "value"),
    [
        ({"pyarrow": ""}, State.absent, "not installed"),
        ({"pyarrow": "1.0"}, State.warning, "pyarrow 1.0 is outside of"),
        ({"pyarrow": "18.0.0"}, State.ok, "pyarrow 18.0.0"),
    ],
)
def test_an_extra_is_absent_outside_or_there(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], state: State, value: str
) -> None:
    installed = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: versions.get(name, installed(name)))
    check = named(examine(offline=True), "[scale]")
    assert check.state == state
    assert value in check.value


def test_a_graphics_card_that_nothing_is_built_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.1'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "_installed", lambda name: {"torch": "2.13.0+cpu"}.get(name, ""))
    checks = {check.name: check for check in doctor._graphics_card("Graphics card")}
    assert checks["NVIDIA 0"].value == "NVIDIA H100, 81559 MiB, 570.1"
    assert checks["torch"].state == State.warning
    assert "onnxruntime-gpu" in checks["ONNX Runtime"].remedy


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A Hub on this machine; gives the requests that it got, and answers 503 after the first."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            requests.append(f"{self.command} {self.headers.get('Authorization')}")
            self.send_response(200 if len(requests) == 1 else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    for name in ("HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with listening(HTTPServer(("127.0.0.1", 0), Handler)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address.replace("127", "me:secret@127").rstrip("/"))
        yield requests


def test_the_hub_is_asked_without_a_secret(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_dummy")
    first, second = (next(doctor._hub("Hub", offline=False)) for _ in range(2))
    assert (first.state, second.state) == (State.ok, State.warning)
    assert second.value.endswith("answers HTTP 503")
    assert hub == ["HEAD None"] * 2
    assert "secret" not in first.value + second.value
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert next(doctor._hub("Hub", offline=False)).value == "not asked"
    assert len(hub) == 2


def test_a_silent_hub_is_waited_for_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_HUB_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert next(doctor._hub("Hub", offline=False)).state == State.warning
        assert time.monotonic() - began < 2
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert "not a web address" in next(doctor._hub("Hub", offline=False)).value
