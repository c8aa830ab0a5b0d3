import io
import json
import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from conftest import paint
from handmade import LABELS, calibration, graph, model_files, write_model
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

import spectraderm
from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import (
    FACTS,
    HASHES,
    NOVELTY,
    find_model,
    is_model_folder,
    read_model_folder,
    write_model_folder,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelFolderError, match=match) as caught:
        read_model_folder(folder)
    assert caught.value.remedy


def test_a_model_folder_is_read_whole_and_understood(model: Path) -> None:
    folder = read_model_folder(model)
    assert folder.files == everything(model)
    assert (folder.path, folder.hub, folder.model_id, folder.card) == (model, "", "by-hand", "")
    assert (folder.labels, folder.display_names["BA- a"]) == (list(LABELS), "A")
    assert folder.network == folder.files[model_folder.ONNX]
    assert (folder.references.shape, folder.training_hashes.shape) == ((1, 3), (1, 8))
    assert (folder.calibration.to_dict(), folder.preprocessing.size) == (calibration(3), 56)


@pytest.mark.parametrize("needed", [model_folder.MODEL_CONFIG, model_folder.PREPROCESSOR, model_folder.ONNX])
def test_a_model_folder_that_does_not_list_a_needed_file_is_refused(needed: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != needed}
    write_model_folder(tmp_path / "m", files, {"calibration": calibration(3)})
    refused(tmp_path / "m", f"lists no {needed}")


def test_a_model_folder_replaces_a_model_folder(model: Path) -> None:
    write_model(model, files={"README.md": b"newer"})
    assert read_model_folder(model).card == "newer"
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
        write_model_folder(tmp_path / "target", model_files(), {})
    assert everything(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_failed_export_leaves_the_old_model_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(model)
    monkeypatch.setattr(model_folder, "sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_model_folder(model, model_files(), {})
    assert everything(model) == before
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("source", [None, "default", Path("default")])
def test_the_default_model_comes_along_unless_a_folder_is_called_so(
    source: str | Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_model()
    assert find_model(source) == shipped
    assert (shipped / FACTS).is_file()
    assert is_model_folder("default")
    (tmp_path / "default").mkdir()
    assert find_model(source) == (shipped if source is None else Path("default"))
    assert not is_model_folder("default")


@pytest.mark.parametrize(
    "files",
    [
        {model_folder.MODEL_CONFIG: b"{}"},
        {model_folder.MODEL_CONFIG: b'{"id2label": ["a", "b", "c"]}'},
        {model_folder.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b"}}'},
        {model_folder.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "3": "c"}}'},
        {model_folder.PREPROCESSOR: model_files(size=224)[model_folder.PREPROCESSOR]},
        {model_folder.PREPROCESSOR: b"[]"},
        {model_folder.MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "2": "a"}}'},
        {model_folder.MODEL_CONFIG: b'{"id2label": {}}'},
        {model_folder.ONNX: graph(classes=5)},
    ],
)
def test_files_that_do_not_belong_together_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write_model(tmp_path / "model", files=files)
    with pytest.raises(SpectraDermError):
        spectraderm.load_model(tmp_path / "model")


@pytest.mark.parametrize("lacks", ["calibration", NOVELTY, HASHES])
def test_a_model_from_before_calibration_says_what_to_do(lacks: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != lacks}
    facts = {} if lacks == "calibration" else {"calibration": calibration(3)}
    write_model_folder(tmp_path / "model", files, facts)
    with pytest.raises(ModelFolderError, match="model has no calibration") as caught:
        spectraderm.load_model(tmp_path / "model")
    assert "spectraderm calibrate" in caught.value.remedy


NAN = float("nan")


@pytest.mark.parametrize(
    "settings",
    [None, [], "x", {}, calibration(2), calibration(3, temperature=0), calibration(3, temperature=None),
     calibration(3, set_method="magic"), calibration(3, thresholds=0.5), calibration(3, thresholds=["a"] * 3),
     calibration(3, confidence_threshold=10**400), calibration(3, thresholds=[NAN] * 3), calibration(3, coverage=NAN),
     calibration(3, temperature=NAN), calibration(3, confidence_threshold=NAN), calibration(3, novelty_threshold=NAN)],
)  # fmt: skip
def test_damaged_calibration_is_refused(settings: object, model: Path) -> None:
    """JSON that others write may hold NaN, below which nothing lies: no photo would ever be out of scope."""
    facts = json.loads((model / FACTS).read_text())
    (model / FACTS).write_text(json.dumps(facts | {"calibration": settings}))
    refused(model, r"model/spectraderm\.json: its calibration is damaged")


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [(NOVELTY, data) for data in (b"", npy(np.ones(3)), npy(np.ones((4, 3), int)), npy(np.ones((0, 3))))]
    + [(HASHES, data) for data in (b"no array", npy(["x"]), npy(np.zeros((4, 8))), npy(np.zeros((2, 7), np.uint8)))],
)
def test_arrays_of_another_kind_are_refused(name: str, data: bytes, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", files={name: data}), name)


def test_references_of_another_network_are_refused_with_the_first_photo(tmp_path: Path) -> None:
    model = spectraderm.load_model(write_model(tmp_path / "model", files={NOVELTY: npy(np.ones((4, 2)))}))
    with pytest.raises(ModelFolderError, match="do not belong together"):
        model.predict(paint(1))


def test_loading_asks_the_network_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda *_: pytest.fail("was asked"))
    spectraderm.load_model(write_model(tmp_path / "model"))


def test_a_model_may_have_learned_from_no_photo_that_is_known(tmp_path: Path) -> None:
    files = {HASHES: npy(np.zeros((0, 8), np.uint8))}
    assert not spectraderm.load_model(write_model(tmp_path / "model", files=files)).predict(paint(1)).in_training


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
