import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist
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
def test_scores_and_sets_are_what_their_papers_say(method: SetMethod) -> None:
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
    assert Calibration.from_dict(json.loads(json.dumps(SETTINGS.to_dict()))) == SETTINGS


@pytest.mark.parametrize("lacking", SETTINGS.to_dict())
def test_no_setting_may_lack(lacking: str) -> None:
    with pytest.raises(KeyError):
        Calibration.from_dict({name: value for name, value in SETTINGS.to_dict().items() if name != lacking})
