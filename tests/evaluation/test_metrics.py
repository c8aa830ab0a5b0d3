from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from drawn import calibrated, some
from scipy import stats
from sklearn import metrics as sk

from spectraderm.evaluation import bootstrap, metrics
from spectraderm.evaluation.bootstrap import Reals, Scored, group_weights
from spectraderm.evaluation.curves import roc
from spectraderm.evaluation.metrics import METRICS, per_class, risk_coverage, scores, set_scores

NOTHING = {"value": None, "low": None, "high": None}


def expected(one: Scored, weights: Reals) -> dict[str, float | None]:
    """Those metrics that scikit-learn has, under weights."""
    given, all_of = {"sample_weight": weights}, {"sample_weight": weights, "labels": range(one.classes)}
    there = [i for i in range(one.classes) if 0 < (one.labels == i).sum() < len(one)]
    aurocs = [sk.roc_auc_score(one.labels == i, one.probabilities[:, i], **given) for i in there]
    return {
        "accuracy": sk.accuracy_score(one.labels, one.guesses, **given),
        "balanced_accuracy": sk.balanced_accuracy_score(one.labels, one.guesses, **given),
        "macro_f1": sk.f1_score(one.labels, one.guesses, average="macro", **given),
        "auroc": float(np.mean(aurocs)) if aurocs else None,
        "brier": sk.brier_score_loss(one.labels, one.probabilities, scale_by_half=False, **all_of),
        "log_loss": sk.log_loss(one.labels, one.probabilities, **all_of),
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@pytest.mark.parametrize("seed", range(30))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    for name, value in expected(one, np.ones(len(one))).items():
        assert got[name]["value"] == (None if value is None else pytest.approx(value)), name
    for name, value in expected(one, group_weights(one.groups)).items():
        assert got["by_group"][name]["value"] == (None if value is None else pytest.approx(value)), name
    assert got["group_accuracy"] == got["by_group"]["accuracy"]
    assert (got["n_photos"], got["n_groups"]) == (len(one), len(set(one.groups.tolist())))


@pytest.mark.parametrize("seed", range(12))
def test_classes_and_confusion_are_those_of_scikit_learn(seed: int) -> None:
    one = some(seed)
    assert metrics.confusion(one) == sk.confusion_matrix(one.labels, one.guesses, labels=range(one.classes)).tolist()
    for i, row in enumerate(per_class(one, [f"c{i}" for i in range(one.classes)])):
        true, guessed = one.labels == i, one.guesses == i
        wanted = {
            "sensitivity": sk.recall_score(true, guessed, zero_division=np.nan),
            "specificity": sk.recall_score(~true, ~guessed, zero_division=np.nan),
            "ppv": sk.precision_score(true, guessed, zero_division=np.nan),
            "npv": sk.precision_score(~true, ~guessed, zero_division=np.nan),
            "f1": sk.f1_score(true, guessed, zero_division=np.nan),
            "auroc": sk.roc_auc_score(true, one.probabilities[:, i]) if 0 < true.sum() < len(one) else np.nan,
        }
        counts = (f"c{i}", true.sum(), len(set(one.groups[true])))
        assert (row["label"], row["n_photos"], row["n_groups"]) == counts
        for name, value in wanted.items():
            assert row[name] == NOTHING if np.isnan(value) else row[name]["value"] == pytest.approx(value), name


@pytest.mark.parametrize("seed", range(4))
def test_folds_are_never_ranked_against_each_other(seed: int) -> None:
    """One temperature a fold changes no ranking inside it, so that it must not change the AUROC either."""
    parts = [calibrated(seed + 10 * fold, photos=30, classes=3) for fold in range(3)]
    folds, total = np.repeat(range(3), 30), {"own": 0.0, "pairs": 0}
    labels, groups = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "groups"))
    tempered = [part.probabilities[:, :1] ** (fold + 1) for fold, part in enumerate(parts)]
    first = np.concatenate(tempered)
    one = Scored(labels, groups + 1000 * folds, np.hstack([first, (1 - first) / 2, (1 - first) / 2]), folds=folds)
    for part in parts:
        true = part.labels == 0
        if 0 < true.sum() < 30:
            total["own"] += true.sum() * (~true).sum() * sk.roc_auc_score(true, part.probabilities[:, 0])
            total["pairs"] += true.sum() * (~true).sum()
    got = per_class(one, ["a", "b", "c"])[0]["auroc"]
    assert got["value"] == pytest.approx(total["own"] / total["pairs"])
    assert got["low"] < got["value"] < got["high"]
    fpr, tpr = roc(one)[0]
    assert np.trapezoid(tpr, fpr) == pytest.approx(got["value"])


