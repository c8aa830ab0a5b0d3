"""Photos of none of the classes, from folders to every door: refused, and never shown as a disease."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import TINTS, write_tinted
from console import call
from sklearn.metrics import confusion_matrix, f1_score, recall_score
from tinynet import quick

from spectraderm import pipeline
from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError
from spectraderm.core.files import read_json
from spectraderm.core.roots import with_other
from spectraderm.core.run import CARD, MODEL, REPORT, Run
from spectraderm.evaluation.calibrate import judge, settings_of
from spectraderm.evaluation.external import evaluate_external
from spectraderm.evaluation.outputs import pool, read_outputs
from spectraderm.inference.classifier import load_model
from spectraderm.inference.prediction import VERDICTS

COLOURS = dict(zip(("a", "b", "Other", "deep"), (*TINTS, TINTS[2]), strict=True))
CLASSES = ["a", "b", OTHER]
SIZE = (240, 180)
"""Of photos that are large enough for the quality gate."""


class Made(NamedTuple):
    photos: Path
    run: Run
    evaluation: dict[str, Any]


@pytest.fixture(scope="module")
def made(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run in three folds over two classes, a class folder `Other`, and a folder of others beside."""
    folders = {"set/a": 15, "set/b": 15, "set/Other": 9, "nails/x/deep": 9}
    root = write_tinted(tmp_path_factory.mktemp("other"), folders, COLOURS, 0, SIZE)
    settings = quick(tiny, "grouped", 3, "discriminant")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectraderm.core.resampling.RESAMPLES", 40)
        evaluation = pipeline.run(with_other([root / "set"], root / "nails"), root / "run", settings)
    return Made(root, Run(root / "run"), evaluation)


def test_scores_are_of_the_classes_and_refusals_of_the_others(made: Made) -> None:
    _, crossed = read_outputs(made.run)
    test, judged = pool(crossed), judge(crossed, settings_of(made.run))
    labels, guesses = (np.array(CLASSES)[numbers] for numbers in (test.labels, test.logits.argmax(1)))
    own, found = labels != OTHER, made.evaluation
    assert (found["labels"], found["guesses"], own.sum(), (~own).sum()) == (["a", "b"], CLASSES, 30, 18)
    assert found["confusion_matrix"] == confusion_matrix(labels[own], guesses[own], labels=CLASSES)[:2].tolist()
    scores, true = found["splits"]["test"], (labels[own], guesses[own])
    assert scores["accuracy"]["value"] == pytest.approx((true[0] == true[1]).mean())
    by_class = {"labels": ["a", "b"], "average": "macro"}
    assert scores["balanced_accuracy"]["value"] == pytest.approx(recall_score(*true, **by_class))
    assert scores["macro_f1"]["value"] == pytest.approx(f1_score(*true, **by_class))
    assert [row["label"] for row in found["per_class"]] == ["a", "b"]
    shipped = found["calibration"]["sets"][found["calibration"]["shipped"]]
    assert (shipped["n_photos"], len(shipped["per_class"])) == (30, 2)
    # every photo of the classes that is taken for another is refused, and no guess of its own is right
    verdicts = np.array(VERDICTS)[judged.verdicts]
    assert set(verdicts[guesses == OTHER]) == {"out_of_scope"}
    assert found["refusals"]["out_of_scope"]["value"] == pytest.approx((verdicts[own] == "out_of_scope").mean())
    assert sum(share["n_photos"] for share in found["refusals"].values()) == 4 * 30
    sources = np.array([row["source"] for row in made.run.rows])
    whole, parts = found["out_of_distribution"], found["by_source"]
    for rows, shares in [(~own, whole)] + [
        (~own & (sources[[made.run.logits("final").paths.tolist().index(path) for path in test.paths]] == name),
         parts[name]["out_of_distribution"])
        for name in ("nails", "set")
    ]:  # fmt: skip
        assert shares["refused"]["n_photos"] == rows.sum() > 0
        for name, hits in (
            ("refused", np.isin(verdicts, ("out_of_scope", "unusable_photo"))),
            ("flagged", verdicts != "predicted"),
            ("predicted", verdicts == "predicted"),
        ):
            assert shares[name]["value"] == pytest.approx(hits[rows].mean())
    assert whole["refused"]["value"] > 0.5  # it has learned them
    assert "group_accuracy" not in parts["nails"]
    assert parts["set"]["n_photos"] == 30


