import numpy as np
import pytest
from drawn import calibrated, once, some

from spectraderm.evaluation import calibration_metrics as probability
from spectraderm.evaluation.bootstrap import resample, weights
from spectraderm.evaluation.metrics import scores
from spectraderm.evaluation.scored import Scored


def calibration_error(claims: list[float], truth: list[bool], weights: list[float]) -> float:
    """Guo et al. (2017), photo by photo: the bin with i/15 < claim <= (i + 1)/15, and 0 in the first."""
    total = 0.0
    for i in range(15):
        inside = [j for j, claim in enumerate(claims) if i / 15 < claim <= (i + 1) / 15 or (i == 0 and claim == 0)]
        mass = sum(weights[j] for j in inside)
        if mass:
            accuracy = sum(weights[j] * truth[j] for j in inside) / mass
            confidence = sum(weights[j] * claims[j] for j in inside) / mass
            total += mass / sum(weights) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("seed", range(30))
def test_calibration_errors_are_those_of_a_loop(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    for where, given in ((got, np.ones(len(one))), (got["by_group"], once(one.groups))):
        own = given.tolist()
        top = calibration_error(one.confidence.tolist(), one.right.tolist(), own)
        each = [
            calibration_error(p.tolist(), (one.labels == i).tolist(), own) for i, p in enumerate(one.probabilities.T)
        ]
        assert where["ece"]["value"] == pytest.approx(top)
        assert where["classwise_ece"]["value"] == pytest.approx(sum(each) / len(each))


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
    bins = probability.reliability(one)
    assert [i for i, row in enumerate(bins) if row["n_photos"]] == [8, 9, 14]
    assert bins[8] == {"low": 8 / 15, "high": 0.6, "n_photos": 1, "confidence": pytest.approx(0.6), "accuracy": 1.0}
    assert bins[0]["confidence"] is bins[0]["accuracy"] is None


@pytest.mark.parametrize("seed", range(10))
def test_the_reliability_diagram_is_what_the_error_sums_up(seed: int) -> None:
    one = some(seed)
    for where, given in ((scores(one), None), (scores(one)["by_group"], once(one.groups))):
        bins = [row for row in probability.reliability(one, given) if row["n_photos"]]
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
    many = calibrated(99, 200_000, tempered=tempered)
    truth = probability.measure(many)(np.ones((1, len(many))))
    hits, proven = {"ece": 0, "classwise_ece": 0}, 0
    for seed in range(60):
        one = calibrated(seed, 300, tempered=tempered)
        values = resample(probability.measure(one), weights(one.groups, seed))
        for name in hits:
            got = probability.error_interval(values[f"{name}_gaps"])
            assert got["value"] == pytest.approx(values[name][0])
            assert 0 <= (got["low"] or 0) <= (got["value"] or 0) <= (got["high"] or 0)
            hits[name] += (got["low"] or 0) <= truth[name][0] <= (got["high"] or 0)
            proven += name == "ece" and bool(got["low"])
    assert min(hits.values()) >= 0.92 * 60, hits
    assert proven < 10 if tempered == 1 else proven > 50


def test_scores_have_the_interval_that_allows_for_bias() -> None:
    got = scores(calibrated(0, 300))
    for error in (got["classwise_ece"], got["by_group"]["classwise_ece"]):
        assert error["low"] < 0.01 < error["value"] < error["high"]
