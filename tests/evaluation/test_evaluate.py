import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import LABELS, Said, leaking_run, write_run
from pages import evaluated
from scipy.special import softmax
from sklearn import metrics as sklearn

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import write_json
from spectraderm.core.run import (
    CALIBRATION,
    CONFIG,
    EVALUATION,
    EXTERNAL,
    FEATURES,
    MANIFEST,
    MEASUREMENTS,
    ORIGINAL,
    Run,
)
from spectraderm.evaluation.bootstrap import Judged
from spectraderm.evaluation.calibrate import calibrate
from spectraderm.evaluation.evaluate import MOST_VALUES, UNKNOWN, refusals, subgroups
from spectraderm.evaluation.outputs import pool, read_outputs

A, B, D = LABELS
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "group_accuracy")


def grouped(run: Path) -> Path:
    """Nine photos, three folds; fold k tests the photos that leave k by 3, and guesses `b-c` for all but `d`."""
    photos = [
        (f"{label}/{number}.jpg", 10 * i + number, label) for i, label in enumerate(LABELS) for number in range(3)
    ]
    folds = {"final": [Said(path, group, "train", label, A) for path, group, label in photos]}
    for k in range(3):
        folds[f"fold-{k + 1}"] = [
            Said(path, group, "test" if group % 10 == k else "train", label, D if label == D else B)
            for path, group, label in photos
        ]
    return write_run(run, folds, "grouped")


def draws(run: Path) -> Path:
    """As given, drawn three times: each guesses one photo more right, in validation and in test."""
    folds = {}
    for k, name in enumerate(("final", "draw-2", "draw-3")):
        rows = [Said("t.jpg", 0, "train", A, A), Said("u.jpg", 9, "train", B, B), Said("w.jpg", 8, "train", D, D)]
        for i in range(4):
            guess = A if i <= k else B
            rows += [Said(f"v{i}.jpg", 10 + i, "val", A, guess), Said(f"s{i}.jpg", 20 + i, "test", A, guess)]
        folds[name] = rows
    return write_run(run, folds, "original")


def test_folds_by_photo_test_every_photo_once(tmp_path: Path) -> None:
    got = evaluated(grouped(tmp_path))
    test = got["splits"]["test"]
    assert got["splits"]["train"]["n_photos"] == 18  # of the folds; the final one, which is never scored, has 9 more
    assert got["over_folds"]["test_accuracy"]["seeds"] == [1, 2, 3]
    assert (test["n_photos"], test["n_groups"], got["folds"]) == (9, 9, 3)
    assert test["accuracy"]["value"] == pytest.approx(6 / 9)
    assert got["confusion_matrix"] == [[0, 3, 0], [0, 3, 0], [0, 0, 3]]
    assert [(row["label"], row["n_photos"]) for row in got["per_class"]] == [(A, 3), (B, 3), (D, 3)]
    assert (tmp_path / EVALUATION).is_file()


def test_as_given_scores_the_first_draw_and_tells_the_range(tmp_path: Path) -> None:
    got = evaluated(draws(tmp_path))
    assert got["splits"]["test"]["n_photos"] == 4
    assert got["splits"]["test"]["accuracy"]["value"] == 0.25
    accuracies = {"values": [0.25, 0.5, 0.75], "mean": 0.5, "low": 0.25, "high": 0.75, "n": 3, "seeds": [0, 1, 2]}
    assert got["over_folds"]["val_accuracy"] == got["over_folds"]["test_accuracy"] == accuracies
    assert got["folds_asked"] == 3


def rows_of(evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in evaluation["protocols"]}


def believed(evaluation: dict[str, Any]) -> list[str]:
    return [row["name"] for row in evaluation["protocols"] if row["believe"]]


