import io
import json
import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from conftest import paint
from handmade import calibration, graph, model_files, write_model
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

import spectraderm
from spectraderm.core import artifacts
from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference.engine import Engine


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
        {artifacts.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "2": "a"}}'},
        {artifacts.MODEL_CONFIG: b'{"id2label": {}}'},
        {artifacts.ONNX: graph(classes=5)},
    ],
)
def test_files_that_do_not_belong_together_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write_model(tmp_path / "model", files=files)
    with pytest.raises(SpectraDermError):
        spectraderm.load_model(tmp_path / "model")


@pytest.mark.parametrize("lacks", ["calibration", artifacts.NOVELTY, artifacts.HASHES])
def test_a_model_from_before_calibration_says_what_to_do(lacks: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != lacks}
    facts = {} if lacks == "calibration" else {"calibration": calibration(3)}
    artifacts.write_model_folder(tmp_path / "model", files, facts)
    with pytest.raises(ModelFolderError, match="model has no calibration") as caught:
        spectraderm.load_model(tmp_path / "model")
    assert "spectraderm calibrate" in caught.value.remedy


@pytest.mark.parametrize(
    "settings",
    [None, [], "x", {}, calibration(2), calibration(3, temperature=0), calibration(3, temperature=None),
     calibration(3, set_method="magic"), calibration(3, thresholds=0.5), calibration(3, thresholds=["a"] * 3),
     calibration(3, sure_at=10**400)],
)  # fmt: skip
def test_damaged_calibration_is_refused(settings: object, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", facts={"calibration": settings}), r"model/spectraderm\.json: its cali")


@pytest.mark.parametrize("name", ["temperature", "sure_at", "novelty_threshold", "coverage", "thresholds"])
def test_thresholds_that_are_no_numbers_are_refused(name: str, tmp_path: Path) -> None:
    """JSON that others write may hold NaN, below which nothing lies: no photo would ever be out of scope."""
    path = write_model(tmp_path / "model") / artifacts.FACTS
    facts = json.loads(path.read_text())
    facts["calibration"][name] = [float("nan")] * 3 if name == "thresholds" else float("nan")
    path.write_text(json.dumps(facts))
    refused(path.parent, "its calibration is damaged")


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"no array", npy(np.ones((4, 3)))[:90], npy([{"a": 1}]), npy(np.ones(3)), npy(np.ones((4, 3), int)),
     npy(np.ones((0, 3))), npy([[1.0, np.nan, 1.0]]), npy([[1.0, np.inf, 1.0]]),
     npy(np.ones((4, 3))).replace(b"(4, 3)", b"(4e9,3")],
)  # fmt: skip
def test_damaged_references_are_refused(data: bytes, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", files={artifacts.NOVELTY: data}), r"novelty\.npy")


def test_references_of_another_network_are_refused_with_the_first_photo(tmp_path: Path) -> None:
    model = spectraderm.load_model(write_model(tmp_path / "model", files={artifacts.NOVELTY: npy(np.ones((4, 2)))}))
    with pytest.raises(ModelFolderError, match="do not belong together"):
        model.predict(paint(1))


def test_loading_asks_the_network_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda *_: pytest.fail("was asked"))
    spectraderm.load_model(write_model(tmp_path / "model"))


@pytest.mark.parametrize(
    "data", [b"", npy(np.ones((4, 8)))[:90], npy(["x"]), npy([None]), npy(np.zeros((4, 8))), npy(np.zeros(8, np.uint8)),
             npy(np.zeros((2, 7), np.uint8))],
)  # fmt: skip
def test_damaged_hashes_are_refused(data: bytes, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", files={artifacts.HASHES: data}), r"training_photos\.npy")


def test_a_model_may_have_learned_from_no_photo_that_is_known(tmp_path: Path) -> None:
    files = {artifacts.HASHES: npy(np.zeros((0, 8), np.uint8))}
    assert not spectraderm.load_model(write_model(tmp_path / "model", files=files)).predict(paint(1)).in_training


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelFolderError, match=match) as caught:
        spectraderm.load_model(folder)
    assert caught.value.remedy


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
