import numpy as np
import pytest
from drawn import calibrated, some
from scipy.stats import binom

from spectraderm.evaluation import calibration_metrics
from spectraderm.evaluation.bootstrap import Scored, group_weights, resample, weights
from spectraderm.evaluation.calibration_metrics import error_by_chance, error_interval, reliability
from spectraderm.evaluation.metrics import scores


def test_calibration_errors_are_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    tm = pytest.importorskip("torchmetrics.functional.classification")
    for seed in range(0, 10, 2):
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


@pytest.mark.parametrize("seed", range(10))
def test_the_reliability_diagram_is_what_the_error_sums_up(seed: int) -> None:
    one = some(seed)
    bins, own = [row for row in reliability(one) if row["n_photos"]], group_weights(one.groups)
    mass = [own[(one.confidence > row["low"]) & (one.confidence <= row["high"])].sum() for row in bins]
    gaps = [abs(row["confidence"] - row["accuracy"]) for row in bins]
    assert np.average(gaps, weights=mass) == pytest.approx(scores(one)["by_group"]["ece"]["value"])
    assert sum(row["n_photos"] for row in bins) == len(one)


def test_a_bin_holds_its_upper_edge() -> None:
    one = Scored(np.array([0, 0, 1]), np.arange(3), np.array([[0.6, 0.4], [0.61, 0.39], [0.0, 1.0]]))
    bins = reliability(one)
    assert [i for i, row in enumerate(bins) if row["n_photos"]] == [8, 9, 14]
    assert bins[8] == {"low": 8 / 15, "high": 0.6, "n_photos": 1, "confidence": pytest.approx(0.6), "accuracy": 1.0}
    assert bins[0]["confidence"] is bins[0]["accuracy"] is None


def test_the_surest_mistake_costs_a_finite_amount() -> None:
    one = Scored(np.array([1]), np.array([0]), np.array([[1.0, 0.0]]))
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
            low, value, high = (error_interval(values[f"{name}_gaps"])[key] or 0 for key in ("low", "value", "high"))
            assert 0 <= low < value < high
            assert value == pytest.approx(values[name][0])
            held[name] += low <= truth[name][0] <= high
            above_zero += name == "ece" and low > 0
    assert min(held.values()) >= 0.92 * 60, held
    assert above_zero < 10 if tempered == 1 else above_zero > 50


def sure(confidence: float, groups: list[int]) -> Scored:
    return Scored(np.zeros(len(groups), int), np.array(groups), np.tile((confidence, 1 - confidence), (len(groups), 1)))


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
    honest = Scored(labels, np.arange(600), probabilities)
    boasts = Scored(labels, np.arange(600), probabilities**3 / (probabilities**3).sum(1, keepdims=True))
    assert scores(honest)["ece"]["value"] <= error_by_chance(honest)["high"]
    assert scores(boasts)["ece"]["value"] > error_by_chance(boasts)["high"]