def three_ways(run: Path) -> Path:
    """By photo in two folds, and the folders as they came beside them; there one of three test photos is a copy."""
    photos = [(f"{i}.jpg", 5 if i == 8 else i, LABELS[i % 3]) for i in range(12)]  # 5 and 8 are copies
    folds = {"final": [Said(path, group, "train", label, label) for path, group, label in photos]}
    for k in range(2):
        sides = ["test" if group % 2 == k else "train" for _, group, _ in photos]
        folds[f"fold-{k + 1}"] = [
            Said(path, group, side, label, A) for (path, group, label), side in zip(photos, sides, strict=True)
        ]
    given = ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    folds[ORIGINAL] = [
        Said(path, group, side, label, D if i in (8, 11) else A)
        for i, ((path, group, label), side) in enumerate(zip(photos, given, strict=True))
    ]
    return write_run(run, folds, "grouped")


def test_by_photo_stands_beside_the_folders_as_they_came(tmp_path: Path) -> None:
    got = evaluated(three_ways(tmp_path))
    rows = rows_of(got)
    assert list(rows) == ["original", "without-copies", "grouped"]
    assert believed(got) == ["grouped"]
    assert [rows[name]["n_photos"] for name in rows] == [4, 3, 12]
    assert [rows[name]["leaked"] for name in rows] == [1, 0, 0]
    assert [rows[name]["accuracy"]["value"] for name in rows] == pytest.approx([3 / 4, 2 / 3, 1 / 3])
    assert "1 of 4 test photos are copies" in rows["original"]["words"]
    assert rows["original"]["words"].startswith("Do not believe it")
    assert got["baselines"] == rows["grouped"]["baselines"]
    assert got["splits"]["test"]["n_photos"] == 12