def test_what_each_fold_ranks_perfectly_is_perfect_whatever_their_temperatures() -> None:
    labels, folds = np.tile([0, 0, 1, 1], 2), np.repeat([0, 1], 4)
    first = np.array([0.99, 0.98, 0.6, 0.55, 0.54, 0.53, 0.1, 0.05])  # the first fold is far surer of itself
    one = Scored(labels, np.arange(8), np.stack([first, 1 - first], axis=1), folds=folds)
    pooled = scores(replace(one, folds=None))["auroc"]["value"]
    assert pooled == pytest.approx(sk.roc_auc_score(labels == 0, first)) == pytest.approx(0.75)
    assert scores(one)["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert scores(one.take(folds == 1))["auroc"]["value"] == 1.0


@pytest.mark.parametrize("labels", [[0, 0, 0], []])
def test_what_is_not_defined_is_none(labels: list[int]) -> None:
    one = Scored(np.array(labels, dtype=int), np.arange(len(labels)), np.tile([0.6, 0.3, 0.1], (len(labels), 1)))
    got, classes = scores(one), per_class(one, ["a", "b", "c"])
    assert got["auroc"] == got["by_group"]["auroc"] == classes[1]["sensitivity"] == classes[2]["ppv"] == NOTHING
    assert all((got[name] == NOTHING) == (not labels) for name in METRICS if name != "auroc")


def test_all_right_is_not_certain() -> None:
    one = Scored(np.arange(40) % 2, np.arange(40) // 2, np.eye(2)[np.arange(40) % 2])
    wanted = stats.binomtest(20, 20).proportion_ci(method="exact").low
    sets = set_scores(one.labels, np.ones((40, 2), dtype=bool), one.groups)
    shares = [scores(one)["accuracy"], scores(one)["accuracy_at_100"], per_class(one, ["a", "b"])[0]["sensitivity"]]
    for share in (*shares, sets["coverage"], sets["per_class"][0]):
        assert share == {"value": 1, "low": pytest.approx(wanted), "high": 1}
    assert sets["mean_size"] == {"value": 2, "low": 2, "high": 2}
    assert bootstrap.rate(~one.right, one.groups)["high"] == pytest.approx(1 - wanted)


# -- prediction sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_sets_are_scored_as_by_mapie_and_by_hand(seed: int) -> None:
    mapie = pytest.importorskip("mapie.metrics.classification")

    one = some(seed)
    sets = one.probabilities > 0.2 + 0.3 * (seed % 3)
    got = set_scores(one.labels, sets, one.groups)
    by_mapie = mapie.classification_coverage_score(one.labels, sets[:, :, None])[0]
    assert got["coverage"]["value"] == pytest.approx(by_mapie)
    assert got["mean_size"]["value"] == pytest.approx(mapie.classification_mean_width_score(sets[:, :, None])[0])
    sizes, covered = sets.sum(1), sets[np.arange(len(one)), one.labels]
    wanted = {"coverage": covered, "mean_size": sizes, "singletons": sizes == 1, "empty": sizes == 0}
    for where, weights in ((got, np.ones(len(one))), (got["by_group"], group_weights(one.groups))):
        for name, values in wanted.items():
            assert where[name]["value"] == pytest.approx(np.average(values, weights=weights))
        for i, row in enumerate(where["per_class"]):
            own = one.labels == i
            value = np.average(covered[own], weights=weights[own]) if own.any() else None
            assert row["value"] == (None if value is None else pytest.approx(value))


# -- ranking -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("seed", range(20))
def test_the_risk_coverage_area_is_that_of_a_loop(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    assert got["aurc"]["value"] == pytest.approx(aurc(one, np.ones(len(one))))
    assert got["by_group"]["aurc"]["value"] == pytest.approx(aurc(one, group_weights(one.groups)))
    assert got["accuracy_at_100"] == pytest.approx(got["accuracy"])
    assert got["by_group"]["accuracy_at_100"] == pytest.approx(got["group_accuracy"])


@pytest.mark.parametrize("seed", range(1, 21, 2))
def test_ties_at_the_end_of_a_coverage_count_as_in_expectation(seed: int) -> None:
    one = some(seed, photos=6)
    orders = [list(p) for p in permutations(range(6)) if (np.diff(one.confidence[list(p)]) <= 0).all()]
    for percent in (80, 90):
        every = [accuracy_at(one.right[order].tolist(), [1.0] * 6, percent / 100) for order in orders]
        assert scores(one)[f"accuracy_at_{percent}"]["value"] == pytest.approx(np.mean(every))


@pytest.mark.parametrize("seed", range(12))
def test_the_curve_tells_what_its_thresholds_do(seed: int) -> None:
    one = some(seed, photos=[0, 500][seed % 3 == 0])
    weights, curve = group_weights(one.groups), risk_coverage(one)
    assert curve[-1]["coverage"] == 1
    assert curve[0]["threshold"] == one.confidence.max()
    assert len(curve) == min(100, len(set(one.confidence.tolist())))
    for point in curve:
        kept = one.confidence >= point["threshold"]
        assert point["coverage"] == pytest.approx(weights[kept].sum() / weights.sum())
        assert point["risk"] == pytest.approx((weights * ~one.right)[kept].sum() / weights[kept].sum(), abs=1e-12)
    assert risk_coverage(one.take(np.arange(0))) == []
