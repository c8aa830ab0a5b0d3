"""Model folders: right, incomplete, altered, hostile; each is refused by name, and nothing else is read or run."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import hostile_models
import huggingface_hub
import numpy as np
import pytest
from conftest import contents, paint
from handmade import LABELS, PREPROCESSING, calibration, graph, model_files, write_model
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from measured import MEGABYTES, SECONDS, Answer, answers_of

import spectraderm
from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import (
    CARD,
    FACTS,
    HASHES,
    MODEL_CONFIG,
    NOVELTY,
    ONNX,
    PREPROCESSOR,
    STATISTICS,
    WEIGHTS,
    find_model,
    is_model_folder,
    read_model_folder,
    write_model_folder,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelFolderError, match=match) as caught:
        read_model_folder(folder)
    assert caught.value.remedy


def test_a_model_folder_is_read_whole_and_understood(model: Path) -> None:
    folder = read_model_folder(model)
    assert folder.files == contents(model)
    assert (folder.path, folder.hub, folder.model_id, folder.card) == (model, "", "by-hand", "")
    assert (folder.labels, folder.display_names["BA- a"]) == (list(LABELS), "A")
    assert folder.network == folder.files[ONNX]
    assert (folder.references.shape, folder.training_hashes.shape) == ((1, 3), (1, 8))
    assert (folder.calibrations.to_dict(), folder.preprocessing.size) == (calibration(3), 56)


@pytest.mark.parametrize("lacks", [MODEL_CONFIG, PREPROCESSOR, ONNX, "calibration", NOVELTY, HASHES])
def test_a_model_folder_that_lacks_a_part_is_refused_with_what_to_do(lacks: str, tmp_path: Path) -> None:
    files = {name: data for name, data in model_files().items() if name != lacks}
    facts = {} if lacks == "calibration" else {"calibration": calibration(3)}
    write_model_folder(tmp_path / "model", files, facts)
    whole = lacks in (MODEL_CONFIG, PREPROCESSOR, ONNX)
    refused(tmp_path / "model", f"lists no {lacks}" if whole else "no calibration: .* `spectraderm calibrate`")


def test_a_model_folder_replaces_a_model_folder(model: Path) -> None:
    write_model(model, files={"README.md": b"newer"})
    assert read_model_folder(model).card == "newer"
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_nothing_but_a_model_folder_is_ever_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for thesis in (tmp_path / "folder" / "thesis.txt", tmp_path / "file"):
        thesis.write_bytes(b"three years")
    before = contents(tmp_path)
    for target in ("folder", "file"):
        with pytest.raises(ModelFolderError, match="is not a model folder"):
            write_model_folder(tmp_path / target, model_files(), {})
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_failed_export_leaves_the_old_model_folder(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(model)
    monkeypatch.setattr(model_folder, "sha256", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_model_folder(model, model_files(), {})
    assert contents(model) == before
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
        {MODEL_CONFIG: b"{}"},
        {MODEL_CONFIG: b'{"id2label": ["a", "b", "c"]}'},
        {MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b"}}'},
        {MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "3": "c"}}'},
        {PREPROCESSOR: model_files(size=224)[PREPROCESSOR]},
        {PREPROCESSOR: b"[]"},
        {MODEL_CONFIG: b'{"id2label": {"0": "a", "1": "b", "2": "a"}}'},
        {MODEL_CONFIG: b'{"id2label": {}}'},
        {ONNX: graph(classes=5)},
    ],
)
def test_files_that_do_not_belong_together_are_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write_model(tmp_path / "model", files=files)
    with pytest.raises(SpectraDermError):
        spectraderm.load_model(tmp_path / "model")


NAN = float("nan")


@pytest.mark.parametrize(
    "settings",
    [[], "x", {}, calibration(2), calibration(2, {}), calibration(3, {"thresholds": [0.5] * 2}),
     *(calibration(3, temperature=odd) for odd in (0, None, 1e-300, 0.001, 1e300, "1", True, [1], 10**400)),
     calibration(3, coverage=1), calibration(3, coverage="0.9"),
     calibration(3, set_method="magic"), calibration(3, thresholds=0.5), calibration(3, thresholds=["a"] * 3),
     calibration(3, confidence_threshold=10**400), calibration(3, thresholds=[NAN] * 3), calibration(3, coverage=NAN),
     calibration(3, temperature=NAN), calibration(3, confidence_threshold=NAN), calibration(3, novelty_threshold=NAN)],
)  # fmt: skip
def test_damaged_calibration_is_refused(settings: object, model: Path) -> None:
    """JSON that others write may hold NaN, below which nothing lies: no photo would ever be out of scope."""
    facts = json.loads((model / FACTS).read_text())
    (model / FACTS).write_text(json.dumps(facts | {"calibration": settings}))
    refused(model, r"model/spectraderm\.json(: its calibration)? is damaged")


@pytest.mark.parametrize("settings", [None, calibration(3)["home"]])
def test_a_calibration_of_an_earlier_version_is_refused_with_what_to_do(settings: object, model: Path) -> None:
    facts = json.loads((model / FACTS).read_text())
    (model / FACTS).write_text(json.dumps(facts | {"calibration": settings}))
    refused(model, "earlier version exported it.*`spectraderm calibrate`, `evaluate` and `export`")


@pytest.mark.parametrize(
    ("name", "array"),
    [(NOVELTY, np.ones(3)), (NOVELTY, np.ones((4, 3), int)), (NOVELTY, np.ones((0, 3))),
     (HASHES, ["x"]), (HASHES, np.zeros((4, 8))), (HASHES, np.zeros((2, 7), np.uint8))],
)  # fmt: skip
def test_arrays_of_another_kind_are_refused(name: str, array: object, tmp_path: Path) -> None:
    refused(write_model(tmp_path / "model", files={name: hostile_models.npy(array)}), name)


def test_loading_asks_the_network_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda *_: pytest.fail("was asked"))
    spectraderm.load_model(write_model(tmp_path / "model"))


def test_a_model_may_have_learned_from_no_photo_that_is_known(tmp_path: Path) -> None:
    files = {HASHES: hostile_models.npy(np.zeros((0, 8), np.uint8))}
    assert not spectraderm.load_model(write_model(tmp_path / "model", files=files)).predict(paint(1)).in_training


@pytest.mark.parametrize("suffix", ["pt", "pth", "h5", "pkl", "keras", "joblib"])
def test_models_that_can_run_code_are_refused_unread(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"model.{suffix}")  # would wait for ever, were it opened
    refused(tmp_path / f"model.{suffix}", "run code.*export")


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./a/b", "a/b/c", "x" * 5000])
def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(ModelFolderError, match=name[:50]):
        spectraderm.load_model(name)


@pytest.mark.parametrize("kind", [LocalEntryNotFoundError, RepositoryNotFoundError, ConnectionError, ValueError])
def test_a_hub_that_does_not_answer_is_one_line(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, revision: str) -> str:
        raise kind.__new__(kind, f"no {name}\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelFolderError, match="some/model") as caught:
        spectraderm.load_model("some/model")
    assert "\n" not in str(caught.value)


def test_a_model_of_the_hub_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(write_model(tmp_path / "model"))
    asked = mock.Mock(return_value=folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked)
    assert spectraderm.load_model("some/model").model_id == "by-hand"
    assert spectraderm.load_model("some/model@v1").folder.hub == "some/model@v1"
    assert asked.call_args_list == [mock.call("some/model", revision=revision) for revision in ("main", "v1")]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    return answers_of("hostile_models", tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", hostile_models.ATTACKS)
def test_every_hostile_model_is_answered(name: str, answers: dict[str, Answer]) -> None:
    answer, expected = answers[name], hostile_models.ATTACKS[name].refused
    assert answer.kind == ("ModelFolderError" if expected else "ok"), answer
    assert re.search(expected, answer.words), answer
    assert not re.search(r"[\x00-\x1f\ud800-\udfff]|canary", answer.words)
    assert answer.seconds < SECONDS
    assert answer.megabytes < MEGABYTES


def test_reading_a_model_writes_nothing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    spectraderm.load_model(folder).predict(paint(1))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    """The Hub keeps `models--a--b/snapshots/<commit>/x -> ../../blobs/<sum>`."""
    folder = write_model(tmp_path / "models--a--b" / "snapshots" / "abc")
    blobs = tmp_path / "models--a--b" / "blobs"
    blobs.mkdir()
    for number, file in enumerate(path for path in list(folder.rglob("*")) if path.is_file()):
        file.rename(blobs / str(number))
        file.symlink_to(os.path.relpath(blobs / str(number), file.parent))
    assert spectraderm.load_model(folder).predict(paint(1, (160, 130))).model_id == "by-hand"
    (folder / HASHES).unlink()
    (folder / HASHES).symlink_to(write_model(tmp_path / "other") / HASHES)
    with pytest.raises(ModelFolderError, match="link out"):
        spectraderm.load_model(folder)


def test_damaged_networks_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The runtime's own second try would, to the process's stdout, where the answers go."""
    for network in hostile_models.flipped_graphs(40, seed=1):
        with contextlib.suppress(ModelFolderError):
            Engine(network, PREPROCESSING, threads=1)
    assert capfd.readouterr() == ("", "")


