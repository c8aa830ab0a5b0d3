import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import LABELS, Said, leaking_run, write_fold, write_run

from spectraderm import artifacts
from spectraderm.errors import RunFolderError
from spectraderm.evaluation.evaluate import evaluate

A, B, D = LABELS
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "group_accuracy")


def by_photo(run: Path, final_guess: str = A, guess: str = B) -> Path:
    """Nine photos, three folds; fold k tests the photos that leave k by 3, and guesses `guess` for all but `d`."""
    photos = [
        (f"{label}/{number}.jpg", 10 * i + number, label) for i, label in enumerate(LABELS) for number in range(3)
    ]
    folds = {"final": [Said(path, group, "train", label, final_guess) for path, group, label in photos]}
    for k in range(3):
        folds[f"fold-{k + 1}"] = [
            Said(path, group, "test" if group % 10 == k else "train", label, D if label == D else guess)
            for path, group, label in photos
        ]
    return write_run(run, folds, "by-photo")


def draws(run: Path) -> Path:
    """As given, drawn three times: each guesses one photo more right, in validation and in test."""
    folds = {}
    for k, name in enumerate(("final", "draw-2", "draw-3")):
        rows = [Said("t.jpg", 0, "train", A, A), Said("u.jpg", 9, "train", B, B), Said("w.jpg", 8, "train", D, D)]
        for i in range(4):
            guess = A if i <= k else B
            rows += [Said(f"v{i}.jpg", 10 + i, "val", A, guess), Said(f"s{i}.jpg", 20 + i, "test", A, guess)]
        folds[name] = rows
    return write_run(run, folds, "as-given")


