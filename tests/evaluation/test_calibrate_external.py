"""Model folders and run folders that are calibrated elsewhere, on painted photos."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import encode, paint
from console import call
from handmade import LABELS, leaking_run, write_model
from pages import evaluated

import spectraderm
from spectraderm.core.errors import DatasetError, ModelFolderError, RunFolderError
from spectraderm.core.files import read_json, sha256
from spectraderm.core.run import CALIBRATION, MODEL, Run
from spectraderm.evaluation.calibrate import calibrate
from spectraderm.evaluation.calibrate_external import HEADING, calibrate_external, section, with_section
from spectraderm.inference.model_folder import CARD, FACTS

A, B, D = LABELS


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of two classes, and photos of other conditions of one of them; no two alike."""
    root, seed = tmp_path_factory.mktemp("photos"), 0
    for folder, count in {f"one/{A}": 6, f"one/{B}": 6, "near/warts": 8, f"two/{B}": 7, f"two/{D}": 7}.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            seed += 1
            (root / folder / f"{number}.png").write_bytes(encode(paint(seed, (320, 320)), "PNG"))
    return root


def given(photos: Path) -> list[str]:
    return [f"one={photos}/one", f"one={photos}/near", f"{photos}/two"]


def facts_of(folder: Path) -> dict[str, Any]:
    return read_json(folder / FACTS, "")


def test_a_model_folder_is_rewritten_whole_with_both_and_judges_new_photos_elsewhere(
    photos: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m", files={CARD: b"# Card\n\n## One\ntext\n"})
    before = facts_of(model)
    found = calibrate_external(model, given(photos))
    after = facts_of(model)
    assert after["calibration"] == before["calibration"] | {"elsewhere": found["elsewhere"]}
    assert after["model_id"] == before["model_id"]
    sources = {one["name"]: (one["photos"], one["others"]) for one in found["elsewhere"]["sources"]}
    assert sources == {"one": (20, 8), "two": (14, 0)}
    assert found["elsewhere"]["places"] == 2
    opened = spectraderm.load_model(model)  # its checksums are right
    assert opened.predict(paint(99, (300, 300))).calibrated_on == "elsewhere"
    card = opened.folder.card
    assert card.startswith("# Card\n\n## One\ntext\n")
    assert card.count(HEADING) == 1
    assert "| one | 12 |" in card
    again = calibrate_external(model, given(photos), out=tmp_path / "n")  # the same photos, the same bytes
    assert again["elsewhere"] == found["elsewhere"]
    assert (tmp_path / "n" / CARD).read_bytes() == (model / CARD).read_bytes()
    assert facts_of(tmp_path / "n") == after


def test_other_folders_hold_photos_of_none_of_the_classes_however_they_are_called(photos: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m")
    found = calibrate_external(model, [photos / "one"], [photos / "two"], tmp_path / "n")
    assert {one["name"]: one["others"] for one in found["elsewhere"]["sources"]} == {"one": 0, "two": 14}
    assert found["elsewhere"]["expected"] is None
    assert HEADING in (tmp_path / "n" / CARD).read_text()
    assert "elsewhere" not in facts_of(model)["calibration"]
    with pytest.raises(DatasetError, match="none of the photos shows a class"):
        calibrate_external(model, [photos / "near"])


def test_photos_in_training_and_unreadable_ones_are_left_out_and_told(photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos / "two", tmp_path / "two"))
    (folder / B / "zz.jpg").write_bytes(b"no photo")
    (folder / B / "known.png").write_bytes(encode(paint(1, (320, 320)).convert("L").point(lambda _: 128), "PNG"))
    known = spectraderm.load_model(write_model(tmp_path / "m")).predict(folder / B / "known.png")
    found = calibrate_external(tmp_path / "m", [folder], promise=0.5)
    assert found["in_training"] == int(known.in_training)
    assert len(found["unreadable"]) == 1
    assert found["elsewhere"]["promise_asked"] == 0.5


def test_the_default_model_stays_as_it_is(photos: Path) -> None:
    with pytest.raises(ModelFolderError, match="--out MODEL2"):
        calibrate_external("default", [photos / "one"])


def run_with_model(folder: Path) -> Path:
    """A run that was exported: its model has the run's own calibration."""
    run = leaking_run(folder)
    evaluated(run)
    logits = {"logits_sha256": sha256((run / "folds/final/logits.csv").read_bytes())}
    write_model(run / MODEL, facts={"calibration": Run(run).calibration, **logits})
    return run


@pytest.mark.parametrize("by_model", [False, True])
def test_a_run_and_its_model_are_calibrated_together_and_stay_so_until_it_is_trained_again(
    photos: Path, tmp_path: Path, by_model: bool
) -> None:
    run = run_with_model(tmp_path / "run")
    done = call("calibrate", run / MODEL if by_model else run, "--external", *given(photos))
    assert (done.code, done.out) == (0, "")
    assert "Expected of the next source" in done.err
    kept = read_json(run / CALIBRATION, "")
    ours = {name: value for name, value in kept["elsewhere"].items() if name != "logits_sha256"}
    assert facts_of(run / MODEL)["calibration"]["elsewhere"] == ours
    assert HEADING in section(kept)
    done = call("calibrate", run)  # the same logits
    assert "DROPPED" not in done.err
    assert read_json(run / CALIBRATION, "")["elsewhere"] == kept["elsewhere"]
    logits = run / "folds/final/logits.csv"
    logits.write_text(re.sub(r"2\.0\n", "2.5\n", logits.read_text()))
    with pytest.raises(RunFolderError, match="exported before the run was trained again"):
        calibrate_external(run, given(photos))
    assert "elsewhere" not in calibrate(Run(run))
    (run / CALIBRATION).write_text(json.dumps(kept))
    done = call("calibrate", run)
    assert "DROPPED the settings elsewhere" in done.err


def test_a_run_needs_a_model_of_its_own(photos: Path, tmp_path: Path) -> None:
    run = run_with_model(tmp_path / "run")
    shutil.rmtree(run / MODEL)
    with pytest.raises(RunFolderError, match=r"no model folder yet.*spectraderm export"):
        calibrate_external(run, given(photos))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--external",), "--external needs photos"),
        (("{photos}",), "Add --external"),
        (("--other", "{photos}"), "Add --external"),
        (("--external", "{photos}", "--coverage", 0.8), "as those at home"),
    ],
)
def test_options_that_make_no_sense_together(
    arguments: tuple[Any, ...], problem: str, photos: Path, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m")
    done = call("calibrate", model, *(str(one).format(photos=photos) for one in arguments))
    assert done.code == 2
    assert problem in done.err


def test_a_section_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    card = f"# Card\n\n{HEADING}\nold words\n\n| a |\n\n## After\nkept\n"
    calibration = facts_of(write_model(tmp_path / "m"))["calibration"]
    assert with_section(card, calibration) == card  # a model that was never measured elsewhere
    found = {**calibration["home"], "places": 1, "sources": [], "why": "", "expected": None}
    new = with_section(card, calibration | {"elsewhere": found})
    assert "old words" not in new
    assert new.endswith("\n## After\nkept\n")
    assert "On photos from a place that it never saw in training" in new