def test_no_door_names_a_disease_where_it_is_none_of_them(made: Made) -> None:
    classifier = load_model(made.run.path(MODEL))
    assert classifier.labels == CLASSES
    assert classifier.folder.conditions == ["a", "b"]
    said = {
        path: classifier.predict(path) for path in sorted(made.photos.glob("*/**/*.jpg")) if "run" not in path.parts
    }
    none = {path: one for path, one in said.items() if one.label == OTHER}
    assert len(none) > 9
    for one in said.values():
        assert (one.label == OTHER) <= (one.verdict == "out_of_scope")
        assert one.probabilities.keys() == {*CLASSES}
    path, one = next(iter(none.items()))
    words = "It looks most like the photos of none of the 2 conditions that the model was given as examples."
    assert (one.reason, one.display_name) == (words, "None of these")
    done = call("predict", path, "--model", made.run.path(MODEL), "--format", "table")
    assert "out of scope" in done.out
    assert " ".join(words.split()) in " ".join(done.out.split())
    assert "It knows 2 conditions" in " ".join(done.out.split())


def test_report_and_card_tell_of_them(made: Made) -> None:
    report, card = (made.run.path(name).read_text(encoding="utf-8") for name in (REPORT, CARD))
    assert "Skin-photo classifier: a, b\n" in card
    for name in ("its own held-out photos", "its own held-out photos, source nails"):
        assert name in report
        assert name in card
    assert "`other` (18 files of none of them)" in card
    assert "None of these</th></tr></thead>" in report
    done = call("evaluate", made.run.folder)
    assert "Of none of its classes: refused" in done.err
    facts = read_json(made.run.path("audit.json"), "")
    assert facts["classes"][OTHER]["other"] is True


def test_folders_of_others_are_evaluated_beside_classes(made: Made, tmp_path: Path) -> None:
    new = write_tinted(tmp_path, {"new/a": 4, "new/b": 3, "new/Other/deep": 5, "more/a": 6}, COLOURS, 1000, SIZE)
    out = tmp_path / "found.json"
    done = call("evaluate", made.run.path(MODEL), new / "new", "--other", new / "more", "--out", out)
    assert done.code == 0, done.err
    found = read_json(out, "")
    assert (found["scores"]["n_photos"], found["labels"], found["guesses"]) == (7, ["a", "b"], CLASSES)
    assert [sum(row) for row in found["confusion_matrix"]] == [4, 3]
    assert [row["label"] for row in found["per_class"]] == ["a", "b"]
    classifier = load_model(made.run.path(MODEL))
    others = [
        classifier.predict(path).verdict for name in ("new/Other", "more") for path in (new / name).rglob("*.jpg")
    ]
    shares = found["out_of_distribution"]
    assert shares["refused"]["n_photos"] == len(others) == 11
    assert shares["refused"]["value"] == pytest.approx(np.isin(others, ("out_of_scope", "unusable_photo")).mean())
    assert shares["predicted"]["value"] == pytest.approx(others.count("predicted") / 11)
    assert found["by_source"]["more"]["out_of_distribution"]["refused"]["n_photos"] == 6
    assert found["by_source"]["new"]["n_photos"] == 7
    label_map = tmp_path / "map.csv"
    label_map.write_text("folder,label\na,b\nb,Other\ndeep,\n")
    found = evaluate_external(made.run.path(MODEL), new / "new", label_map)
    assert (found["scores"]["n_photos"], found["out_of_distribution"]["refused"]["n_photos"]) == (4, 8)
    (new / "new/Other").rename(new / "new/healthy")
    with pytest.raises(DatasetError, match="has no class 'deep', but has others"):
        evaluate_external(made.run.path(MODEL), new / "new")


@pytest.mark.usefixtures("quick_report")
def test_others_of_a_source_of_their_own_are_tested_by_source(tiny: Path, tmp_path: Path) -> None:
    counts = {"x/a": 8, "x/b": 8, "y/a": 8, "y/b": 8, "nails/deep": 6}
    root = write_tinted(tmp_path, counts, COLOURS, 5000, SIZE)
    options = quick(tiny, "by-source", recipe="discriminant")
    photos = with_other([root / "x", root / "y"], root / "nails")
    found = pipeline.run(photos, root / "run", options)
    run = Run(root / "run")
    assert [entry["fold"] for entry in run.config["folds"]] == ["final", "fold-1", "fold-2", "fold-3"]
    # the fold of `nails` has learned no photo of none of the classes: it refuses by novelty, or not at all
    assert CLASSES.index(OTHER) not in run.logits("fold-1").values.argmax(1)
    assert found["by_source"].keys() == {"nails", "x", "y"}
    assert found["by_source"]["nails"].keys() == {"n_photos", "n_groups", "out_of_distribution"}
    assert found["mean_over_sources"]["n_sources"] == 2
    assert found["out_of_distribution"]["refused"]["n_photos"] == 6
    assert found["splits"]["test"]["n_photos"] == 32
    assert pipeline.run(photos, root / "run", replace(options, resume=True)) == found
