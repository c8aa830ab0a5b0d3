import hashlib
import json
import os
from pathlib import Path

import pytest

from spectraderm import artifacts
from spectraderm.artifacts import FACTS, MODEL_CONFIG, ONNX, PREPROCESSOR, ModelFolder, read_model_folder
from spectraderm.errors import ModelFolderError, RunFolderError

FILES = {MODEL_CONFIG: b'{"a": 1}', PREPROCESSOR: b"{}", ONNX: b"onnx bytes", "README.md": b"# card"}
REMEDY = "Type `spectraderm audit`"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    artifacts.write_model_folder(tmp_path / "model", FILES, {"labels": ["x", "ü"]})
    return tmp_path / "model"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.write_bytes(tmp_path / "deep" / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        artifacts.write_bytes(tmp_path / "deep" / "file", b"new")
    assert everything(tmp_path) == {"deep/file": b"old"}


def test_a_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        artifacts.write_bytes(tmp_path / "file", content)
    assert everything(tmp_path) == {"file": b"new"}
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_json_and_csv_come_back(tmp_path: Path) -> None:
    content = {"b": [1.5, None], "a": "ü\n"}
    artifacts.write_json(tmp_path / "x.json", content)
    assert list(artifacts.read_json(tmp_path / "x.json", REMEDY).items()) == list(content.items())
    rows = [{"a": 'x, "y"\nz', "b": "ü"}, {"a": "", "b": "1"}]
    artifacts.write_csv(tmp_path / "x.csv", ("a", "b"), rows)
    assert artifacts.read_csv(tmp_path / "x.csv", ("b", "a"), REMEDY) == rows
    assert (tmp_path / "x.csv").read_bytes().startswith(b"a,b\n")


def test_what_json_and_csv_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(ValueError, match="fields"):
        artifacts.write_csv(tmp_path / "x.csv", ("a",), [{"a": 1, "b": 2}])
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("data", [None, b"{", b"[1]", b"\xff\xfe", b"[" * 200_000])
def test_unreadable_json_names_file_and_remedy(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(RunFolderError, match=r"x\.json") as caught:
        artifacts.read_json(tmp_path / "x.json", REMEDY)
    assert caught.value.remedy == REMEDY


@pytest.mark.parametrize(
    "data", [None, b"", b"a,c\n1,2\n", b"a,b\n\xff,2\n", b"a,b\n1,2\n3\n", b'a,b\n"' + b"x" * 200_000]
)
def test_unreadable_csv_names_file_and_remedy(data: bytes | None, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(RunFolderError, match=r"x\.csv") as caught:
        artifacts.read_csv(tmp_path / "x.csv", ("a", "b"), REMEDY)
    assert caught.value.remedy == REMEDY


def test_a_model_folder_comes_back(model: Path) -> None:
    folder = read_model_folder(model)
    assert (folder.name, folder.files, folder.facts["labels"]) == ("model", FILES, ["x", "ü"])
    assert folder.json(MODEL_CONFIG) == {"a": 1}
    assert folder.facts["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_one_altered_byte_is_refused(name: str, model: Path) -> None:
    data = bytearray((model / name).read_bytes())
    data[-1] ^= 1
    (model / name).write_bytes(data)
    with pytest.raises(ModelFolderError, match=f"{name} was altered"):
        read_model_folder(model)


@pytest.mark.parametrize("name", [*sorted(FILES), FACTS])
def test_a_missing_file_is_refused(name: str, model: Path) -> None:
    (model / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        read_model_folder(model)


@pytest.mark.parametrize("needed", [MODEL_CONFIG, PREPROCESSOR, ONNX])
def test_a_model_folder_without_a_needed_file_is_refused(needed: str, tmp_path: Path) -> None:
    artifacts.write_model_folder(tmp_path / "m", {k: v for k, v in FILES.items() if k != needed}, {})
    with pytest.raises(ModelFolderError, match=f"lists no {needed}"):
        read_model_folder(tmp_path / "m")


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.PT", "pytorch_model.bin", "x.h5", "x.joblib", "a.ckpt", "m.keras"]
)
def test_pickles_are_refused_whatever_they_hold(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ModelFolderError, match="can run code"):
        read_model_folder(tmp_path / name)


@pytest.mark.parametrize("name", ["../secret", "onnx/../../secret", "/etc/hostname"])
def test_files_outside_the_folder_are_never_read(name: str, model: Path) -> None:
    (model.parent / "secret").write_bytes(b"secret")
    facts = json.loads((model / FACTS).read_text())
    facts["sha256"][name] = artifacts.sha256(b"secret")
    (model / FACTS).write_text(json.dumps(facts))
    with pytest.raises(ModelFolderError, match="outside the model folder"):
        read_model_folder(model)


@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": ["a"]}', "[" * 200_000])
def test_damaged_facts_are_refused(facts: str, model: Path) -> None:
    (model / FACTS).write_text(facts)
    with pytest.raises(ModelFolderError, match=f"{FACTS} is damaged"):
        read_model_folder(model)


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff"])
def test_damaged_json_in_a_model_folder_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFolderError, match=r"m/config\.json is"):
        ModelFolder("m", {MODEL_CONFIG: data}, {}).json(MODEL_CONFIG)


def test_a_model_folder_replaces_a_model_folder(model: Path) -> None:
    artifacts.write_model_folder(model, {**FILES, "README.md": b"newer"}, {})
    assert read_model_folder(model).files["README.md"] == b"newer"
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_but_a_model_folder_is_ever_replaced(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "thesis.txt").write_bytes(b"three years")
    else:
        (tmp_path / "target").write_bytes(b"three years")
    before = everything(tmp_path)
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        artifacts.write_model_folder(tmp_path / "target", FILES, {})
    assert everything(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_failed_export_leaves_the_old_model_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(model)
    monkeypatch.setattr(artifacts, "sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        artifacts.write_model_folder(model, {**FILES, "README.md": b"newer"}, {})
    assert everything(model) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]
