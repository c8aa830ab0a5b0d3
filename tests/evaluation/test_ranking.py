from itertools import permutations

import numpy as np
import pytest
from drawn import once, some

from spectraderm.evaluation import ranking
from spectraderm.evaluation.metrics import scores
from spectraderm.evaluation.scored import Reals, Scored


def aurc(one: Scored, weights: Reals) -> float:
    """The mean over photos of the share of errors among those at least as sure (Geifman & El-Yaniv 2017)."""
    total = 0.0
    for sure, own in zip(one.confidence, weights, strict=True):
        kept = one.confidence >= sure
        total += own * (weights * ~one.right)[kept].sum() / weights[kept].sum()
    return total / float(weights.sum())


def accuracy_at(right: list[bool], weights: list[float], coverage: float) -> float:
    """Accuracy over the first photos up to that weight, of the last one a part."""
    left = target = coverage * sum(weights)
    hit = 0.0
    for good, weight in zip(right, weights, strict=True):
        part = min(weight, left)
        hit, left = hit + good * part, left - part
    return hit / target


@pytest.mark.parametrize("seed", range(40))
def test_the_risk_coverage_area_is_that_of_a_loop(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    assert got["aurc"]["value"] == pytest.approx(aurc(one, np.ones(len(one))))
    assert got["by_group"]["aurc"]["value"] == pytest.approx(aurc(one, once(one.groups)))
    assert got["accuracy_at_100"] == pytest.approx(got["accuracy"])
    assert got["by_group"]["accuracy_at_100"] == pytest.approx(got["group_accuracy"])


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_accuracy_at_a_coverage_is_that_of_the_surest(seed: int) -> None:
    one = some(seed)
    order = np.argsort(-one.confidence)
    for where, weights in ((scores(one), np.ones(len(one))), (scores(one)["by_group"], once(one.groups))):
        for percent in (80, 90):
            wanted = accuracy_at(one.right[order].tolist(), weights[order].tolist(), percent / 100)
            assert where[f"accuracy_at_{percent}"]["value"] == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(1, 21, 2))
def test_ties_at_the_end_of_a_coverage_count_as_in_expectation(seed: int) -> None:
    one = some(seed, photos=6)
    orders = [list(p) for p in permutations(range(6)) if (np.diff(one.confidence[list(p)]) <= 0).all()]
    for percent in (80, 90):
        every = [accuracy_at(one.right[order].tolist(), [1.0] * 6, percent / 100) for order in orders]
        assert scores(one)[f"accuracy_at_{percent}"]["value"] == pytest.approx(np.mean(every))


def test_equal_confidence_everywhere_selects_nothing() -> None:
    one = Scored(np.array([0, 0, 1, 1, 1]), np.tile([0.6, 0.4], (5, 1)), np.arange(5))
    got = scores(one)
    assert got["aurc"]["value"] == pytest.approx(0.6)
    assert got["accuracy_at_80"]["value"] == pytest.approx(0.4)
    assert got["auroc"]["value"] == 0.5


@pytest.mark.parametrize("seed", range(30))
def test_the_curve_tells_what_its_thresholds_do(seed: int) -> None:
    one = some(seed, photos=[0, 500][seed % 3 == 0])
    for weights in (np.ones(len(one)), once(one.groups)):
        curve = ranking.risk_coverage(one, weights)
        assert curve[-1]["coverage"] == 1
        assert curve[0]["threshold"] == one.confidence.max()
        assert len(curve) == min(100, len(set(one.confidence.tolist())))
        for point in curve:
            kept = one.confidence >= point["threshold"]
            assert point["coverage"] == pytest.approx(weights[kept].sum() / weights.sum())
            assert point["risk"] == pytest.approx((weights * ~one.right)[kept].sum() / weights[kept].sum(), abs=1e-12)
    assert ranking.risk_coverage(one.take(np.arange(0))) == []