def test_cards_reach_pages_as_they_are_and_marked_as_text(tmp_path: Path) -> None:
    """`ModelFolder.card` is Markdown of strangers: whoever shows it must not take it for HTML."""
    folder = write_model(tmp_path / "model", files={CARD: b"<script>alert(1)</script>\xff"})
    assert read_model_folder(folder).card == "<script>alert(1)</script>\N{REPLACEMENT CHARACTER}"


def test_serving_never_imports_what_opens_other_weights() -> None:
    code = "import sys, spectraderm; spectraderm.load_model(); print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"torch", "safetensors", "joblib", "onnx", "h5py"} & set(ast.literal_eval(done.stdout.decode()))


def test_duplicate_checksums_do_not_hide_a_change(tmp_path: Path) -> None:
    """Of two `sha256` objects the last counts, for the check and for everything else."""
    folder = write_model(tmp_path / "model")
    facts = (folder / FACTS).read_text()
    (folder / FACTS).write_text(facts.replace('"sha256"', '"sha256": {}, "sha256"', 1))
    assert spectraderm.load_model(folder)
    (folder / FACTS).write_text(facts.rstrip()[:-1] + ', "sha256": {}}')
    with pytest.raises(ModelFolderError, match="lists no"):
        spectraderm.load_model(folder)


