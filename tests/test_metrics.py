import random
from collections import defaultdict

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from spectraderm.evaluation import metrics
from spectraderm.evaluation.metrics import Guesses, Integers, scores

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "group_accuracy")


def guessed(labels: object, guesses: object, groups: object = None) -> Guesses:
    true = np.asarray(labels)
    own = np.arange(len(true)) if groups is None else np.asarray(groups)
    return Guesses(true, np.asarray(guesses), own)


def some(seed: int) -> tuple[Guesses, int]:
    """Random guesses, and the number of classes, some of which are never true, never guessed, or neither."""
    draw = np.random.default_rng(seed)
    classes, photos = int(draw.integers(1, 7)), int(draw.integers(1, 60))
    true, guess = (draw.choice(classes, int(draw.integers(1, classes + 1)), replace=False) for _ in range(2))
    labels = draw.choice(true, photos)
    guesses = np.where(draw.random(photos) < 0.5, labels, draw.choice(guess, photos))
    return Guesses(labels, guesses, draw.integers(5, 5 + photos, photos)), classes


def in_groups(seed: int, groups: int, sizes: tuple[int, ...], right: float) -> Guesses:
    """Photo groups of random sizes; copies of one photo are guessed alike, nearly always."""
    draw = np.random.default_rng(seed)
    size = draw.choice(sizes, groups)
    group = np.repeat(np.arange(groups), size)
    labels, good = draw.integers(0, 2, groups)[group], (draw.random(groups) < right)[group]
    return Guesses(labels, np.where(good, labels, 1 - labels), group)


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@pytest.mark.parametrize("seed", range(150))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    one, _ = some(seed)
    got = scores(one)
    assert got["accuracy"]["value"] == pytest.approx(accuracy_score(one.labels, one.guesses))
    assert got["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(one.labels, one.guesses))
    assert got["macro_f1"]["value"] == pytest.approx(f1_score(one.labels, one.guesses, average="macro"))
    assert all(0 <= got[name]["low"] <= got[name]["high"] <= 1 for name in METRICS)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("seed", range(100))
def test_classes_and_confusion_are_counted_right(seed: int) -> None:
    one, classes = some(seed)
    pairs = list(zip(one.labels.tolist(), one.guesses.tolist(), one.groups.tolist(), strict=True))
    counts = [[sum(p[:2] == (true, guess) for p in pairs) for guess in range(classes)] for true in range(classes)]
    assert metrics.confusion(one, classes) == counts
    for i, row in enumerate(metrics.per_class(one, [f"c{i}" for i in range(classes)])):
        true, guesses, right = sum(counts[i]), sum(line[i] for line in counts), counts[i][i]
        assert (row["label"], row["n_photos"]) == (f"c{i}", true)
        assert row["n_groups"] == len({group for label, _, group in pairs if label == i})
        assert row["recall"] == (pytest.approx(right / true) if true else None)
        assert row["precision"] == (pytest.approx(right / guesses) if guesses else None)
        assert row["f1"] == (pytest.approx(2 * right / (true + guesses)) if true + guesses else None)


@pytest.mark.parametrize("seed", range(30))
def test_group_accuracy_counts_every_group_once(seed: int) -> None:
    one, _ = some(seed)
    rights = defaultdict(list)
    for label, guess, group in zip(one.labels, one.guesses, one.groups, strict=True):
        rights[int(group)].append(label == guess)
    got = scores(one)
    assert got["group_accuracy"]["value"] == pytest.approx(sum(sum(r) / len(r) for r in rights.values()) / len(rights))
    assert (got["n_photos"], got["n_groups"]) == (len(one), len(rights))


def resampled(one: Guesses, draws: int) -> dict[str, list[float]]:
    """Scores of data sets made by drawing whole photo groups with replacement, one file after the other."""
    members = defaultdict(list)
    for row, group in enumerate(one.groups.tolist()):
        members[group].append((int(one.labels[row]), int(one.guesses[row])))
    groups, draw, values = list(members.values()), random.Random(3), defaultdict(list)
    for _ in range(draws):
        drawn = draw.choices(groups, k=len(groups))
        files = [file for group in drawn for file in group]
        right, true, guesses = ([0, 0, 0] for _ in range(3))
        for label, guess in files:
            true[label] += 1
            guesses[guess] += 1
            right[label] += label == guess
        values["accuracy"].append(sum(right) / len(files))
        values["balanced_accuracy"].append(sum(r / t for r, t in zip(right, true, strict=True)) / 3)
        values["macro_f1"].append(sum(2 * right[i] / (true[i] + guesses[i]) for i in range(3)) / 3)
        values["group_accuracy"].append(sum(sum(a == b for a, b in group) / len(group) for group in drawn) / len(drawn))
    return values


def test_intervals_are_those_of_a_slow_bootstrap_of_groups() -> None:
    draw = np.random.default_rng(0)
    group = np.repeat(np.arange(200), draw.integers(1, 5, 200))
    labels = draw.integers(0, 3, 200)[group]
    guesses = np.where(draw.random(len(group)) < 0.3, draw.integers(0, 3, 200)[group], labels)
    one = guessed(labels, guesses, group)
    got = scores(one)
    for name, values in resampled(one, 1000).items():
        low, high = np.percentile(values, [2.5, 97.5])
        near = 0.5 * float(np.std(values))  # four standard errors of the difference of two such percentiles
        assert got[name]["low"] == pytest.approx(low, abs=near)
        assert got[name]["high"] == pytest.approx(high, abs=near)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth, hits, trials = 0.7, dict.fromkeys(("accuracy", "group_accuracy"), 0), 300
    for seed in range(trials):
        got = scores(in_groups(seed, 80, (1, 8), truth), seed)
        for name in hits:
            hits[name] += got[name]["low"] <= truth <= got[name]["high"]
    error = 3 * np.sqrt(0.95 * 0.05 / trials)
    assert all(0.95 - error - 0.01 < count / trials <= 0.95 + error for count in hits.values()), hits


def test_copies_do_not_make_an_interval_narrower() -> None:
    one = in_groups(1, 60, (1,), 0.7)
    rows: Integers = np.repeat(np.arange(len(one)), 10)
    copied = scores(one.take(rows))
    for name in METRICS:
        assert copied[name] == pytest.approx(scores(one)[name])
    strangers = scores(guessed(one.labels[rows], one.guesses[rows]))["accuracy"]
    width = copied["accuracy"]["high"] - copied["accuracy"]["low"]
    assert strangers["high"] - strangers["low"] < 0.5 * width


def test_the_same_guesses_give_the_same_scores() -> None:
    one, _ = some(7)
    assert scores(one) == scores(one)


def test_the_majority_is_that_of_the_training_photos() -> None:
    trained_on = np.array([1, 1, 0])
    assert metrics.majority(guessed([0, 0, 0, 1], [0, 0, 0, 0]), trained_on) == {
        "accuracy": 0.25,
        "balanced_accuracy": 0.5,
    }
    assert metrics.majority(guessed([0, 2], [0, 0]), trained_on) == {"accuracy": 0.0, "balanced_accuracy": 0.0}
