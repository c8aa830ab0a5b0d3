"""`calibrate`, `evaluate`, `compare` and `reproduce`: what a person is told, and what stands in the files after."""

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conftest import encode, paint
from console import Done, call
from handmade import LABELS, leaking_run, write_model

from spectraderm.core.files import read_json
from spectraderm.core.run import CALIBRATION, EVALUATION, LEDGER, REPORT, Run
from spectraderm.evaluation import ledger
from spectraderm.inference import model_folder
from spectraderm.training import export

if TYPE_CHECKING:
    from tinynet import Exported


@pytest.fixture
def trained(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A trained run folder, not calibrated."""
    return Path(shutil.copytree(runs["notebook"], tmp_path / "trained"))


@pytest.fixture
def evaluated(exports: "dict[str, Exported]", tmp_path: Path) -> Path:
    """A run folder with its model folder."""
    return Path(shutil.copytree(exports["notebook"].run, tmp_path / "evaluated"))


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """Two folders of a photo or two, of no class of any model."""
    for number, name in enumerate(("cats/0", "cats/1", "dogs/0")):
        (tmp_path / "strange" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "strange" / f"{name}.png").write_bytes(encode(paint(900 + number, (320, 320)), "PNG"))
    return tmp_path / "strange"


def read(path: Path) -> dict[str, Any]:
    return read_json(path, "")


def said_of(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_what_is_not_calibrated_is_neither_scored_nor_counted_as_scored(trained: Path) -> None:
    done = call("evaluate", trained)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "spectraderm calibrate RUN" in done.err
    assert not (trained / LEDGER).exists()
    assert not (trained / EVALUATION).exists()


def test_what_is_asked_of_a_calibration_stands_in_the_file_and_in_the_models_verdicts(
    evaluated: Path, exports: "dict[str, Exported]", photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six calibration photos, none can promise 95 %: never sure. Half right is easily promised."""
    monkeypatch.setattr(export, "to_onnx", lambda *_: exports["notebook"].graph)
    before = said_of(call("predict", photos, "--model", evaluated / "model"))
    done = call("calibrate", evaluated)
    assert (done.code, done.out) == (0, "")
    assert "`predicted` never: " in done.err
    asked = ("--coverage", 0.5, "--conformal", "raps", "--per-class", "--promise", 0.5)
    done = call("calibrate", evaluated, *asked)
    assert (done.code, done.out) == (0, "")
    assert "promised 50 % right" in done.err
    assert "found on 6 photos" in done.err
    found = read(evaluated / CALIBRATION)["home"]
    wanted = {"coverage": 0.5, "set_method": "raps", "per_class": True, "promised_accuracy": 0.5}
    assert {name: found[name] for name in wanted} == wanted
    assert f"from a probability of {100 * found['confidence_threshold']:.1f} %" in done.err
    for stage in ("evaluate", "export"):
        assert call(stage, evaluated).code == 0
    scored = read(evaluated / EVALUATION)["calibration"]
    assert (scored["coverage"], scored["shipped"]) == (0.5, "raps_per_class")
    assert read(evaluated / "model" / model_folder.FACTS)["calibration"] == {"home": found}
    after = said_of(call("predict", photos, "--model", evaluated / "model"))
    assert "predicted" not in {one["verdict"] for one in before}
    sure = [one for one in after if one["verdict"] == "predicted"]
    assert sure
    assert min(one["probability"] for one in sure) >= found["confidence_threshold"]
    assert {one["coverage"] for one in after} == {0.5}
    assert sum(len(one["prediction_set"]) for one in after) < sum(len(one["prediction_set"]) for one in before)


def test_a_calibration_that_makes_no_sense_is_wrong_usage(trained: Path) -> None:
    for wrong in (("--coverage", 1.5), ("--coverage", 0.2), ("--conformal", "all"), ("--promise", "nan")):
        assert call("calibrate", trained, *wrong).code == 2
    assert not (trained / CALIBRATION).exists()


def test_photos_that_were_learned_from_are_called_contamination(evaluated: Path, photos: Path) -> None:
    done = call("evaluate", evaluated / "model", photos)
    assert (done.code, done.out) == (0, "")
    assert "36 photos" in done.err
    assert "CONTAMINATED  the model was trained on 27 of them, or on copies of them (75.0 %)" in done.err
    test = read(evaluated / EVALUATION)["splits"]["test"]["accuracy"]["value"]
    assert f"accuracy {100 * test:.1f} (" in done.err  # of the nine that are left


def test_strangers_are_refused_and_no_score_is_made_up(painted: Path) -> None:
    (painted / "cats" / "9.jpg").write_bytes(b"no photo")
    done = call("evaluate", "default", painted)
    assert (done.code, done.out) == (0, "")
    assert "It was trained on none of them" in done.err
    assert "Of none of its classes: refused" in done.err
    assert "balanced accuracy" not in done.err
    assert "1 could not be read; first: " in done.err
    assert not (painted.parent / "default").exists()


def test_a_map_and_a_file_for_the_result(painted: Path, tmp_path: Path) -> None:
    model, names, out = write_model(tmp_path / "model"), tmp_path / "map.csv", tmp_path / "out" / "result.json"
    names.write_text(f"folder,label\ncats,{LABELS[1]}\ndogs,\n")
    done = call("evaluate", model, painted, "--label-map", names, "--out", out)
    assert (done.code, done.out) == (0, "")
    result = read(out)
    assert (result["scores"]["n_photos"], result["out_of_distribution"]["refused"]["n_photos"]) == (2, 1)
    assert result["confusion_matrix"][0] == result["confusion_matrix"][2] == [0, 0, 0]
    assert "balanced accuracy" in done.err
    assert "Of none of its classes" in done.err
    names.write_text("folder,label\ncats,\n")
    assert call("evaluate", model, painted, "--label-map", names).code == 2


def test_a_model_needs_photos_and_runs_take_no_map(tmp_path: Path, trained: Path) -> None:
    model = write_model(tmp_path / "model")
    runs = ((trained, "--label-map", "x.csv"), (trained, "--out", "x.json"), (trained, "--chosen-on"))
    for arguments in ((model,), *runs):
        done = call("evaluate", *arguments)
        assert (done.code, done.out) == (2, "")
        assert "MODEL PHOTOS" in done.err


def test_what_a_runs_model_made_of_another_folder_is_a_row_of_its_next_evaluation(
    evaluated: Path, painted: Path, tmp_path: Path
) -> None:
    names = tmp_path / "map.csv"
    names.write_text("folder,label\ncats,b\ndogs,c\n")
    before = call("evaluate", evaluated)
    done = call("evaluate", evaluated / "model", painted, "--label-map", names)
    assert done.code == 0
    assert "Novelty tells them from the run's own photos with an AUROC of" in done.err
    after = call("evaluate", evaluated)
    row = read(evaluated / EVALUATION)["protocols"][-1]
    assert (row["name"], row["n_photos"], row["believe"]) == ("external:strange", 3, True)
    told = "strange (3 files, 3 photo groups)"
    assert told not in before.err
    assert f"> {told}: {row['words']}" in after.err
    assert re.search(r"elsewhere:\s", after.err)  # a narrow terminal wraps it
    assert f"`spectraderm calibrate {evaluated} --external PHOTOS...`" in after.err
    assert "strange" in (evaluated / REPORT).read_text()
    chosen = call("evaluate", evaluated / "model", painted, "--label-map", names, "--chosen-on")
    assert "CHOSEN ON" in chosen.err
    assert "CHOSEN ON" not in done.err
    assert "Each was judged as a photo of the collection" in chosen.err
    call("evaluate", evaluated)
    assert read(evaluated / EVALUATION)["protocols"][-1]["title"] == "other photos: strange, chosen on"


def test_a_run_is_no_better_than_itself_and_both_ledgers_know(evaluated: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(evaluated, tmp_path / "[red]/evaluated"))
    opened = ledger.summary(Run(evaluated))["opened"]
    done = call("compare", evaluated, other)
    assert (done.code, done.out) == (0, "")
    assert done.err.count("neither: noise") == 8
    assert "evaluated  [red]/evaluated " in done.err.splitlines()[0]  # told apart by path; a name, not a colour
    assert "p = 1.000" in done.err
    for run, beside in ((evaluated, other), (other, evaluated)):
        assert ledger.summary(Run(run))["compared_with"] == [str(beside)]
        assert ledger.summary(Run(run))["opened"] == opened + 1


def test_runs_of_other_photos_are_not_compared(evaluated: Path, tmp_path: Path) -> None:
    other = leaking_run(tmp_path / "other")
    done = call("compare", evaluated, other)
    assert done.code == 2
    assert "not tested on the same photos" in done.err
    assert not (other / LEDGER).exists()


def test_photos_are_judged_by_what_is_asked_for(evaluated: Path, photos: Path) -> None:
    """A model that was never calibrated elsewhere says so; run folders are judged at home."""
    done = call("evaluate", evaluated / "model", photos, "--calibration", "elsewhere")
    assert (done.code, done.out) == (2, "")
    assert "spectraderm calibrate MODEL --external PHOTOS" in done.err
    assert call("evaluate", evaluated / "model", photos, "--calibration", "home").code == 0
    assert "--calibration go with MODEL PHOTOS" in call("evaluate", evaluated, "--calibration", "home").err
