import numpy as np
import pytest
from scipy.stats import binom

from spectraderm.evaluation import chance, metrics
from spectraderm.evaluation.chance import error_by_chance
from spectraderm.evaluation.scored import Scored


def sure(confidence: float, groups: list[int]) -> Scored:
    return Scored(np.zeros(len(groups), int), np.tile((confidence, 1 - confidence), (len(groups), 1)), np.array(groups))


@pytest.mark.parametrize(("confidence", "photos"), [(0.75, 30), (0.95, 100)])
def test_of_equally_sure_photos_it_is_the_binomial_one(confidence: float, photos: int) -> None:
    hits = np.arange(photos + 1)
    likely, error = binom.pmf(hits, photos, confidence), np.abs(hits / photos - confidence)
    found = error_by_chance(sure(confidence, list(range(photos))))
    assert found["mean"] == pytest.approx((likely * error).sum(), rel=0.1)
    order = np.argsort(error)
    high = error[order][np.searchsorted(likely[order].cumsum(), 0.95)]
    assert found["high"] == pytest.approx(high, abs=1.01 / photos)


def test_copies_make_chance_no_smaller() -> None:
    for groups, copied in ((20, [i // 5 for i in range(100)]), (2, [0] * 99 + [1])):
        alone = error_by_chance(sure(0.8, list(range(groups))))
        assert error_by_chance(sure(0.8, copied)) == pytest.approx(alone)


def test_who_keeps_a_promise_is_within_chance_and_who_boasts_is_not() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(3, 0.5), 600)
    labels = np.array([random.choice(3, p=row) for row in probabilities])
    honest = Scored(labels, probabilities, np.arange(600))
    boasts = Scored(labels, probabilities**3 / (probabilities**3).sum(1, keepdims=True), np.arange(600))
    assert metrics.scores(honest)["ece"]["value"] <= error_by_chance(honest)["high"]
    assert metrics.scores(boasts)["ece"]["value"] > error_by_chance(boasts)["high"]


def test_it_is_the_same_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = sure(0.7, list(range(50)))
    whole = error_by_chance(scored)
    monkeypatch.setattr(chance, "_AT_ONCE", 150)
    assert error_by_chance(scored) == pytest.approx(whole)
