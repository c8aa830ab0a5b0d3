"""`adapt`: from a model folder and painted photos to another whole model folder."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINTS, write_tinted
from safetensors.numpy import load
from tinynet import Exported

import spectraderm
from spectraderm.adaptation import NotBetter
from spectraderm.core.errors import DatasetError, ModelFolderError, SpectraDermError
from spectraderm.core.files import write_csv
from spectraderm.evaluation.external import evaluate_external
from spectraderm.inference.model_folder import open_model
from spectraderm.serving.spaces.deploy import deploy
from spectraderm.training.adapt import closed_form

Made = tuple[Path, dict[str, Any], Path]


ELSEWHERE = {"b": TINTS[2], "C": (200, 200, 60), "a_new-one": (60, 200, 200)}
"""In which another camera shows classes."""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two of the classes, tints swapped, as another camera might, of a new class, and of nothing of it."""
    folder = write_tinted(tmp_path_factory.mktemp("mine") / "photos", {"C": 6, "b": 6, "a_new-one": 6}, ELSEWHERE, 9000)
    write_tinted(folder.parent / "others", {"x": 3, "y": 3}, {}, 7000)
    return folder


@pytest.fixture(scope="module")
def made(mine: Path, exports: dict[str, Exported], tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("adapted") / "model"
    result = spectraderm.adapt(
        exports["discriminant"].folder, mine, out, add_classes=True, other=mine.parent / "others", force=True
    )
    return out, result, mine


def test_the_new_folder_is_whole_and_every_door_opens_it(made: Made, tmp_path: Path) -> None:
    out, result, mine = made
    model = spectraderm.load_model(out)
    assert model.labels == ["A- a", "b", "c", "a_new-one", "other"]
    assert model.model_id == result["adapted_model_id"]
    photo = next((mine / "C").iterdir())
    prediction = model.predict(photo)
    assert prediction.in_training
    assert prediction.calibrated_on == "home"
    assert np.max(prediction.heatmap) == 1
    scored = evaluate_external(out, mine)
    assert scored["in_training"] == scored["n_photos"] == 18
    deploy(str(out), "static", tmp_path / "space", "Mine")
    assert json.loads((tmp_path / "space/model/model.json").read_text())["labels"] == model.labels
    stored = load(model.folder.files["model.safetensors"])
    assert stored["classifier.1.weight"].shape == (5, model.folder.references.shape[1])
    answer = model.engine(model.pixels(photo)[None])
    logits = answer.features @ stored["classifier.1.weight"].T + stored["classifier.1.bias"]
    np.testing.assert_allclose(answer.logits, logits, atol=1e-4)


def test_it_says_what_was_measured_and_on_what(made: Made, exports: dict[str, Exported]) -> None:
    out, result, _ = made
    folder, before = open_model(out), open_model(exports["discriminant"].folder)
    kept = folder.facts["adapted_from"]
    assert (kept["model_id"], kept["n_photos"], kept["new_classes"]) == (before.model_id, 24, ["a_new-one", "other"])
    assert [own["photos"] for own in kept["per_class"]] == [6, 6, 6, 6]
    assert folder.facts["parity"]["max_logit_difference"] < 1e-3
    assert set(folder.facts["calibration"]) == {"home"}
    assert f"Adapted from {before.model_id}, with 24 photos" in folder.card
    assert "measured on your own photos only" in folder.card
    assert "model-index" not in folder.card
    assert len(folder.training_hashes) == len(before.training_hashes) + 24
    assert len(folder.references) == len(before.references) + 24
    assert set(folder.files) == set(before.files)
    assert result["difference"]["value"] == pytest.approx(result["after"]["value"] - result["before"]["value"])


def test_an_adapted_model_can_be_adapted_again_and_photos_it_knows_are_left_out(made: Made, tmp_path: Path) -> None:
    out, _, mine = made
    with pytest.raises(DatasetError, match="learned from all of these"):
        spectraderm.adapt(out, mine, tmp_path / "again", force=True)
    more = write_tinted(tmp_path / "more", {"b": 3, "a new one": 3}, ELSEWHERE, 12000)
    (more / "metadata.csv").write_text("file_name,patient\nb/00.jpg,p\nb/01.jpg,p\n")
    (more / "c").mkdir()
    result = spectraderm.adapt(out, more, tmp_path / "again", force=True)
    assert (result["n_groups"], result["tables"][0]["columns"]) == (5, {"patient": "patient"})
    assert [own["id"] for own in result["findings"]] == ["empty_class", "joined_classes", "photo_without_line"]
    again = open_model(tmp_path / "again")
    assert (result["new_classes"], result["n_photos"]) == ([], 6)
    assert again.labels == open_model(out).labels
    counts = closed_form(again).statistics.counts - closed_form(open_model(out)).statistics.counts
    np.testing.assert_allclose(counts, [0, 48, 0, 72, 0])
    assert again.card.count("## The model before") == 1


def test_the_same_photos_and_seed_give_the_same_bytes(made: Made, exports: dict[str, Exported], tmp_path: Path) -> None:
    out, _, mine = made
    others = mine.parent / "others"
    spectraderm.adapt(exports["discriminant"].folder, mine, tmp_path / "m", add_classes=True, other=others, force=True)
    assert open_model(tmp_path / "m").files == open_model(out).files


def test_what_is_no_better_is_not_written_unless_forced(exports: dict[str, Exported], tmp_path: Path) -> None:
    known = {"b": TINTS[1], "c": TINTS[2]}  # as the model knows them
    wrong = write_tinted(tmp_path / "wrong", {"b": 5, "c": 5}, known, 20000)
    model = exports["discriminant"].folder
    with pytest.raises(NotBetter, match="nothing was written") as caught:
        spectraderm.adapt(model, wrong, tmp_path / "out")
    assert caught.value.result["difference"]["value"] <= 0
    assert not (tmp_path / "out").exists()
    spectraderm.adapt(model, wrong, tmp_path / "out", force=True)
    assert open_model(tmp_path / "out").facts["adapted_from"]["difference"]["value"] <= 0


def test_photos_that_cannot_be_used_are_errors_with_a_remedy(exports: dict[str, Exported], tmp_path: Path) -> None:
    model, out = exports["discriminant"].folder, tmp_path / "out"
    folder = write_tinted(tmp_path / "p", {"b": 3, "fungus": 3}, ELSEWHERE, 5000)
    with pytest.raises(DatasetError, match=r"no class 'fungus'.*--add-classes.*--label-map"):
        spectraderm.adapt(model, folder, out)
    write_csv(tmp_path / "map.csv", ["folder", "label"], [{"folder": "fungus", "label": "c"}])
    assert spectraderm.adapt(model, folder, out, tmp_path / "map.csv", force=True)["new_classes"] == []
    copied = next((folder / "b").iterdir())
    (folder / "fungus" / f"copy{copied.suffix}").write_bytes(copied.read_bytes())
    with pytest.raises(DatasetError, match="show the same photo"):
        spectraderm.adapt(model, folder, out, tmp_path / "map.csv")
    with pytest.raises(DatasetError, match=r"no class folders"):
        spectraderm.adapt(model, tmp_path / "p" / "b", out)
    lone = write_tinted(tmp_path / "lone", {"b": 3, "new": 1}, ELSEWHERE, 6000)
    with pytest.raises(DatasetError, match="one photo of the new class 'new'"):
        spectraderm.adapt(model, lone, out, add_classes=True)
    for number, (name, problem) in enumerate(
        {"B": "look alike", "Test": "name of a split", "x\ty": "U\\+0009"}.items()
    ):
        odd = write_tinted(tmp_path / f"odd{number}", {"b": 1, name: 1}, ELSEWHERE, 6500)
        with pytest.raises(DatasetError, match=problem):
            spectraderm.adapt(model, odd, out, add_classes=True)
    with pytest.raises(SpectraDermError, match="no model folder"):
        spectraderm.adapt(model, lone, tmp_path)


def test_a_model_without_statistics_says_so(exports: dict[str, Exported], mine: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"no statistics to adapt from.*discriminant"):
        spectraderm.adapt(exports["notebook"].folder, mine, mine.parent / "never")


def test_it_needs_nothing_of_the_training_extra(mine: Path, exports: dict[str, Exported], tmp_path: Path) -> None:
    blocked = "torch scipy faiss cv2 sklearn matplotlib jinja2 transformers kornia joblib pydantic safetensors"
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked!r}.split()))
from spectraderm.cli.commands import main
sys.argv = ["spectraderm", "adapt", {str(exports["discriminant"].folder)!r}, {str(mine)!r}, "--add-classes", "--force",
            "--out", {str(tmp_path / "out")!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Right " in done.stderr
    assert f"spectraderm predict PHOTO --model {tmp_path / 'out'}" in done.stderr
