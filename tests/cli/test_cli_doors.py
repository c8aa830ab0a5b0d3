"""The commands that open a door, as they are typed; what is behind them has tests of its own."""

import http.client
import json
import signal
import socket
from pathlib import Path

import pytest
from conftest import encode, paint
from console import call, start
from handmade import write_model

import spectraderm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


def refused(*words: str) -> str:
    """The one line that a command ends with; its code is 2."""
    done = call(*words)
    assert (done.code, done.out) == (2, "")
    return done.err


def test_serve_answers_as_python_does_and_ends_when_told(model: Path) -> None:
    photo = encode(paint(4))
    with start("serve", str(model), "--port", "0", "--workers", "1") as process:
        assert process.stderr
        said = process.stderr.readline().decode()
        port = int(said.split("http://127.0.0.1:")[1].split()[0])
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        link.request("POST", "/predict?heatmap=true", photo, {"content-type": "image/jpeg"})
        answer = json.loads(link.getresponse().read())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    del answer["notice"]
    assert answer == spectraderm.load_model(model, threads=1).predict(photo).to_dict()


def test_serve_says_what_is_in_its_way(model: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused("serve", str(model), "--port", port)
    assert "not a model folder" in refused("serve", str(tmp_path))


def test_deploy_writes_a_space_and_uploads_only_if_told_to(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    assert "Space" in call("deploy", str(model), "--target", "docker", "--out", str(out)).err
    assert (out / "Dockerfile").is_file()
    assert "--push and --repo-id go together" in refused(
        "deploy", str(model), "--target", "docker", "--out", str(out), "--push"
    )
    assert "did not write" in refused("deploy", str(model), "--target", "docker", "--out", str(tmp_path))


def test_push_takes_model_folders_only(tmp_path: Path) -> None:
    assert "not a model folder" in refused("push", str(tmp_path), "--repo-id", "me/model")
