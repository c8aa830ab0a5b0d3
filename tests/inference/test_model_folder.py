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
from spectraderm.core.files import sha256
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import FACTS, find_model, is_model_folder, read_model_folder, write_model_folder


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


@pytest.mark.parametrize("name", sorted(model_files()))
@pytest.mark.parametrize("place", [0, -1])
def test_an_altered_byte_is_refused(name: str, place: int, model: Path) -> None:
    data = bytearray((model / name).read_bytes())
    data[place] ^= 1
    (model / name).write_bytes(data)
    refused(model, f"{name} was altered")


@pytest.mark.parametrize("name", [*sorted(model_files()), FACTS])
def test_a_missing_file_is_refused(name: str, model: Path) -> None:
    (model / name).unlink()
    refused(model, name)


@pytest.mark.parametrize("needed", [model_folder.MODEL_CONFIG, model_folder.PREPROCESSOR, model_folder.ONNX])
def test_a_model_folder_that_does_not_list_a_needed_file_is_refused(needed: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != needed}
    write_model_folder(tmp_path / "m", files, {"calibration": calibration(3)})
    refused(tmp_path / "m", f"lists no {needed}")


@pytest.mark.parametrize("name", ["../secret", "onnx/../../secret", "/etc/hostname"])
def test_files_outside_the_folder_are_never_read(name: str, model: Path) -> None:
    (model.parent / "secret").write_bytes(b"secret")
    facts = json.loads((model / FACTS).read_text())
    facts["sha256"][name] = sha256(b"secret")
    (model / FACTS).write_text(json.dumps(facts))
    refused(model, "outside the model folder")


@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"sha256": 3}', '{"sha256": ["a"]}', "[" * 200_000])
def test_damaged_facts_are_refused(facts: str, model: Path) -> None:
    (model / FACTS).write_text(facts)
    refused(model, f"{FACTS} is damaged")


@pytest.mark.parametrize("data", [b"[]", b"{", b"\xff"])
def test_damaged_json_is_refused(data: bytes, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "m", files={model_folder.MODEL_CONFIG: data}), r"m/config\.json is")


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


@pytest.mark.parametrize("lacks", ["calibration", model_folder.NOVELTY, model_folder.HASHES])
def test_a_model_from_before_calibration_says_what_to_do(lacks: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != lacks}
    facts = {} if lacks == "calibration" else {"calibration": calibration(3)}
    write_model_folder(tmp_path / "model", files, facts)
    with pytest.raises(ModelFolderError, match="model has no calibration") as caught:
        spectraderm.load_model(tmp_path / "model")
    assert "spectraderm calibrate" in caught.value.remedy


@pytest.mark.parametrize(
    "settings",
    [None, [], "x", {}, calibration(2), calibration(3, temperature=0), calibration(3, temperature=None),
     calibration(3, set_method="magic"), calibration(3, thresholds=0.5), calibration(3, thresholds=["a"] * 3),
     calibration(3, confidence_threshold=10**400)],
)  # fmt: skip
def test_damaged_calibration_is_refused(settings: object, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", facts={"calibration": settings}), r"model/spectraderm\.json: its cali")


@pytest.mark.parametrize("name", ["temperature", "confidence_threshold", "novelty_threshold", "coverage", "thresholds"])
def test_thresholds_that_are_no_numbers_are_refused(name: str, tmp_path: Path) -> None:
    """JSON that others write may hold NaN, below which nothing lies: no photo would ever be out of scope."""
    path = write_model(tmp_path / "model") / model_folder.FACTS
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
    refused(write_model(tmp_path / "model", files={model_folder.NOVELTY: data}), r"novelty\.npy")


def test_references_of_another_network_are_refused_with_the_first_photo(tmp_path: Path) -> None:
    model = spectraderm.load_model(write_model(tmp_path / "model", files={model_folder.NOVELTY: npy(np.ones((4, 2)))}))
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
    refused(write_model(tmp_path / "model", files={model_folder.HASHES: data}), r"training_photos\.npy")


def test_a_model_may_have_learned_from_no_photo_that_is_known(tmp_path: Path) -> None:
    files = {model_folder.HASHES: npy(np.zeros((0, 8), np.uint8))}
    assert not spectraderm.load_model(write_model(tmp_path / "model", files=files)).predict(paint(1)).in_training


def test_a_folder_without_facts_is_no_model(tmp_path: Path) -> None:
    (write_model(tmp_path / "model") / model_folder.FACTS).unlink()
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
