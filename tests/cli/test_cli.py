import csv
import io
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from unittest import mock

import pytest
from conftest import encode, paint
from console import COMMANDS, START, call, entered_by, start
from handmade import write_model
from PIL import Image

from spectraderm.cli import commands
from spectraderm.inference.prediction import VERDICTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("f/a.jpg", "f/sub/b.png", "f/[red]x[/red].jpg", "a[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encode(paint(len(name)), "PNG" if name.endswith("png") else "JPEG"))
    return tmp_path


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    heavy = ["numpy", "PIL", "onnxruntime", "torch", "transformers", "pydantic", "sklearn", "matplotlib", "fastapi"]
    assert not entered_by("--help").keys() & {*heavy}
    shown = call("--help").out
    assert "Not a medical device" in shown
    for name in COMMANDS:
        assert f" {name} " in shown
        assert "Usage" in call(name, "--help").out


def test_predicting_loads_nothing_that_one_photo_does_not_take(here: Path, model: Path) -> None:
    """Each of these takes as long as a photo, or longer."""
    spared = ["rich", "concurrent.futures", "importlib.resources", "asyncio", "ssl", "pyarrow", "openvino", "scipy"]
    assert not entered_by("predict", "f/a.jpg", "--model", model).keys() & {*spared}


@pytest.mark.parametrize(
    "typed", [["predict", "--help"], ["import", "--help"], ["predict"], ["deploy", "--targte", "x"]]
)
def test_a_command_alone_is_as_among_all(typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = call(*typed)
    monkeypatch.setattr(commands, "_with_only", lambda *_: commands.app)
    assert call(*typed) == alone
    assert "Usage: " in alone.out + alone.err


def test_the_version_is_the_packages() -> None:
    done = call("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"spectraderm {metadata.version('spectraderm')}\n"


@pytest.mark.parametrize(
    ("typed", "completed"), [("eval", ["evaluate"]), ("train x --log ", ["tensorboard", "mlflow", "wandb"])]
)
def test_a_shell_completes_commands_and_choices(typed: str, completed: list[str]) -> None:
    words = {"COMP_WORDS": f"spectraderm {typed}", "COMP_CWORD": str(typed.count(" ") + 1)}
    program = f"import sys; sys.argv[0] = 'spectraderm'; {START[-1]}"
    environment = {**os.environ, **words, "_SPECTRADERM_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed


def test_all_good_is_0_with_data_on_stdout_alone(here: Path, model: Path) -> None:
    (here / "black.png").write_bytes(encode(Image.new("RGB", (200, 200)), "PNG"))
    done = call("predict", "f", "a[1].jpg", "black.png", "--model", model)
    assert (done.code, done.err) == (0, "")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["path"] for record in records] == [
        *("f/[red]x[/red].jpg", "f/a.jpg", "f/sub/b.png", "a[1].jpg", "black.png"),
    ]
    assert records[-1]["verdict"] == "unusable_photo"  # is an answer
    assert all(record["verdict"] in VERDICTS and record["reason"] for record in records)
    assert not any(record["heatmap"] for record in records)
    refused = call("predict", "f", "--model", model, "--heatmap", "--format", "csv")
    assert (refused.code, refused.out) == (2, "")


def test_bad_files_are_reported_each_and_the_others_done(here: Path, model: Path) -> None:
    (here / "f/bad.jpg").write_bytes(b"no photo")
    done = call("predict", "f/*.jpg", "gone.jpg", "-", "--model", model, "--format", "csv", stdin=encode(paint(1)))
    assert done.code == 1
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["path"] for row in rows] == ["f/a.jpg", "-"]
    bad, gone, total = done.err.splitlines()
    assert bad.startswith("error: f/bad.jpg: ")
    assert gone.startswith("error: gone.jpg: ")
    assert total.startswith("2 ")


def test_a_terminal_gets_paragraphs(here: Path, model: Path) -> None:
    ours, theirs = os.openpty()
    process = start("predict", "f/a.jpg", "--model", model, stdout=theirs)
    assert process.wait(60) == 0
    os.close(theirs)
    assert b"Not a diagnosis" in os.read(ours, 100_000)
    os.close(ours)


def test_file_names_that_are_no_text_survive(here: Path, model: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    (here / name).write_bytes((here / "a[1].jpg").read_bytes())
    assert json.loads(call("predict", name, "--model", model).out)["path"] == name
    for kind in ("csv", "table"):
        done = call("predict", name, "--model", model, "--format", kind)
        assert done.code == 0
        assert r"caf\udce9.jpg" in done.out
    assert r"gone\udce9" in call("predict", os.fsdecode(b"gone\xe9"), "--model", model).err


@pytest.mark.parametrize("name", ["no/such/model", "f", ""])
def test_an_unknown_model_is_one_line_and_2(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down = mock.Mock(side_effect=ConnectionError("down"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", down)
    done = call("predict", "f/a.jpg", "--model", name)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("count", [1, 300])
def test_a_reader_that_goes_away_is_no_error(count: int, here: Path, model: Path) -> None:
    process = start("predict", *["a[1].jpg"] * count, "--model", model, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_stdout_that_can_not_be_written_is_an_error(here: Path, model: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start("predict", "a[1].jpg", "--model", model, stdout=full)
    closed = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" >&-', "sh", *START, "predict", "a[1].jpg", "--model", model], stderr=subprocess.PIPE
    )
    for one in (process, closed):
        err = one.communicate(timeout=60)[1]
        assert one.returncode == 2
        assert err.startswith(b"error: stdout ")
        assert err.count(b"\n") == 1


def test_ctrl_c_ends_quietly(here: Path, model: Path) -> None:
    process = start("predict", "gone", "-", "--model", model, stdin=subprocess.PIPE)
    assert process.stderr
    assert b"gone" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b"stopped\n"
    assert process.returncode == 130


def test_nothing_to_predict_is_1_and_wrong_usage_is_2(here: Path, model: Path) -> None:
    (here / "empty").mkdir()
    done = call("predict", "empty", "--model", model)
    assert (done.code, done.out) == (1, "")
    assert "empty holds no photos" in done.err
    for wrong in ((), ("f", "--format", "xml"), ("f", "--top-k", 0), ("f", "--runtime", "tensorrt")):
        assert call("predict", *wrong).code == 2
