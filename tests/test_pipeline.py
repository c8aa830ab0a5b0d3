import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import contents
from tinynet import RECIPES, quick

from spectraderm import pipeline
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import read_json
from spectraderm.core.progress import T
from spectraderm.core.run import CARD, LEDGER, REPORT
from spectraderm.core.stages import CHECKSUMS
from spectraderm.inference import model_folder
from spectraderm.training import export
from spectraderm.training.options import Options

RUN_FILES = {
    *("manifest.csv", "audit.json", "copies.csv", "gallery.html", "split.csv", "config.json", "environment.json"),
    *("calibration.json", "novelty.npy", "evaluation.json", "test_ledger.csv", "report.html", "README.md"),
    *("confusion_matrix.csv", "confusion_matrix.png", "reliability.png", "roc.png"),
    *("model/spectraderm.json", "model/onnx/model.onnx"),
    *(f"model/{name}.png" for name in ("confusion_matrix", "reliability", "roc")),
}
FOLD_FILES = {"history.csv", "curves.png", "logits.csv", "checkpoint.safetensors"}


class Shown:
    """A track that notes what was shown and how far it came."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = {}

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterable[T]:
        done = self.done.setdefault(description, [0, total])
        for item in items:
            yield item
            done[0] += 1


Original = tuple[Path, dict[str, Any], Shown]
"""A run folder, its evaluation, and what was shown meanwhile."""


@pytest.fixture(scope="module")
def original(photos: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Original:
    out, shown = tmp_path_factory.mktemp("original") / "run", Shown()
    return out, pipeline.run(photos, out, quick(tiny, "original", crops=None), shown), shown


def test_as_given_a_folder_becomes_a_run_folder(original: Original) -> None:
    out, evaluation, _ = original
    assert set(contents(out)) >= RUN_FILES | {f"folds/final/{name}" for name in FOLD_FILES}
    assert read_json(out / "evaluation.json", "") == evaluation
    counts = {name: scores["n_photos"] for name, scores in evaluation["splits"].items()}
    assert counts == {"train": 21, "val": 6, "test": 9}
    assert evaluation["splits"]["train"]["accuracy"]["value"] == 1
    assert model_folder.read_model_folder(out / "model").facts["labels"] == ["A- a", "b", "c"]


def test_every_stage_shows_how_far_it_is(original: Original) -> None:
    done = original[2].done
    looked = ["Reading photos", "Looking for crops"]
    stages = [*looked, "final", "Measuring parity", "Measuring robustness"]
    named = {*stages}
    assert [name for name in done if name in named] == stages
    stages.remove("Looking for crops")  # takes the last result, but does not come back for more
    assert all(done[name][0] == done[name][1] > 0 for name in stages)
    assert done["final"] == [20, 20]


def test_by_photo_every_photo_is_tested_once(photos: Path, tiny: Path, tmp_path: Path) -> None:
    quick_recipe = RECIPES["notebook"] | {"epochs": 3}
    evaluation = pipeline.run(photos, tmp_path / "run", quick(tiny, "grouped", 3, changes=quick_recipe))
    assert evaluation["splits"]["test"]["n_photos"] == 36
    assert evaluation["folds"] == 3
    folds = ("final", "fold-1", "fold-2", "fold-3", "original")
    expected = RUN_FILES | {f"folds/{fold}/{name}" for fold in folds for name in FOLD_FILES}
    assert set(contents(tmp_path / "run")) >= expected


def test_draws_of_the_folders_as_they_came_keep_their_validation_photos(
    photos: Path, tiny: Path, tmp_path: Path
) -> None:
    """They are no folds that measure the final one, so that a head in closed form may not learn from them."""
    evaluation = pipeline.run(photos, tmp_path / "run", quick(tiny, "original", 2, "discriminant"))
    assert evaluation["splits"]["val"]["n_photos"] == 6
    assert evaluation["over_folds"]["val_accuracy"]["n"] == 2


def test_a_second_run_is_refused_before_anything_is_read(original: Original, photos: Path) -> None:
    out, before = original[0], contents(original[0])
    with pytest.raises(RunFolderError, match=r"was trained in before.*--resume"):
        pipeline.run(photos, out, Options(recipe="none", backbone="./none"))
    assert contents(out) == before


def test_resuming_what_is_done_changes_nothing_but_how_often_the_test_was_used(
    original: Original, photos: Path, tiny: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(original[0], tmp_path / "run"))
    shown = Shown()
    assert pipeline.run(photos, out, quick(tiny, "original", resume=True), shown) == original[1]
    before, after = contents(original[0]), contents(out)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == {
        *(LEDGER, REPORT, CARD, CHECKSUMS),
        *(f"model/{name}" for name in (CARD, model_folder.FACTS)),  # the latter for the card's checksum
    }
    assert after[LEDGER].startswith(before[LEDGER])
    assert after[LEDGER].count(b"\n") == before[LEDGER].count(b"\n") + 1
    for name in (REPORT, CARD):
        assert after[name].replace(b"scored 2 times", b"scored 1 time") == before[name], name
    facts, again = (json.loads(files[f"model/{model_folder.FACTS}"]) for files in (before, after))
    assert facts["sha256"].pop(CARD) != again["sha256"].pop(CARD)
    assert facts == again
    assert [name for name in shown.done if name.startswith("Measuring")] == ["Measuring parity", "Measuring robustness"]
    assert "final" not in shown.done


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"seed": 1}, "split in another way"),
        ({"protocol": "grouped"}, "split in another way"),
        ({"folds": 2}, "split in another way"),
        ({"changes": {**RECIPES["notebook"], "epochs": 3}}, "another recipe"),
    ],
)
def test_resuming_with_other_settings_is_refused_and_changes_nothing(
    changes: dict[str, Any], why: str, original: Original, photos: Path, tiny: Path
) -> None:
    out, before = original[0], contents(original[0])
    with pytest.raises(RunFolderError, match=why):
        pipeline.run(photos, out, replace(quick(tiny, "original", resume=True), **changes))
    assert contents(out) == before


def test_resuming_with_other_photos_is_refused(original: Original, photos: Path, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    with pytest.raises(RunFolderError, match="made from other photos"):
        pipeline.run(tmp_path / "photos", original[0], quick(tiny, "original", resume=True))


def test_a_run_that_stopped_early_resumes_to_the_same_files(
    original: Original, photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = (original[0] / "model/onnx/model.onnx").read_bytes()
    monkeypatch.setattr(export, "to_onnx", lambda *_: graph)  # parity is measured with it

    def stop(items: Iterable[T], description: str, total: int) -> Iterable[T]:
        for number, item in enumerate(items):
            if description == "final" and number == 5:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(photos, tmp_path / "run", quick(tiny, "original"), stop)
    pipeline.run(photos, tmp_path / "run", quick(tiny, "original", resume=True))
    same = ("folds/final/logits.csv", "evaluation.json", "model/model.safetensors", "README.md", "split.csv")
    same_too = ("calibration.json", "novelty.npy", "model/training_photos.npy")
    ours, theirs = contents(tmp_path / "run"), contents(original[0])
    assert [name for name in same + same_too if ours[name] != theirs[name]] == []