def test_of_folders_with_copies_the_test_photos_that_are_none_are_believed(tmp_path: Path) -> None:
    got = evaluated(leaking_run(tmp_path))
    rows = rows_of(got)
    assert got["splits"]["test"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert (rows["without-copies"]["n_photos"], rows["without-copies"]["accuracy"]["value"]) == (2, 0.5)
    assert believed(got) == ["without-copies"]
    assert "baselines" not in rows["without-copies"]


def test_photos_from_elsewhere_are_believed_most(tmp_path: Path) -> None:
    run = three_ways(tmp_path)
    scores = evaluated(run)["splits"]["test"]
    found = {"name": "other", "scores": scores, "in_training": 0}
    write_json(run / EXTERNAL / "other.json", found)
    write_json(run / EXTERNAL / "cats.json", {"name": "cats", "in_training": 0})
    assert believed(evaluated(run)) == ["external:other"]
    write_json(run / EXTERNAL / "other.json", found | {"in_training": 7})
    row = rows_of(evaluated(run))["external:other"]
    assert (row["leaked"], row["accuracy"]) == (0, scores["accuracy"])
    assert "7 more are left out" in row["words"]


def test_cleaned_folders_leave_the_excluded_out(tmp_path: Path) -> None:
    """The copies and their training photos are guessed in another way than all others, and must count nowhere."""
    sides = ["train", "val", "calibration", "test"]
    rows = [
        Said(f"{side}{i}.jpg", 10 * k + i, side, LABELS[i], LABELS[i]) for k, side in enumerate(sides) for i in range(3)
    ]
    rows += [Said(f"x{i}.jpg", 30 + i, "excluded", LABELS[i], LABELS[(i + 1) % 3]) for i in range(3)]
    got = evaluated(write_run(tmp_path, {"final": rows}, "deduplicated"))
    assert list(got["splits"]) == ["train", "val", "calibration", "test"]
    assert all(scores["n_photos"] == 3 and scores["accuracy"]["value"] == 1 for scores in got["splits"].values())
    assert list(rows_of(got)) == ["deduplicated"] == believed(got)
    assert got["calibration"]["fitted_on"] == "calibration"


def test_the_scores_are_those_of_sklearn(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels, guesses = random.choice(LABELS, 60), random.choice(LABELS, 60)
    sure = random.random(60) * 3
    rows = [Said(f"t{label}.jpg", 900 + i, "train", label, label) for i, label in enumerate(LABELS)]
    rows += [Said(f"v{i}.jpg", 100 + i, "val", LABELS[i % 3], guesses[i], sure[i]) for i in range(60)]
    rows += [Said(f"s{i}.jpg", 200 + i, "test", labels[i], guesses[i], sure[i]) for i in range(60)]
    run = write_run(tmp_path, {"final": rows}, "original")
    settings, got = calibrate(Run(run))["home"], evaluated(run)
    test = got["splits"]["test"]
    logits = np.stack([sure * (guesses == label) for label in LABELS], axis=1)
    chances = softmax(logits / settings["temperature"], axis=1)
    assert test["accuracy"]["value"] == pytest.approx(sklearn.accuracy_score(labels, guesses))
    assert test["log_loss"]["value"] == pytest.approx(sklearn.log_loss(labels, chances, labels=LABELS))
    assert got["confusion_matrix"] == sklearn.confusion_matrix(labels, guesses, labels=LABELS).tolist()
    assert rows_of(got)["original"]["accuracy"] == test["accuracy"]
    shipped = got["calibration"]["sets"][got["calibration"]["shipped"]]
    fits = 1 - chances <= settings["thresholds"][0]
    likeliest = np.argsort(-chances, 1, kind="stable")
    scoped = pool(read_outputs(Run(run))[1]).novelty <= settings["novelty_threshold"]
    fits[np.arange(60), likeliest[:, 0]] = True
    alone = scoped & (chances.max(1) < settings["confidence_threshold"]) & (fits.sum(1) == 1)
    fits[alone, likeliest[alone, 1]] = True  # none that is unsure has a set of one
    covered = fits[np.arange(60), [LABELS.index(label) for label in labels]]
    assert shipped["coverage"]["value"] == pytest.approx(covered.mean())
    assert set(got["calibration"]["sets"]) == {"lac", "raps", "lac_per_class", "raps_per_class"}


def test_what_a_guess_of_an_unusable_photo_would_be_counts_for_nothing() -> None:
    labels, sure = np.array([0, 0, 1]), np.eye(2)[[0, 0, 1]]
    got = refusals(Judged(labels, np.arange(3), sure, sets=sure > 0, verdicts=np.array([3, 3, 0])))
    assert got["unusable_photo"]["value"] == pytest.approx(2 / 3)
    assert got["unusable_photo"]["accuracy"] is None
    assert got["predicted"]["accuracy"]["value"] == 1


@pytest.mark.parametrize("gone", [CALIBRATION, MEASUREMENTS, MANIFEST, FEATURES, CONFIG])
def test_files_that_lack_or_are_damaged_are_named_with_what_to_do(gone: str, tmp_path: Path) -> None:
    path = three_ways(tmp_path) / gone
    whole = path.read_bytes()
    for damage in (None, b"", b"[]", whole[: len(whole) // 2]):
        path.unlink(missing_ok=True)
        if damage is not None:
            path.write_bytes(damage)
        with pytest.raises(RunFolderError) as caught:
            evaluated(tmp_path)
        assert gone in caught.value.problem
        assert caught.value.remedy
        assert not (tmp_path / EVALUATION).exists()


def test_a_manifest_of_other_photos_is_refused(tmp_path: Path) -> None:
    head, *lines = (three_ways(tmp_path) / MANIFEST).read_text().splitlines(keepends=True)
    (tmp_path / MANIFEST).write_text("".join([head, *reversed(lines)]))
    with pytest.raises(RunFolderError, match=r"manifest\.csv is not of the photos that were trained on"):
        evaluated(tmp_path)


@pytest.mark.parametrize("make", [grouped, draws, leaking_run])
def test_evaluation_keeps_its_contract(make: Callable[[Path], Path], tmp_path: Path) -> None:
    got = evaluated(make(tmp_path))
    assert json.loads((tmp_path / EVALUATION).read_text(encoding="utf-8")) == got
    json.dumps(got, allow_nan=False)
    keys = {"protocol", "splits", "per_class", "labels", "confusion_matrix", "baselines", "recipe", "backbone", "seed"}
    assert keys <= got.keys()
    assert {"train", "test"} <= got["splits"].keys()
    for scores in got["splits"].values():
        assert {"n_photos", "n_groups", *METRICS} <= scores.keys()
        for metric in METRICS:
            assert scores[metric].keys() == {"value", "low", "high"}
            assert 0 <= scores[metric]["low"] <= scores[metric]["value"] <= scores[metric]["high"] <= 1
    assert set(got["baselines"]["majority_class"]) == {"accuracy", "group_accuracy", "balanced_accuracy"}
    assert sum(map(sum, got["confusion_matrix"])) == got["splits"]["test"]["n_photos"]
    assert sum(verdict["value"] for verdict in got["refusals"].values()) == pytest.approx(1)


# -- subgroups ---------------------------------------------------------------------------------------------------------

COUNT = 40


def tables(groups: list[int] | None = None, **columns: list[str]) -> dict[str, dict[str, Any]]:
    """40 photos of two classes; those with an odd number, past the 20th, are guessed wrong and not predicted."""
    labels = np.arange(COUNT) % 2
    wrong = (np.arange(COUNT) % 2 == 1) & (np.arange(COUNT) >= 20)
    chances = np.where(np.eye(2)[np.where(wrong, 1 - labels, labels)] == 1, 0.8, 0.2)
    own = np.array(groups or range(COUNT))
    rows = [{"path": f"{i}.jpg", **{name: values[i] for name, values in columns.items()}} for i in range(COUNT)]
    sets = np.stack([np.ones(COUNT, bool), np.arange(COUNT) < 10], axis=1)
    judged = Judged(labels, own, chances, sets=sets, verdicts=wrong.astype(np.int64))
    return {table["column"]: table for table in subgroups(rows, judged)}


def test_every_value_is_scored_on_its_own_photos() -> None:
    (old, young) = tables(age=["young"] * 20 + ["old"] * 20)["age"]["values"]
    assert (old["value"], young["value"]) == ("old", "young")
    assert (old["n_photos"], old["n_groups"], old["claim"]) == (20, 20, True)
    assert old["group_accuracy"]["value"] == 0.5
    assert young["group_accuracy"]["value"] == 1.0
    assert (old["not_predicted"]["value"], young["not_predicted"]["value"]) == (0.5, 0.0)
    assert young["ece"]["value"] == pytest.approx(0.2)
    assert young["coverage"]["value"] == pytest.approx(15 / 20)
    assert (old["mean_set_size"], young["mean_set_size"]) == (1.0, 1.5)
    groups = [0] * 15 + list(range(15, COUNT))  # of 15 copies of one photo 10 have two classes in their set
    (old, young) = tables(groups, age=["young"] * 20 + ["old"] * 20)["age"]["values"]
    assert (old["claim"], young["claim"], young["n_photos"], young["n_groups"]) == (True, False, 20, 6)
    assert young["mean_set_size"] == pytest.approx((25 / 15 + 5) / 6)


def test_names_and_measurements_and_empty_columns_are_no_subgroups() -> None:
    many, few = ([str(i % count) for i in range(COUNT)] for count in (MOST_VALUES + 1, MOST_VALUES))
    same = ["7"] * COUNT
    assert list(tables(patient=same, width=same, phash=same, remark=many, nothing=[""] * COUNT, site=few)) == ["site"]


def test_skin_tones_go_from_light_to_dark_and_are_a_proxy() -> None:
    tones = ["dark", "light", "very light", "brown", ""]
    got = tables(skin_tone_estimate=[tones[i % 5] for i in range(COUNT)], sex=["f", "m"] * 20)
    values = [value["value"] for value in got["skin_tone_estimate"]["values"]]
    assert values == ["very light", "light", "brown", "dark", UNKNOWN]
    assert (got["skin_tone_estimate"]["proxy"], got["sex"]["proxy"]) == (True, False)
