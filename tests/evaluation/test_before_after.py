"""Before and after on photos of one's own, by planted answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import beta

from spectraderm.evaluation import before_after
from spectraderm.evaluation.fitting import Settings
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.risk_control import NEVER_SURE

LABELS = ["a", "b", "other"]
Integers = npt.NDArray[np.int64]


def held(labels: Integers, guesses: Integers) -> Outputs:
    """Photos, each its own group, with the guesses of a model that knows `other`."""
    return Outputs(labels, np.arange(len(labels)), 4.0 * np.eye(3)[guesses], np.zeros(len(labels)), other=2)


def scored(photos: Outputs, before: Integers) -> dict[str, Any]:
    """Their scores, after guesses of a model that knew no `other`."""
    return before_after.score(photos, np.eye(2)[before], LABELS)


def test_accuracies_are_paired_and_other_is_left_out_of_them() -> None:
    labels = np.array([0] * 10 + [1] * 10 + [2] * 10)
    before = np.array([0] * 5 + [1] * 5 + [1] * 10 + [0] * 10)
    after = np.array([0] * 9 + [1] + [1] * 8 + [0] * 2 + [2] * 10)
    scores = scored(held(labels, after), before)
    assert scores["before"]["value"] == 0.75
    assert scores["after"]["value"] == pytest.approx(0.85)
    difference = scores["difference"]
    assert difference["value"] == pytest.approx(0.1)
    assert difference["low"] < difference["value"] < difference["high"]
    a, b, other = scores["per_class"]
    assert (a["gained"], a["lost"], b["gained"], b["lost"]) == (4, 0, 0, 2)
    assert (other["before"], other["after"]) == (None, 1.0)
    assert scores["worse"] == []


def test_a_class_that_loses_more_than_chance_is_named() -> None:
    labels = np.repeat([0, 1], 20)
    after = np.where(np.arange(40) < 33, labels, 0)
    scores = scored(held(labels, after), labels)
    assert scores["worse"] == ["b"]


def test_copies_count_once() -> None:
    labels, guesses = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 1])
    grouped = replace(held(labels, guesses), groups=np.array([0, 0, 0, 1]))
    assert scored(grouped, guesses)["after"]["value"] == 0.5


def test_the_highest_promise_that_can_be_proved_is_made() -> None:
    labels = np.repeat([0, 1], 50)
    for wrong, promised in ((0, 0.95), (4, 0.9), (11, 0.8), (40, None)):
        after = np.where(np.arange(100) % 50 < (wrong + 1) // 2, 1 - labels, labels)
        found, _ = before_after.calibrate_own(held(labels, after), Settings(coverage=0.6))
        assert (found.promised_accuracy, found.confidence_threshold >= NEVER_SURE) == (promised, promised is None)


def test_at_most_a_twentieth_of_the_others_is_answered_and_few_prove_little() -> None:
    labels = np.array([0] * 40 + [1] * 40 + [2] * 40)
    refused, taken = labels.copy(), np.where(labels == 2, 0, labels)
    settings, folds = Settings(coverage=0.6), np.arange(120) % 5
    said, loose = (before_after.judge_own(held(labels, after), folds, settings) for after in (refused, taken))
    assert (said["predicted"], said["predicted_right"], said["others_predicted"]) == (1.0, 1.0, 0.0)
    assert loose["predicted"] == loose["others_predicted"] == 0.0
    for count, most in ((40, binom_bound(2, 40)), (10, binom_bound(0, 10))):
        rows = np.flatnonzero((labels != 2) | (np.arange(120) < 80 + count))
        found, _ = before_after.calibrate_own(held(labels, refused).take(rows), settings)
        assert found.answered_others == pytest.approx(most + 5e-4, abs=6e-4)


def binom_bound(count: int, trials: int) -> float:
    """The share of which so few are as unlikely as one in ten (Clopper & Pearson 1934)."""
    bound: float = beta.ppf(0.9, count + 1, trials - count)
    return bound
