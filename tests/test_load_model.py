import os
from pathlib import Path

import huggingface_hub
import pytest
from handmade import graph, model_files, write_model
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

import spectraderm
from spectraderm import artifacts
from spectraderm.errors import ModelFolderError, SpectraDermError


@pytest.mark.parametrize("place", [0, 100, -1])
def test_an_altered_byte_is_refused(place: int, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model") / artifacts.ONNX
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFolderError, match="altered"):
        spectraderm.load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "files",
    [
        {artifacts.MODEL_CONFIG: b"{}"},
        {artifacts.MODEL_CONFIG: b'{"id2label": ["a", "b", "c"]}'},
        {artifacts.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b"}}'},
        {artifacts.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "3": "c"}}'},
        {artifacts.PREPROCESSOR: model_files(size=224)[artifacts.PREPROCESSOR]},
        {artifacts.PREPROCESSOR: b"[]"},
        {artifacts.ONNX: graph(classes=5)},
    ],
)
def test_files_that_do_not_belong_together_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write_model(tmp_path / "model", files=files)
    with pytest.raises(SpectraDermError):
        spectraderm.load_model(tmp_path / "model")


def test_a_folder_without_facts_is_no_model(tmp_path: Path) -> None:
    (write_model(tmp_path / "model") / artifacts.FACTS).unlink()
    with pytest.raises(ModelFolderError, match=r"spectraderm\.json"):
        spectraderm.load_model(tmp_path / "model")


@pytest.mark.parametrize("suffix", ["pt", "pth", "h5", "pkl", "keras", "joblib"])
def test_models_that_can_run_code_are_refused_unread(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    os.mkfifo(path)  # would wait for ever, were it opened
    with pytest.raises(ModelFolderError, match="run code") as caught:
        spectraderm.load_model(path)
    assert "export" in caught.value.remedy


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./a/b", "a/b/c", "x" * 5000])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(ModelFolderError, match=name[:50]):
        spectraderm.load_model(name)


@pytest.mark.parametrize("kind", [LocalEntryNotFoundError, RepositoryNotFoundError, ConnectionError, ValueError])
def test_a_hub_that_does_not_answer_is_one_line(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> str:
        raise kind.__new__(kind, f"no {name}\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelFolderError, match="some/model") as caught:
        spectraderm.load_model("some/model")
    assert "\n" not in str(caught.value)


def test_a_model_of_the_hub_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_model(tmp_path / "model"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _: folder)
    assert spectraderm.load_model("some/model").model_id == "by-hand"
