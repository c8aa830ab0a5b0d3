from dataclasses import replace

import pytest
from handmade import calibration

from spectraderm.inference.calibration import Calibration
from spectraderm.inference.prediction import Prediction, Verdict, columns, percent, reason

NAMES = ("Impetigo", "Ringworm", "Shingles", "Chickenpox", "Cellulitis", "Nail fungus")
USUAL = Calibration.from_dict(calibration(8, confidence_threshold=0.92))


@pytest.mark.parametrize(
    ("verdict", "fitting", "changes", "said"),
    [
        ("predicted", 1, {}, "Of photos like those the model learned from, at least 95 of 100 such answers are right."),
        ("predicted", 1, {"promised_accuracy": 0.999}, "at least 99.9 of 100 such answers"),
        ("unsure", 2, {}, "It could be Impetigo or Ringworm: the model can't tell which."),
        ("unsure", 4, {}, "It could be Impetigo, Ringworm, Shingles or Chickenpox: "),
        ("unsure", 6, {}, "It could be Impetigo, Ringworm, Shingles or 3 others: "),
        ("unsure", 1, {}, "Impetigo fits best, but 70.0 % is below the 92.0 % from which 95 of 100"),
        ("unsure", 1, {"confidence_threshold": 1.01}, "No probability was ever high enough for 95 of 100 such answers"),
        ("unsure", 2, {"confidence_threshold": 1.01}, "It could be Impetigo or Ringworm: "),
        ("out_of_scope", 1, {}, "none of the 8 conditions it knows"),
    ],
)
def test_reasons(verdict: Verdict, fitting: int, changes: dict[str, float], said: str) -> None:
    text = reason(verdict, NAMES[:fitting], 0.7, replace(USUAL, **changes), 8)  # type: ignore[arg-type]
    assert said in text
    assert text.endswith(".")
    assert len(text) < 160


def test_a_set_of_all_classes_is_not_spelled_out() -> None:
    assert "any of the 6 conditions it knows" in reason("unsure", NAMES, 0.7, USUAL, 6)
    assert "Impetigo or Ringworm" in reason("unsure", NAMES[:2], 0.7, USUAL, 2)


@pytest.mark.parametrize("probability", [0.9199999, 0.91996, 0.9191, 0.5])
def test_what_is_below_never_looks_equal(probability: float) -> None:
    words = reason("unsure", NAMES[:1], probability, USUAL, 8).split()
    below, needed = (float(word) for word in words if word[0].isdigit() and "." in word)
    assert below <= 100 * probability < needed


def test_only_what_is_certain_reads_as_certain() -> None:
    shares = (1, 0.9999, 0.9949, 0.5, 0.005, 1e-9, 0)
    assert [*map(percent, shares)] == ["100 %", "over 99 %", "99 %", "50 %", "0 %", "under 1 %", "0 %"]


def test_columns_are_the_fields_with_one_per_class() -> None:
    shares = {"b": 0.75, "a": 0.25}
    row = Prediction(verdict="unsure", reason="x", coverage=0.9, model_id="m", label="b", probabilities=shares).to_row()
    names = list(columns(["a", "b"]))
    assert set(row) == set(names)
    assert names[:2] == ["verdict", "reason"]
    assert names[-4:] == ["probability:a", "probability:b", "heatmap", "model_id"]
    assert (row["probability:a"], row["label"]) == (0.25, "b")
    assert columns(["a"])["prediction_set"] == list[str]
