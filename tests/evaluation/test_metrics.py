from collections.abc import Callable, Collection

import numpy as np
import pytest
from drawn import once, some
from scipy import stats
from sklearn import metrics as sk

from spectraderm.evaluation import bootstrap, metrics
from spectraderm.evaluation.metrics import METRICS, per_class, scores
from spectraderm.evaluation.scored import Reals, Scored

NOTHING = {"value": None, "low": None, "high": None}


def expected(one: Scored, weights: Reals, names: Collection[str] = METRICS) -> dict[str, float | None]:
    """Those metrics that scikit-learn has, under weights."""
    classes, given = range(one.classes), {"sample_weight": weights}
    known: dict[str, Callable[[], float | None]] = {
        "accuracy": lambda: sk.accuracy_score(one.labels, one.guesses, **given),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(one.labels, one.guesses, **given),
        "macro_f1": lambda: sk.f1_score(one.labels, one.guesses, average="macro", **given),
        "auroc": lambda: auroc(one, weights),
        "brier": lambda: sk.brier_score_loss(
            one.labels, one.probabilities, labels=classes, scale_by_half=False, **given
        ),
        "log_loss": lambda: sk.log_loss(one.labels, one.probabilities, labels=classes, **given),
    }
    return {name: score() for name, score in known.items() if name in names}


def auroc(one: Scored, weights: Reals) -> float | None:
    there = [i for i in range(one.classes) if 0 < (one.labels == i).sum() < len(one)]
    each = [sk.roc_auc_score(one.labels == i, one.probabilities[:, i], sample_weight=weights) for i in there]
    return float(np.mean(each)) if each else None


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@pytest.mark.parametrize("seed", range(60))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    one = some(seed)
    got = scores(one)
    for name, value in expected(one, np.ones(len(one))).items():
        assert got[name]["value"] == (None if value is None else pytest.approx(value)), name
    for name, value in expected(one, once(one.groups)).items():
        assert got["by_group"][name]["value"] == (None if value is None else pytest.approx(value)), name
    assert got["group_accuracy"] == got["by_group"]["accuracy"]
    assert (got["n_photos"], got["n_groups"]) == (len(one), len(set(one.groups.tolist())))


def test_the_auroc_of_all_classes_is_that_of_scikit_learn() -> None:
    one = some(4, classes=5, photos=400)
    one = Scored(np.arange(400) % 5, one.probabilities, one.groups)
    value = sk.roc_auc_score(one.labels, one.probabilities, multi_class="ovr", average="macro")
    assert scores(one)["auroc"]["value"] == pytest.approx(value)


@pytest.mark.parametrize("seed", range(20))
def test_a_weight_of_three_is_three_rows(seed: int) -> None:
    one = some(seed)
    times = np.random.default_rng(seed).integers(0, 4, (2, len(one))) + (np.arange(len(one)) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        got = metrics.measure(one)(times.astype(float))
        for row, repeats in enumerate(times):
            repeated = one.take(np.repeat(np.arange(len(one)), repeats))
            for name, values in metrics.measure(repeated)(np.ones((1, len(repeated)))).items():
                np.testing.assert_allclose(got[name][..., row], values[..., 0], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(40))
def test_classes_and_confusion_are_counted_right(seed: int) -> None:
    one = some(seed)
    pairs = list(zip(one.labels.tolist(), one.guesses.tolist(), one.groups.tolist(), strict=True))
    classes = range(one.classes)
    assert metrics.confusion(one) == [
        [sum(p[:2] == (true, guess) for p in pairs) for guess in classes] for true in classes
    ]
    for i, row in enumerate(per_class(one, [f"c{i}" for i in classes])):
        hit, missed = (sum(true == i and (guess == i) == said for true, guess, _ in pairs) for said in (True, False))
        false, spared = (sum(true != i and (guess == i) == said for true, guess, _ in pairs) for said in (True, False))
        assert (row["label"], row["n_photos"]) == (f"c{i}", hit + missed)
        assert row["n_groups"] == len({group for true, _, group in pairs if true == i})
        shares = {
            "sensitivity": (hit, missed),
            "specificity": (spared, false),
            "ppv": (hit, false),
            "npv": (spared, missed),
            "f1": (2 * hit, missed + false),
        }
        for name, (top, rest) in shares.items():
            assert row[name]["value"] == (pytest.approx(top / (top + rest)) if top + rest else None), name
            assert row[name]["value"] is not None or row[name] == NOTHING
        both = 0 < hit + missed < len(one)
        auroc = sk.roc_auc_score(one.labels == i, one.probabilities[:, i]) if both else None
        assert row["auroc"]["value"] == (pytest.approx(auroc) if both else None)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "auroc", "brier"])
def test_intervals_of_lone_photos_are_those_of_scipy(name: str) -> None:
    one = some(8, classes=3, photos=150)
    one, ones = Scored(np.arange(150) % 3, one.probabilities, np.arange(150)), np.ones(150)

    def statistic(rows: Reals) -> float:
        return float(expected(one.take(rows.astype(int)), ones, [name])[name] or 0)

    wanted = stats.bootstrap(
        (np.arange(150),),
        statistic,
        n_resamples=250,
        method="percentile",
        rng=np.random.default_rng(1),
        vectorized=False,
    )
    got = scores(one)[name]
    assert got["low"] == pytest.approx(wanted.confidence_interval.low, abs=0.7 * wanted.standard_error)
    assert got["high"] == pytest.approx(wanted.confidence_interval.high, abs=0.7 * wanted.standard_error)


@pytest.mark.parametrize("labels", [[0, 0, 0], []])
def test_what_is_not_defined_is_none(labels: list[int]) -> None:
    one = Scored(np.array(labels, dtype=int), np.tile([0.6, 0.3, 0.1], (len(labels), 1)), np.arange(len(labels)))
    got, classes = scores(one), per_class(one, ["a", "b", "c"])
    assert got["auroc"] == got["by_group"]["auroc"] == classes[1]["sensitivity"] == classes[2]["ppv"] == NOTHING
    assert all((got[name] == NOTHING) == (not labels) for name in METRICS if name != "auroc")


def test_all_right_is_not_certain() -> None:
    one = Scored(np.arange(40) % 2, np.eye(2)[np.arange(40) % 2], np.arange(40) // 2)
    wanted = stats.binomtest(20, 20).proportion_ci(method="exact").low
    for share in (
        scores(one)["accuracy"],
        scores(one)["accuracy_at_100"],
        per_class(one, ["a", "b"])[0]["sensitivity"],
    ):
        assert share == {"value": 1, "low": pytest.approx(wanted), "high": 1}
    assert bootstrap.rate(~one.right, one.groups)["high"] == pytest.approx(1 - wanted)


def test_the_majority_is_that_of_the_training_photos() -> None:
    trained_on, one = np.array([1, 1, 0]), some(0, classes=3, photos=4)
    mostly = Scored(np.array([0, 0, 0, 1]), one.probabilities, one.groups)
    assert metrics.majority(mostly, trained_on) == {"accuracy": 0.25, "balanced_accuracy": 0.5}
    assert metrics.majority(mostly.take(np.arange(3)), trained_on) == {"accuracy": 0.0, "balanced_accuracy": 0.0}
