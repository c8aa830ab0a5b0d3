"""What hostile model folders meet: each is refused by name, or answers finitely; nothing else is read or run."""

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hostile_models
import pytest
from conftest import paint
from handmade import model_files, write_model
from measured import MEGABYTES, SECONDS, Answer, answers_of

import spectraderm
from spectraderm.core.errors import ModelFolderError
from spectraderm.core.run import CARD
from spectraderm.inference import model_folder
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import open_model


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
    (folder / model_folder.HASHES).unlink()
    (folder / model_folder.HASHES).symlink_to(write_model(tmp_path / "other") / model_folder.HASHES)
    with pytest.raises(ModelFolderError, match="link out"):
        spectraderm.load_model(folder)


def test_damaged_networks_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The runtime's own second try would, to the process's stdout, where the answers go."""
    for network in hostile_models.flipped_graphs(40, seed=1):
        with contextlib.suppress(ModelFolderError):
            Engine(network, threads=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "hidden", [b"\xa2\x00\x04Loop", b'"\x84\x80\x00Loop', b'"\x04Scan', b"\xa2\x80\x00\x84\x00Scan"]
)
def test_an_operator_written_the_long_way_is_found(hidden: bytes) -> None:
    """Protobuf allows numbers of more bytes than needed."""
    with pytest.raises(ModelFolderError, match="loops"):
        Engine(b"\x08\x09" + hidden)


def test_cards_reach_pages_as_they_are_and_marked_as_text(tmp_path: Path) -> None:
    """`ModelFolder.card` is Markdown of strangers: whoever shows it must not take it for HTML."""
    folder = write_model(tmp_path / "model", files={CARD: b"<script>alert(1)</script>\xff"})
    assert open_model(folder).card == "<script>alert(1)</script>\N{REPLACEMENT CHARACTER}"


def test_serving_never_imports_what_opens_other_weights() -> None:
    code = "import sys, spectraderm; spectraderm.load_model(); print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"torch", "safetensors", "joblib", "onnx", "h5py"} & set(ast.literal_eval(done.stdout.decode()))


def test_duplicate_checksums_do_not_hide_a_change(tmp_path: Path) -> None:
    """Of two `sha256` objects the last counts, for the check and for everything else."""
    folder = write_model(tmp_path / "model")
    facts = (folder / model_folder.FACTS).read_text()
    (folder / model_folder.FACTS).write_text(facts.replace('"sha256"', '"sha256": {}, "sha256"', 1))
    assert spectraderm.load_model(folder)
    (folder / model_folder.FACTS).write_text(facts.rstrip()[:-1] + ', "sha256": {}}')
    with pytest.raises(ModelFolderError, match="lists no"):
        spectraderm.load_model(folder)


def test_facts_may_not_be_json_that_json_is_not(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", files=model_files())
    facts = json.loads((folder / model_folder.FACTS).read_text())
    (folder / model_folder.FACTS).write_text(json.dumps(facts | {"parity": float("nan")}))
    assert spectraderm.load_model(folder).predict(paint(1, (160, 130))).verdict == "unsure"
