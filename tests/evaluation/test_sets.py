import numpy as np
import pytest
from drawn import once, some
from scipy import stats

from spectraderm.evaluation.bootstrap import MIN_GROUPS, rate
from spectraderm.evaluation.sets import set_scores


@pytest.mark.parametrize("seed", range(20))
def test_sets_are_scored_as_by_mapie_and_by_hand(seed: int) -> None:
    mapie = pytest.importorskip("mapie.metrics.classification")

    one = some(seed)
    sets = one.probabilities > 0.2 + 0.3 * (seed % 3)
    got = set_scores(one.labels, sets, one.groups)
    assert got["coverage"]["value"] == pytest.approx(
        mapie.classification_coverage_score(one.labels, sets[:, :, None])[0]
    )
    assert got["mean_size"]["value"] == pytest.approx(mapie.classification_mean_width_score(sets[:, :, None])[0])
    sizes, covered = sets.sum(1), sets[np.arange(len(one)), one.labels]
    for where, weights in ((got, np.ones(len(one))), (got["by_group"], once(one.groups))):
        assert where["coverage"]["value"] == pytest.approx(np.average(covered, weights=weights))
        assert where["mean_size"]["value"] == pytest.approx(np.average(sizes, weights=weights))
        assert where["singletons"]["value"] == pytest.approx(np.average(sizes == 1, weights=weights))
        assert where["empty"]["value"] == pytest.approx(np.average(sizes == 0, weights=weights))
        for i, row in enumerate(where["per_class"]):
            own = one.labels == i
            value = np.average(covered[own], weights=weights[own]) if own.any() else None
            assert row["value"] == (None if value is None else pytest.approx(value))


def test_a_class_that_is_always_covered_is_not_certain_to_be() -> None:
    labels = np.arange(30) % 2
    got = set_scores(labels, np.ones((30, 3), dtype=bool), np.arange(30) // 2)
    low = stats.binomtest(15, 15).proportion_ci(method="exact").low
    assert got["coverage"] == got["per_class"][0] == {"value": 1, "low": pytest.approx(low), "high": 1}
    assert got["mean_size"] == {"value": 3, "low": 3, "high": 3}
    assert got["per_class"][2] == {"value": None, "low": None, "high": None}


def test_a_rate_has_the_interval_of_its_groups() -> None:
    hits, groups = np.arange(1000) < 300, np.arange(1000) // 10
    got = rate(hits, groups)
    wanted = stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert (got["value"], got["n_photos"], got["n_groups"], got["too_few"]) == (0.3, 1000, 100, False)
    assert got["low"] == pytest.approx(wanted.low, abs=0.02)
    assert got["high"] == pytest.approx(wanted.high, abs=0.02)
    assert rate(hits[: MIN_GROUPS * 10], groups[: MIN_GROUPS * 10])["too_few"] is False
    assert rate(hits[: MIN_GROUPS * 10 - 10], groups[: MIN_GROUPS * 10 - 10])["too_few"] is True


def test_a_rate_by_group_counts_every_group_once() -> None:
    hits, groups = np.array([True] * 9 + [False]), np.array([0] * 9 + [1])
    assert rate(hits, groups)["value"] == pytest.approx(0.9)
    assert rate(hits, groups, by_group=True)["value"] == pytest.approx(0.5)


def test_a_rate_of_nothing_is_not_defined() -> None:
    got = rate(np.zeros(0, dtype=bool), np.zeros(0, dtype=int))
    assert (got["value"], got["low"], got["high"], got["n_photos"], got["too_few"]) == (None, None, None, 0, True)