def test_classes_that_would_be_shown_alike_are_told_apart(tmp_path: Path) -> None:
    shown = read_model_folder(write_model(tmp_path / "model", ("Melanoma", "melanoma", "nevus"))).display_names
    assert shown == {"Melanoma": "Melanoma", "melanoma": "melanoma", "nevus": "Nevus"}


@pytest.mark.parametrize("name", ["a\nb", "a\u2028b", "a\u202eb", "x" * 201, "..", "\u200b"])
def test_names_that_no_line_can_show_are_refused_with_what_helps(name: str, tmp_path: Path) -> None:
    """Exporting again would give the same."""
    for number, made in enumerate(({"labels": (name, "b", "c")}, {"facts": {"display_names": {"BA- a": name}}})):
        folder = write_model(tmp_path / str(number), **made)  # type: ignore[arg-type]
        refused(folder, "the name '.*train and export again")


@pytest.mark.parametrize("name", [WEIGHTS, STATISTICS, NOVELTY])
def test_large_files_are_not_kept_in_memory_but_compared_whenever_they_are_asked_for(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", files={} if name == NOVELTY else {name: b"whole"})
    opened, whole = read_model_folder(folder), contents(folder)
    assert dict(opened.files) == whole
    (folder / name).write_bytes(b"altered")
    with pytest.raises(ModelFolderError, match=f"{name} was altered"):
        opened.files[name]
    (folder / name).write_bytes(whole[name])
    assert opened.files[name] == whole[name]
