import pytest

from spectraderm.inference.prediction import Prediction, Verdict, columns, percent, reason

NAMES = ("Impetigo", "Ringworm", "Shingles", "Chickenpox", "Cellulitis", "Nail fungus")


def why(
    verdict: Verdict,
    fitting: int = 1,
    probability: float = 0.7,
    classes: int = 8,
    promised: float = 0.95,
    sure: float = 0.92,
) -> str:
    return reason(verdict, NAMES[:fitting], probability, classes, promised, sure)


@pytest.mark.parametrize(
    ("verdict", "fitting", "changes", "said"),
    [
        ("predicted", 1, {}, "Of photos like those the model learned from, at least 95 of 100 such answers are right."),
        ("predicted", 1, {"promised": 0.999}, "at least 99.9 of 100 such answers"),
        ("unsure", 2, {}, "It could be Impetigo or Ringworm: the model can't tell which."),
        ("unsure", 3, {}, "It could be Impetigo, Ringworm or Shingles: "),
        ("unsure", 4, {}, "It could be Impetigo, Ringworm, Shingles or Chickenpox: "),
        ("unsure", 6, {}, "It could be Impetigo, Ringworm, Shingles or 3 others: "),
        ("unsure", 1, {}, "Impetigo fits best, but 70.0 % is below the 92.0 % from which 95 of 100"),
        ("unsure", 1, {"sure": 1.01}, "No probability was ever high enough for 95 of 100 such answers to be right"),
        ("unsure", 2, {"sure": 1.01}, "It could be Impetigo or Ringworm: "),
        ("out_of_scope", 1, {}, "none of the 8 conditions it knows"),
    ],
)
def test_reasons(verdict: Verdict, fitting: int, changes: dict[str, float], said: str) -> None:
    text = why(verdict, fitting, 0.7, 8, **changes)
    assert said in text
    assert text.endswith(".")
    assert len(text) < 160


def test_a_set_of_all_classes_is_not_spelled_out() -> None:
    assert "any of the 6 conditions it knows" in why("unsure", 6, classes=6)
    assert "Impetigo or Ringworm" in why("unsure", 2, classes=2)


@pytest.mark.parametrize("probability", [0.9199999, 0.91996, 0.9191, 0.5])
def test_what_is_below_never_looks_equal(probability: float) -> None:
    below, needed = (float(word) for word in why("unsure", 1, probability).split() if word[0].isdigit() and "." in word)
    assert below <= 100 * probability < needed


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (1, "100 %"),
        (0.9999, "over 99 %"),
        (0.9949, "99 %"),
        (0.5, "50 %"),
        (0.005, "0 %"),
        (1e-9, "under 1 %"),
        (0, "0 %"),
    ],
)
def test_only_what_is_certain_reads_as_certain(share: float, said: str) -> None:
    assert percent(share) == said


def test_columns_are_the_fields_with_one_per_class() -> None:
    photo = Prediction(
        verdict="unsure", reason="x", coverage=0.9, model_id="m", label="b", probabilities={"b": 0.75, "a": 0.25}
    )
    names = list(columns(["a", "b"]))
    assert set(photo.to_row()) == set(names)
    assert names[:2] == ["verdict", "reason"]
    assert names[-4:] == ["probability:a", "probability:b", "heatmap", "model_id"]
    assert (photo.to_row()["probability:a"], photo.to_row()["label"]) == (0.25, "b")
    assert columns(["a"])["prediction_set"] == list[str]
