"""The commands that open a door, as they are typed; what is behind them has tests of its own."""

import csv
import http.client
import io
import json
import signal
import unicodedata
from pathlib import Path

import pytest
from conftest import encode, paint
from console import call, start
from handmade import write_model

import spectraderm
from spectraderm.core.printable import cell


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


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


def test_deploy_writes_a_space_and_uploads_only_if_told_to(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    assert "Space" in call("deploy", str(model), "--target", "docker", "--out", str(out)).err
    assert (out / "Dockerfile").is_file()
    refused = call("deploy", model, "--target", "docker", "--out", out, "--push")
    assert (refused.code, refused.out) == (2, "")
    assert "--push and --repo-id go together" in refused.err


def test_names_of_photos_steer_no_terminal_forge_no_line_and_are_no_formula(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["e\x1b]0;x\x07a.jpg", "a\nerror: forged.jpg", "=cmd|x.jpg", "[bold]x.jpg", "\u202egpj.jpg", "-1.jpg"]
    for name in names:
        Path(name).write_bytes(encode(paint(4)))
        Path(f"bad {name}").write_bytes(b"no photo")
    asked = ["--model", model, "--format", "csv", "--", *names]
    done = call("predict", *asked, *(f"bad {name}" for name in names[:2]))
    assert done.code == 1
    printed = (done.out + done.err).replace("\n", "")
    assert [c for c in printed if unicodedata.category(c) in ("Cc", "Cf", "Zl")] == []
    assert [row["path"] for row in csv.DictReader(io.StringIO(done.out))] == [str(cell(name)) for name in names]
    assert [line.partition(" ")[0] for line in done.err.splitlines()] == ["error:", "error:", "2"]
    exact = call("predict", *asked[:3], "jsonl", *asked[4:]).out
    assert [json.loads(line)["path"] for line in exact.splitlines()] == names
