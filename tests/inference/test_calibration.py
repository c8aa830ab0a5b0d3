import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax as scipy_softmax

from spectraderm.inference.calibration import (
    RAPS_FREE_RANKS,
    RAPS_PENALTY,
    Calibration,
    References,
    SetMethod,
    nonconformity_scores,
    novelty,
    prediction_sets,
    softmax,
)
from spectraderm.inference.prediction import VERDICTS

Reals = npt.NDArray[np.float64]

SETTINGS = Calibration(2.0, 0.9, "lac", (0.5, 0.7, 0.9), 0.6, 0.95, 0.3)


def drawn(count: int = 200, classes: int = 5, seed: int = 0) -> Reals:
    """Probabilities, some of them equal."""
    random = np.random.default_rng(seed)
    result: Reals = scipy_softmax(random.integers(-3, 4, (count, classes)).astype(float), axis=1)
    return result


def raps_of(row: Reals) -> list[float]:
    """The score of each class by the definition of Angelopoulos et al. (2021), with u = 1."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    result = [0.0] * len(row)
    for rank, number in enumerate(order, start=1):
        above = sum(row[other] for other in order[:rank])
        result[number] = above + RAPS_PENALTY * max(0, rank - RAPS_FREE_RANKS)
    return result


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_softmax_is_that_of_scipy_however_large_the_logits(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 300, (50, 4)).astype(np.float32)
    want = scipy_softmax(logits.astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(softmax(logits, temperature), want, rtol=1e-12)


def test_lac_is_one_minus_the_probability() -> None:
    np.testing.assert_allclose(nonconformity_scores(drawn(), "lac"), 1 - drawn())


def test_raps_is_what_its_paper_says() -> None:
    np.testing.assert_allclose(nonconformity_scores(drawn(), "raps"), [raps_of(row) for row in drawn()], atol=1e-12)


@pytest.mark.parametrize("method", ["lac", "raps"])
def test_sets_hold_what_is_no_stranger_than_its_classs_threshold_and_the_likeliest(method: SetMethod) -> None:
    chances, thresholds = drawn(), np.array([0.2, 0.5, 0.8, 0.9, 1.1])
    strange = 1 - chances if method == "lac" else np.array([raps_of(row) for row in chances])
    got = prediction_sets(chances, thresholds, method)
    for row, own, fits in zip(chances, strange, got, strict=True):
        want = [own[i] <= thresholds[i] + 1e-12 or i == row.argmax() for i in range(5)]
        assert fits.tolist() == want
    assert not got.all()
    assert prediction_sets(chances, np.full(5, -1.0), method).sum(1).tolist() == [1] * len(chances)
    assert prediction_sets(chances, np.full(5, 1e9), method).all()


def test_a_higher_threshold_only_adds_classes() -> None:
    before = np.zeros((200, 5), bool)
    for threshold in np.linspace(0, 1.6, 30):
        now = prediction_sets(drawn(), np.full(5, threshold), "raps")
        assert (now | before == now).all()
        before = now


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_novelty_is_the_cosine_distance_to_the_nearest_reference(kind: type[np.floating[Any]]) -> None:
    random = np.random.default_rng(0)
    features, references = (random.normal(size=(count, 7)).astype(kind) for count in (2100, 9))  # more than a block
    wide, known = features.astype(float), references.astype(float)
    cosine = wide @ known.T / np.linalg.norm(wide, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    np.testing.assert_allclose(novelty(features, references), 1 - cosine.max(1), atol=1e-5)
    assert novelty(references * 3, references) == pytest.approx([0] * 9, abs=1e-5)
    assert novelty(-references[:1], references[:1]) == pytest.approx([2])
    assert novelty(features[:0], references).shape == (0,)


def test_novelty_of_one_photo_is_that_among_many() -> None:
    random = np.random.default_rng(0)
    features, references = (random.normal(size=(count, 64)).astype(np.float32) for count in (30, 9))
    alone = [novelty(one[None], references)[0] for one in features]
    np.testing.assert_array_equal(novelty(features, references), alone)


def test_references_are_asked_once_or_often_with_the_same_answer() -> None:
    random = np.random.default_rng(3)
    features, known = (random.normal(size=(count, 40)).astype(np.float16) for count in (5, 6))
    references = References(known)
    assert references.channels == 40
    for _ in range(2):
        np.testing.assert_array_equal(references.novelty(features), novelty(features, known))
        np.testing.assert_array_equal(references.novelty(features[:1]), novelty(features[:1], known))


def judged(logits: list[list[float]], novelties: list[float], settings: Calibration = SETTINGS) -> list[str]:
    found = settings.judge(np.array(logits), np.array(novelties))
    return [VERDICTS[number] for number in found.verdicts]


def test_verdicts() -> None:
    sure, unsure = [9.0, 0.0, 0.0], [0.5, 0.0, 0.0]
    assert judged([sure, unsure, sure, unsure], [0.0, 0.0, 0.4, 0.4]) == [
        "predicted",
        "unsure",
        "out_of_scope",
        "out_of_scope",
    ]
    assert judged([sure], [0.3]) == ["predicted"]  # at the threshold is not above it


def test_a_set_of_two_is_unsure_however_probable_the_first() -> None:
    two = [2.0, 0.0, 0.0]
    assert softmax(np.array([two]), 2.0).max() < 0.6
    loose = replace(SETTINGS, confidence_threshold=0.5)
    assert judged([two], [0.0], loose) == ["unsure"]  # class 2 may be as strange as 0.9
    assert judged([two], [0.0], replace(loose, thresholds=(0.5, 0.5, 0.5))) == ["predicted"]


def test_where_nothing_is_sure_enough_nothing_is_predicted() -> None:
    assert judged([[99.0, 0.0, 0.0]], [0.0], replace(SETTINGS, confidence_threshold=1.01)) == ["unsure"]


def test_probabilities_are_those_at_the_temperature() -> None:
    logits = np.array([[1.0, 2.0, 4.0]])
    np.testing.assert_allclose(
        SETTINGS.judge(logits, np.zeros(1)).probabilities, scipy_softmax(logits / 2, axis=1), rtol=1e-12
    )


def test_settings_survive_json() -> None:
    assert Calibration.from_dict(json.loads(json.dumps(SETTINGS.to_dict()))) == SETTINGS


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"confidence_threshold": float("inf")},
        {"confidence_threshold": None},
        {"set_method": "aps"},
        {"thresholds": 0.5},
        {"thresholds": [0.5, float("nan"), 0.5]},
        {"novelty_threshold": "far"},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Calibration.from_dict({**SETTINGS.to_dict(), **change})


@pytest.mark.parametrize("lacking", SETTINGS.to_dict())
def test_no_setting_may_lack(lacking: str) -> None:
    with pytest.raises(KeyError):
        Calibration.from_dict({name: value for name, value in SETTINGS.to_dict().items() if name != lacking})
