import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax as scipy_softmax

from spectraderm.core import Choice, Conformal
from spectraderm.inference.calibration import (
    RAPS_FREE_RANKS,
    RAPS_PENALTY,
    Calibration,
    Calibrations,
    References,
    nonconformity_scores,
    novelty,
    prediction_sets,
    softmax,
)
from spectraderm.inference.prediction import VERDICTS

Reals = npt.NDArray[np.float64]

SETTINGS = Calibration(2.0, 0.9, "lac", (0.5, 0.7, 0.9), 0.6, 0.95, 0.3)
ELSEWHERE = replace(SETTINGS, temperature=4.0, answered_others=0.05, places=3)
LIKELY: Reals = scipy_softmax(np.random.default_rng(0).integers(-3, 4, (200, 5)).astype(float), axis=1)
"""Probabilities, some of them equal."""


def raps_of(row: Reals) -> list[float]:
    """The score of each class by the definition of Angelopoulos et al. (2021), with u = 1."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    result = [0.0] * len(row)
    for rank, number in enumerate(order, start=1):
        result[number] = sum(row[other] for other in order[:rank]) + RAPS_PENALTY * max(0, rank - RAPS_FREE_RANKS)
    return result


@pytest.mark.parametrize("temperature", [0.05, 1.0, 3.0])
def test_softmax_is_that_of_scipy_however_large_the_logits(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 300, (50, 4)).astype(np.float32)
    want = scipy_softmax(logits.astype(np.float64) / temperature, axis=1)
    np.testing.assert_allclose(softmax(logits, temperature), want, rtol=1e-12)


@pytest.mark.parametrize("method", ["lac", "raps"])
def test_scores_and_sets_are_what_their_papers_say(method: Conformal) -> None:
    scores = 1 - LIKELY if method == "lac" else np.array([raps_of(row) for row in LIKELY])
    np.testing.assert_allclose(nonconformity_scores(LIKELY, method), scores, atol=1e-12)
    thresholds = np.array([0.2, 0.5, 0.8, 0.9, 1.1])
    likeliest = np.arange(5) == LIKELY.argmax(1)[:, None]
    sets = prediction_sets(LIKELY, thresholds, method)
    np.testing.assert_array_equal(sets, (scores <= thresholds + 1e-12) | likeliest)
    assert not sets.all()
    np.testing.assert_array_equal(prediction_sets(LIKELY, np.full(5, -1.0), method), likeliest)
    assert prediction_sets(LIKELY, np.full(5, 1e9), method).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_novelty_is_the_cosine_distance_to_the_nearest_reference(kind: type[np.floating[Any]]) -> None:
    random = np.random.default_rng(0)
    features, references = (random.normal(size=(count, 7)).astype(kind) for count in (2100, 9))  # more than a block
    nearest = cdist(features.astype(float), references.astype(float), "cosine").min(1)
    np.testing.assert_allclose(novelty(features, references), nearest, atol=1e-5)
    assert novelty(references * 3, references) == pytest.approx([0] * 9, abs=1e-5)
    assert novelty(-references[:1], references[:1]) == pytest.approx([2])
    assert novelty(features[:0], references).shape == (0,)


def test_novelty_of_one_photo_is_that_among_many_however_often_it_is_asked_for() -> None:
    random = np.random.default_rng(0)
    features, known = (random.normal(size=(count, 64)).astype(np.float32) for count in (30, 9))
    references = References(known)
    assert references.channels == 64
    for _ in range(2):
        alone = [references.novelty(one[None])[0] for one in features]
        np.testing.assert_array_equal(novelty(features, known), alone)


@pytest.mark.parametrize("count", [1, 40])
def test_novelty_tells_references_apart_that_32_bits_do_not(count: int) -> None:
    """By whole numbers, of which none is rounded."""
    random = np.random.default_rng(0)
    known = (1 + random.normal(scale=3e-4, size=(300, 512))).astype(np.float32)
    features = known[:count] + random.normal(scale=3e-4, size=(count, 512)).astype(np.float32)
    whole = [
        np.rint(one.astype(float) * 2**24 / np.linalg.norm(one.astype(float), axis=1, keepdims=True)).astype(np.int64)
        for one in (features, known)
    ]
    nearest = (whole[0] @ whole[1].T).max(axis=1)
    np.testing.assert_array_equal(novelty(features, known), np.maximum(1 - nearest / 2**48, 0))


SURE, TWO, UNSURE = [9.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("logits", "novelty", "changes", "verdict"),
    [
        (SURE, 0.0, {}, "predicted"),
        (SURE, 0.3, {}, "predicted"),  # at the threshold is not above it
        (SURE, 0.4, {}, "out_of_scope"),
        (UNSURE, 0.0, {}, "unsure"),
        (UNSURE, 0.4, {}, "out_of_scope"),
        (TWO, 0.0, {"confidence_threshold": 0.5}, "unsure"),  # class 2 may have a score of 0.9
        (TWO, 0.0, {"confidence_threshold": 0.5, "thresholds": (0.5, 0.5, 0.5)}, "predicted"),
        ([99.0, 0.0, 0.0], 0.0, {"confidence_threshold": 1.01}, "unsure"),
    ],
)
def test_verdicts(logits: list[float], novelty: float, changes: dict[str, Any], verdict: str) -> None:
    judged = replace(SETTINGS, **changes).judge(np.array([logits]), np.array([novelty]))
    assert VERDICTS[judged.verdicts[0]] == verdict
    np.testing.assert_allclose(judged.probabilities[0], scipy_softmax(np.array(logits) / 2), rtol=1e-12)


def test_settings_survive_json() -> None:
    never = replace(SETTINGS, promised_accuracy=None, confidence_threshold=1.01)
    for settings in (SETTINGS, ELSEWHERE, never):
        assert Calibration.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    for both in (Calibrations(SETTINGS), Calibrations(SETTINGS, ELSEWHERE)):
        assert Calibrations.from_dict(json.loads(json.dumps(both.to_dict()))) == both
    for odd in (
        replace(SETTINGS, promised_accuracy=None),
        replace(SETTINGS, places=-1),
        replace(ELSEWHERE, thresholds=()),
    ):
        with pytest.raises(ValueError, match=r"promise|range|different classes"):
            Calibrations.from_dict({"home": SETTINGS.to_dict(), "elsewhere": odd.to_dict()})


@pytest.mark.parametrize(
    ("choice", "in_training", "alone", "place"),
    [
        ("auto", True, False, "home"),
        ("auto", False, False, "elsewhere"),
        ("auto", False, True, "home"),
        ("home", False, False, "home"),
        ("elsewhere", True, False, "elsewhere"),
    ],
)
def test_which_settings_judge_a_photo(choice: Choice, in_training: bool, alone: bool, place: str) -> None:
    both = Calibrations(SETTINGS, None if alone else ELSEWHERE)
    settings = {"home": SETTINGS, "elsewhere": ELSEWHERE}[place]
    assert both.choose(choice, in_training=in_training) == (place, settings)


def test_what_was_never_set_elsewhere_judges_nothing() -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        Calibrations(SETTINGS).choose("elsewhere", in_training=False)


def test_an_unsure_photo_has_no_set_of_one() -> None:
    """The two likeliest; other verdicts keep their set, and a set of more stays."""
    strict = replace(SETTINGS, thresholds=(0.1, 0.1, 0.1))
    logits = np.array([[0.5, 0.0, 0.4], [9.0, 0.0, 0.0], [0.5, 0.0, 0.4]])
    judged = strict.judge(logits, np.array([0.0, 0.0, 9.0]))
    assert judged.sets.tolist() == [[True, False, True], [True, False, False], [True, False, False]]
    wide = replace(SETTINGS, thresholds=(0.9, 0.9, 0.9)).judge(logits[:1], np.zeros(1))
    assert wide.sets.tolist() == [[True, True, True]]
    assert (
        replace(SETTINGS, thresholds=(0.9,), confidence_threshold=2.0).judge(np.zeros((1, 1)), np.zeros(1)).sets.all()
    )


@pytest.mark.parametrize("lacking", SETTINGS.to_dict())
def test_no_setting_may_lack(lacking: str) -> None:
    with pytest.raises(KeyError):
        Calibration.from_dict({name: value for name, value in SETTINGS.to_dict().items() if name != lacking})
