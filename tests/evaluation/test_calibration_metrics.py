import numpy as np
import pytest
from drawn import calibrated, some
from scipy.stats import binom

from spectraderm.core import resampling
from spectraderm.evaluation import calibration_metrics
from spectraderm.evaluation.bootstrap import Booleans, Reals, Scored, group_weights, resample, weights
from spectraderm.evaluation.calibration_metrics import error_by_chance, error_interval, reliability
from spectraderm.evaluation.metrics import scores


def calibration_error(claims: Reals, truth: Reals | Booleans, weights: Reals) -> float:
    """Guo et al. (2017), photo by photo: the bin with i/15 < claim <= (i + 1)/15, and 0 in the first."""
    total = 0.0
    for i in range(15):
        inside = (i / 15 < claims) & (claims <= (i + 1) / 15) | ((i == 0) & (claims == 0))
        if weights[inside].sum():
            accuracy, confidence = (np.average(v[inside], weights=weights[inside]) for v in (truth, claims))
            total += weights[inside].sum() / weights.sum() * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("seed", range(20))
def test_calibration_errors_are_those_of_a_loop(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    for where, given in ((got, np.ones(len(one))), (got["by_group"], group_weights(one.groups))):
        each = [calibration_error(p, one.labels == i, given) for i, p in enumerate(one.probabilities.T)]
        assert where["ece"]["value"] == pytest.approx(calibration_error(one.confidence, one.right, given))
        assert where["classwise_ece"]["value"] == pytest.approx(np.mean(each))


def test_calibration_errors_are_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.functional.classification")
    for seed in range(0, 20, 2):
        one = some(seed, photos=200)
        probabilities, labels = torch.tensor(one.probabilities), torch.from_numpy(one.labels)
        top = tm.multiclass_calibration_error(probabilities, labels, one.classes, n_bins=15)
        each = [
            tm.binary_calibration_error(torch.tensor(one.probabilities[:, i]), (labels == i).int(), n_bins=15)
            for i in range(one.classes)
        ]
        got = scores(one)
        assert got["ece"]["value"] == pytest.approx(float(top), abs=1e-5)
        assert got["classwise_ece"]["value"] == pytest.approx(float(np.mean(each)), abs=1e-5)
        if len(set(one.labels.tolist())) == one.classes:
            auroc = float(tm.multiclass_auroc(probabilities, labels, one.classes))
            assert got["auroc"]["value"] == pytest.approx(auroc, abs=1e-5)


def test_a_bin_holds_its_upper_edge() -> None:
    one = Scored(np.array([0, 0, 1]), np.array([[0.6, 0.4], [0.61, 0.39], [0.0, 1.0]]), np.arange(3))
    bins = reliability(one)
    assert [i for i, row in enumerate(bins) if row["n_photos"]] == [8, 9, 14]
    assert bins[8] == {"low": 8 / 15, "high": 0.6, "n_photos": 1, "confidence": pytest.approx(0.6), "accuracy": 1.0}
    assert bins[0]["confidence"] is bins[0]["accuracy"] is None


@pytest.mark.parametrize("seed", range(10))
def test_the_reliability_diagram_is_what_the_error_sums_up(seed: int) -> None:
    one = some(seed)
    for where, given in ((scores(one), None), (scores(one)["by_group"], group_weights(one.groups))):
        bins = [row for row in reliability(one, given) if row["n_photos"]]
        own = np.ones(len(one)) if given is None else given
        mass = [own[(one.confidence > row["low"]) & (one.confidence <= row["high"])].sum() for row in bins]
        gaps = [abs(row["confidence"] - row["accuracy"]) for row in bins]
        assert np.average(gaps, weights=mass) == pytest.approx(where["ece"]["value"])
        assert sum(row["n_photos"] for row in bins) == len(one)


def test_the_surest_mistake_costs_a_finite_amount() -> None:
    one = Scored(np.array([1]), np.array([[1.0, 0.0]]), np.array([0]))
    assert scores(one)["log_loss"]["value"] == pytest.approx(36.04, abs=0.01)
    assert scores(one)["brier"]["value"] == 2


@pytest.mark.parametrize("tempered", [1.0, 2.0])
def test_intervals_hold_the_true_calibration_error(tempered: float) -> None:
    """And the lower bound of the error is rarely above 0 where there is none, and mostly where there is one."""
    many = calibrated(99, 200_000, tempered=tempered)
    truth = calibration_metrics.statistic(many)(np.ones((1, len(many))))
    held, above_zero = {"ece": 0, "classwise_ece": 0}, 0
    for seed in range(60):
        one = calibrated(seed, 300, tempered=tempered)
        values = resample(calibration_metrics.statistic(one), weights(one.groups, seed))
        for name in held:
            got = error_interval(values[f"{name}_gaps"])
            low, value, high = got["low"], got["value"], got["high"]
            assert low is not None
            assert value is not None
            assert high is not None
            assert 0 <= low < value < high
            assert value == pytest.approx(values[name][0])
            held[name] += low <= truth[name][0] <= high
            above_zero += name == "ece" and low > 0
    assert min(held.values()) >= 0.92 * 60, held
    if tempered == 1:
        assert above_zero < 10
    else:
        assert above_zero > 50


def test_scores_have_the_interval_that_allows_for_bias() -> None:
    got = scores(calibrated(0, 300))
    for error in (got["classwise_ece"], got["by_group"]["classwise_ece"]):
        assert error["low"] < 0.01 < error["value"] < error["high"]


def sure(confidence: float, groups: list[int]) -> Scored:
    return Scored(np.zeros(len(groups), int), np.tile((confidence, 1 - confidence), (len(groups), 1)), np.array(groups))


@pytest.mark.parametrize(("confidence", "photos"), [(0.75, 30), (0.95, 100)])
def test_the_error_by_chance_of_equally_sure_photos_is_the_binomial_one(confidence: float, photos: int) -> None:
    hits = np.arange(photos + 1)
    likely, error = binom.pmf(hits, photos, confidence), np.abs(hits / photos - confidence)
    by_chance = error_by_chance(sure(confidence, list(range(photos))))
    assert by_chance["mean"] == pytest.approx((likely * error).sum(), rel=0.1)
    order = np.argsort(error)
    high = error[order][np.searchsorted(likely[order].cumsum(), 0.95)]
    assert by_chance["high"] == pytest.approx(high, abs=1.01 / photos)


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
    assert scores(honest)["ece"]["value"] <= error_by_chance(honest)["high"]
    assert scores(boasts)["ece"]["value"] > error_by_chance(boasts)["high"]


def test_the_error_by_chance_is_the_same_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = sure(0.7, list(range(50)))
    whole = error_by_chance(scored)
    monkeypatch.setattr(resampling, "_AT_ONCE", 150)
    assert error_by_chance(scored) == pytest.approx(whole)