def strict(path: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return content


def test_folds_by_photo_test_every_photo_once(tmp_path: Path) -> None:
    got = evaluate(by_photo(tmp_path))
    test = got["splits"]["test"]
    assert (test["n_photos"], test["n_groups"], got["folds"]) == (9, 9, 3)
    assert test["accuracy"]["value"] == pytest.approx(6 / 9)
    assert got["confusion_matrix"] == [[0, 3, 0], [0, 3, 0], [0, 0, 3]]
    assert [(row["label"], row["n_photos"]) for row in got["per_class"]] == [(A, 3), (B, 3), (D, 3)]
    assert (tmp_path / artifacts.EVALUATION).is_file()


def test_the_final_model_by_photo_is_never_scored(tmp_path: Path) -> None:
    good, bad = (evaluate(by_photo(tmp_path / guess, final_guess=guess)) for guess in (A, D))
    assert good == bad
    assert good["splits"]["train"]["n_photos"] == 18  # of the folds; the final one has 9 more


def test_as_given_scores_the_first_draw_and_tells_the_range(tmp_path: Path) -> None:
    got = evaluate(draws(tmp_path))
    assert got["splits"]["test"]["n_photos"] == 4
    assert got["splits"]["test"]["accuracy"]["value"] == 0.25
    for split in ("val", "test"):
        over = got["over_folds"][f"{split}_accuracy"]
        assert over == {
            "mean": pytest.approx(0.5),
            "low": 0.25,
            "high": 0.75,
            "n": 3,
            "values": [0.25, 0.5, 0.75],
            "seeds": [0, 1, 2],
        }
    assert got["folds_asked"] == 3


def test_over_folds_by_photo_leaves_the_final_model_out(tmp_path: Path) -> None:
    over = evaluate(by_photo(tmp_path))["over_folds"]["test_accuracy"]
    assert (over["n"], over["seeds"]) == (3, [1, 2, 3])
    assert over["values"] == pytest.approx([2 / 3] * 3)


def test_copies_of_training_and_validation_photos_are_left_out_of_test_without_copies(tmp_path: Path) -> None:
    got = evaluate(leaking_run(tmp_path))["splits"]
    assert got["test"]["n_photos"] == 3
    assert got["test"]["accuracy"]["value"] == pytest.approx(1 / 3)
    assert got["test_without_copies"]["n_photos"] == 2
    assert got["test_without_copies"]["accuracy"]["value"] == 0.5


def test_without_leaks_there_is_no_second_test(tmp_path: Path) -> None:
    assert "test_without_copies" not in evaluate(draws(tmp_path))["splits"]
    assert "test_without_copies" not in evaluate(by_photo(tmp_path / "by-photo"))["splits"]


@pytest.mark.parametrize("make", [by_photo, draws, leaking_run])
def test_evaluation_keeps_its_contract(make: Callable[[Path], Path], tmp_path: Path) -> None:
    returned = evaluate(make(tmp_path))
    got = strict(tmp_path / artifacts.EVALUATION)
    assert got == returned
    needed = {
        "protocol",
        "splits",
        "per_class",
        "labels",
        "confusion_matrix",
        "baselines",
        "recipe",
        "backbone",
        "seed",
    }
    assert needed <= got.keys()
    assert got["labels"] == list(LABELS)
    assert {"train", "test"} <= got["splits"].keys()
    for scores in got["splits"].values():
        assert {"n_photos", "n_groups", *METRICS} <= scores.keys()
        for metric in METRICS:
            assert scores[metric].keys() == {"value", "low", "high"}
            assert 0 <= scores[metric]["low"] <= scores[metric]["value"] <= scores[metric]["high"] <= 1
    assert set(got["baselines"]["majority_class"]) == {"accuracy", "balanced_accuracy"}
    assert sum(map(sum, got["confusion_matrix"])) == got["splits"]["test"]["n_photos"]


def test_a_class_that_is_never_guessed_or_tested_is_null_not_nan(tmp_path: Path) -> None:
    evaluate(draws(tmp_path))
    rows = {row["label"]: row for row in strict(tmp_path / artifacts.EVALUATION)["per_class"]}
    assert rows[D] == {"label": D, "n_photos": 0, "n_groups": 0, "precision": None, "recall": None, "f1": None}


def test_evaluating_again_gives_the_same_bytes(tmp_path: Path) -> None:
    evaluate(leaking_run(tmp_path))
    first = (tmp_path / artifacts.EVALUATION).read_bytes()
    evaluate(tmp_path)
    assert (tmp_path / artifacts.EVALUATION).read_bytes() == first


@pytest.mark.parametrize("gone", ["folds/fold-2/logits.csv", "folds/final/logits.csv", artifacts.CONFIG])
def test_a_half_trained_run_says_what_to_do(gone: str, tmp_path: Path) -> None:
    (by_photo(tmp_path) / gone).unlink()
    with pytest.raises(RunFolderError) as caught:
        evaluate(tmp_path)
    assert gone in caught.value.problem
    assert "spectraderm train RUN" in caught.value.remedy
    assert not (tmp_path / artifacts.EVALUATION).exists()


@pytest.mark.parametrize(
    "row",
    [
        Said("x.jpg", 1, "test", "unknown class", A),
        Said("x.jpg", "one", "test", A, A),  # type: ignore[arg-type]
        Said("x.jpg", 1, "test", A, A, float("nan")),
        Said("x.jpg", 1, "test", A, A, float("inf")),
    ],
)
def test_damaged_logits_are_an_error_that_names_them(row: Said, tmp_path: Path) -> None:
    write_fold(artifacts.fold_folder(leaking_run(tmp_path), "final"), [row])
    with pytest.raises(RunFolderError, match=r"logits\.csv"):
        evaluate(tmp_path)


@pytest.mark.parametrize("keep", [0, 1])
def test_logits_without_rows_or_cut_short_are_an_error(keep: int, tmp_path: Path) -> None:
    path = artifacts.fold_folder(leaking_run(tmp_path), "final") / artifacts.LOGITS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: 1 + 2 * keep])[: None if keep == 0 else -5])
    with pytest.raises(RunFolderError, match=r"logits\.csv"):
        evaluate(tmp_path)
