from typing import Any

import numpy as np
import pytest
from drawn import calibrated, in_groups, some
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from spectraderm.core.errors import SpectraDermError
from spectraderm.evaluation.bootstrap import Reals, Scored
from spectraderm.evaluation.compare import COMPARED, compare_photos, detection
from spectraderm.evaluation.metrics import LOWER_IS_BETTER, scores


def worse(one: Scored, share: float, seed: int) -> Scored:
    """The same photos, a share of the photo groups answered at random."""
    draw = np.random.default_rng(seed)
    spoilt = np.isin(one.groups, np.flatnonzero(draw.random(int(one.groups.max()) + 1) < share))
    strange = draw.dirichlet(np.ones(one.classes), len(one))
    return Scored(one.labels, one.groups, np.where(spoilt[:, None], strange, one.probabilities))


def test_the_better_model_is_found_either_way_round() -> None:
    good = calibrated(0, 600)
    bad = worse(good, 0.6, 1)
    forth, back = compare_photos(good, bad), compare_photos(bad, good)
    for name in (*COMPARED, "group_accuracy"):
        one, other = forth[name], back[name]
        assert (one["a"], one["b"]) == (scores(good)[name]["value"], scores(bad)[name]["value"])
        assert (one["better"], other["better"]) == ("a", "b"), name
        assert one["difference"] == pytest.approx(one["a"] - one["b"]) == pytest.approx(-other["difference"])
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
        assert (one["low"] < 0) == (name in LOWER_IS_BETTER)


def test_a_model_is_not_better_than_itself() -> None:
    one = some(3)
    got = compare_photos(one, one)
    assert all(got[name]["better"] == "neither" for name in COMPARED)
    assert got["accuracy"] == got["accuracy"] | {"difference": 0, "low": 0, "high": 0}
    assert got["right"]["p_value"] == 1


def test_equally_good_models_are_told_apart_one_time_in_twenty() -> None:
    told = 0
    for seed in range(40):
        photos = in_groups(seed, 40, (1, 3), 0.5)
        a, b = worse(photos, 0.4, 1000 + seed), worse(photos, 0.4, 2000 + seed)
        told += compare_photos(a, b)["accuracy"]["better"] != "neither"
    assert told <= 6


@pytest.mark.parametrize("seed", range(10))
def test_counts_and_mcnemar_of_lone_photos(seed: int) -> None:
    a, b = calibrated(seed, 80), worse(calibrated(seed, 80), 0.5, seed)
    got = compare_photos(a, b)["right"]
    table = [[sum((a.right == x) & (b.right == y)) for y in (True, False)] for x in (True, False)]
    assert [[got["both"], got["only_a"]], [got["only_b"], got["neither"]]] == table
    assert (got["groups_for_a"], got["groups_for_b"]) == (got["only_a"], got["only_b"])
    fewer, apart = min(got["only_a"], got["only_b"]), got["only_a"] + got["only_b"]
    assert got["p_value"] == pytest.approx(min(1, 2 * stats.binom.cdf(fewer, apart, 0.5)))


@pytest.mark.parametrize(("count", "better"), [(9, "neither"), (10, "a")])
def test_ten_copies_are_one_witness(count: int, better: str) -> None:
    labels, groups = np.zeros(10 * count, dtype=int), np.arange(10 * count) // 10
    a, b = (Scored(labels, groups, np.eye(2)[labels + wrong]) for wrong in (0, 1))
    got = compare_photos(a, b)
    assert (got["right"]["only_a"], got["right"]["groups_for_a"]) == (10 * count, count)
    assert got["right"]["p_value"] == pytest.approx(2 * 0.5**count)
    assert (got["accuracy"]["low"], got["accuracy"]["better"]) == (1, better)


def test_other_photos_are_refused() -> None:
    one = some(2)
    with pytest.raises(SpectraDermError, match="different photos"):
        compare_photos(one, one.take(np.arange(len(one))[::-1]))


def alone(known: Reals, unknown: Reals) -> dict[str, Any]:
    """`detection` with every photo a group of its own."""
    return detection(known, unknown, np.arange(len(known)), np.arange(len(unknown)))


@pytest.mark.parametrize("seed", range(20))
def test_detection_is_that_of_scikit_learn(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known, unknown = draw.normal(0, 1, 40 + seed), draw.normal(1, 2, 30)
    if seed % 2:
        known, unknown = known.round(), unknown.round()
    got = alone(known, unknown)
    strange = np.repeat([0, 1], [len(known), len(unknown)])
    values = np.concatenate([known, unknown])
    assert got["auroc"]["value"] == pytest.approx(roc_auc_score(strange, values))
    passed, known, _ = roc_curve(1 - strange, -values, drop_intermediate=False)
    assert got["fpr_at_95"]["value"] == pytest.approx(passed[np.argmax(known >= 0.95 - 1e-12)])


def test_both_sides_of_a_detection_are_resampled_by_group() -> None:
    draw = np.random.default_rng(2)
    known, unknown = draw.normal(0, 1, 60), draw.normal(1, 1, 40)
    drawn = ((draw.choice(known, 60), draw.choice(unknown, 40)) for _ in range(300))
    values = np.array([roc_auc_score(np.arange(100) >= 60, np.concatenate(pair)) for pair in drawn])
    got = alone(known, unknown)["auroc"]
    assert [got["low"], got["high"]] == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.7 * values.std())
    copies, new = (np.repeat(np.arange(len(side)), 5) for side in (known, unknown))
    assert detection(known[copies], unknown[new], copies, new)["auroc"] == pytest.approx(got)
    narrow = alone(known[copies], unknown[new])["auroc"]
    assert narrow["high"] - narrow["low"] < 0.6 * (got["high"] - got["low"])


def test_nothing_from_unknown_is_no_detection() -> None:
    assert alone(np.arange(5.0), np.zeros(0))["auroc"] == {"value": None, "low": None, "high": None}
