from dataclasses import replace

import pytest
from handmade import calibration

from spectraderm.inference.calibration import Calibration, Calibrations
from spectraderm.inference.prediction import Prediction, Verdict, columns, experience, percent, promise, reason

LIKELIEST = [("Impetigo", 0.48), ("Ringworm", 0.21), ("Shingles", 0.09), ("Chickenpox", 0.004)]
USUAL = Calibration.from_dict(calibration(8)["home"])
ELSEWHERE = Calibration.from_dict(calibration(8, elsewhere={"promised_accuracy": 0.8})["elsewhere"])


@pytest.mark.parametrize(
    ("verdict", "fitting", "changes", "said"),
    [
        ("predicted", 1, {}, "Of photos like those the model learned from, at least 95 of 100 such answers are right."),
        ("predicted", 1, {"promised_accuracy": 0.999}, "at least 99.9 of 100 such answers"),
        ("predicted", 1, {"places": 1}, "On photos from a place that it never saw in training, at least 95 of 100"),
        ("predicted", 1, {"places": 1}, "how often photos of other conditions get one was not measured."),
        ("unsure", 1, {}, "Most likely Impetigo (48 %): not sure enough to name one alone."),
        ("unsure", 2, {}, "Most likely Impetigo (48 %), then Ringworm (21 %): not sure enough to name one alone."),
        ("unsure", 4, {}, "Most likely Impetigo (48 %), then Ringworm (21 %) or Shingles (9 %): "),
        ("out_of_scope", 1, {}, "none of the 8 conditions it knows"),
    ],
)
def test_reasons(verdict: Verdict, fitting: int, changes: dict[str, float], said: str) -> None:
    text = reason(verdict, LIKELIEST[:fitting], replace(USUAL, **changes), 8)  # type: ignore[arg-type]
    assert said in text
    assert text.endswith(".")
    assert len(text) < 200


def test_both_promises_of_photos_from_elsewhere_stand_in_the_reason_and_at_every_door() -> None:
    text = (
        "On photos from 3 places that it never saw in training, at least 80 of 100 such answers were right, "
        "and at most 5 of 100 photos of other conditions got one."
    )
    assert reason("predicted", LIKELIEST[:1], ELSEWHERE, 8) == text
    assert promise(Calibrations(USUAL, ELSEWHERE)).startswith(f"{text} `spectraderm adapt MODEL MY_PHOTOS")
    never = replace(ELSEWHERE, promised_accuracy=None, confidence_threshold=1.01)
    assert "could be proved" in promise(Calibrations(USUAL, never))


def test_a_model_that_was_measured_at_home_only_says_so_and_how_to_mend_it() -> None:
    alone = reason("predicted", LIKELIEST[:1], USUAL, 8, only_home=True)
    assert alone.endswith("such answers are right (measured on its own collection only).")
    assert promise(Calibrations(USUAL)).startswith(alone.partition(" (")[0])
    assert experience({"home": {}}).startswith("Measured on its own photos only")
    assert "`spectraderm calibrate MODEL --external PHOTOS`" in promise(Calibrations(USUAL))
    never = replace(USUAL, promised_accuracy=None, confidence_threshold=1.01)
    assert "On its own collection no share of right answers could be proved" in promise(Calibrations(never))


@pytest.mark.parametrize(
    ("promised", "answered", "said"),
    [
        (None, 0.0, "So it never decides on one condition, and names the two or three likeliest."),
        (0.8, 0.062, "So it mostly names the two or three likeliest conditions, and a single one for 6 of 100 photos."),
        (0.9, 0.7, "It names a single condition for 70 of 100 photos."),
    ],
)
def test_how_often_it_was_right_elsewhere_is_told_from_its_facts(
    promised: float | None, answered: float, said: str
) -> None:
    means = {"n_sources": 3, "group_accuracy": {"value": 0.584}, "predicted": {"value": answered}}
    places = {
        "a": {"group_accuracy": {"value": 0.467}},
        "b": {"group_accuracy": {"value": 0.71}},
        "nails": {"others": {}},
    }
    own = {"promised_accuracy": promised, "expected": {"pooled": means, "by_source": places}}
    first = (
        "On photos from 3 other places that it had never seen, its first guess was right in 58 of 100, from 47 to 71 "
        "by place; at a new place expect the lower end, or less."
    )
    assert experience({"home": {}, "elsewhere": own}) == f"{first} {said}"
    assert experience({"home": {}, "elsewhere": {"promised_accuracy": 0.8}}) == ""


def test_only_what_is_certain_reads_as_certain() -> None:
    shares = (1, 0.9999, 0.9949, 0.5, 0.005, 1e-9, 0)
    assert [*map(percent, shares)] == ["100 %", "over 99 %", "99 %", "50 %", "0 %", "under 1 %", "0 %"]


def test_columns_are_the_fields_with_one_per_class() -> None:
    shares = {"b": 0.75, "a": 0.25}
    own = {"coverage": 0.9, "calibrated_on": "home", "model_id": "m", "label": "b"}
    row = Prediction(verdict="unsure", reason="x", probabilities=shares, **own).to_row()  # type: ignore[arg-type]
    names = list(columns(["a", "b"]))
    assert set(row) == set(names)
    assert names[:2] == ["verdict", "reason"]
    assert names[-4:] == ["probability:a", "probability:b", "heatmap", "model_id"]
    assert (row["probability:a"], row["label"]) == (0.25, "b")
    assert columns(["a"])["prediction_set"] == list[str]
