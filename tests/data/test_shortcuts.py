import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from spectraderm.data import shortcuts
from spectraderm.data.shortcuts import Features, Integers, guess, measure

Set = tuple[Integers, Integers]


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_TREES", 25)


def photos(*groups_of_class: int, copies: int = 1) -> Set:
    """Labels and groups of so many photo groups a class, each of `copies` files."""
    labels = np.repeat(np.arange(len(groups_of_class)), groups_of_class)
    return labels.repeat(copies), np.arange(len(labels)).repeat(copies)


def column(values: Integers) -> Features:
    return values[:, None].astype(np.float32)


def noise(rows: int, columns: int = 3) -> Features:
    return np.random.default_rng(5).normal(size=(rows, columns)).astype(np.float32)


def test_one_class_given_away_is_named_and_noise_is_at_chance() -> None:
    labels, groups = photos(60, 50, 40)
    away, nothing = measure({"dimensions": column(labels == 1), "border": noise(len(labels))}, labels, groups)
    assert (away.name, away.gives_away) == ("dimensions", (1,))
    assert away.chance == pytest.approx(1 / 3)
    assert away.low > 1 / 3
    assert nothing.gives_away == ()
    mixed = np.where(labels < 2, 0, 1)  # two classes look alike: neither is found with precision
    (found,) = measure({"format": column(mixed)}, labels, groups)
    assert found.gives_away == (2,)
    assert nothing.low < 1 / 3 < nothing.high
    assert abs(nothing.balanced_accuracy - 1 / 3) < 0.12


def test_copies_do_not_help() -> None:
    """Each photo's own number tells its copies' class, were they on both sides."""
    labels, groups = photos(30, 30, copies=6)
    order = np.random.default_rng(0).permutation(60)
    (found,) = measure({"file_size": column(order[groups])}, labels, groups)
    assert found.balanced_accuracy < 0.7


def test_a_photo_group_counts_once() -> None:
    """Of one class, ten groups of one file are recognised, and one group of forty copies is not."""
    labels, groups = photos(10, 11)
    sizes = np.array([1] * 20 + [40])
    labels, groups = labels.repeat(sizes), groups.repeat(sizes)
    odd = groups == 20
    (found,) = measure({"format": column(np.where(odd, 0, labels))}, labels, groups)
    assert found.balanced_accuracy == pytest.approx((1 + 10 / 11) / 2)


def test_the_value_and_its_interval_match_a_plain_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, groups = photos(80, 60, 40)
    random = np.random.default_rng(2)
    told = np.where(random.random(len(labels)) < 0.6, labels, random.integers(0, 3, len(labels)))
    monkeypatch.setattr(shortcuts, "guess", lambda *given: np.eye(3)[given[0][given[3], 0].astype(int)])
    (found,) = measure({"format": column(told)}, labels, groups)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, told))
    draws = random.integers(len(labels), size=(1000, len(labels)))
    expected = np.percentile([balanced_accuracy_score(labels[rows], told[rows]) for rows in draws], (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(("right", "expected"), [(True, (0.6306, 1)), (False, (0, 0.3694))])
def test_of_a_few_photos_all_right_or_all_wrong_is_no_certainty(
    right: bool, expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, groups = photos(4, 4, copies=3)
    told = labels if right else 1 - labels
    monkeypatch.setattr(shortcuts, "guess", lambda *given: np.eye(2)[given[0][given[3], 0].astype(int)])
    (found,) = measure({"format": column(told)}, labels, groups)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-4)  # of 8, by Clopper & Pearson


def test_labels_may_be_any_numbers_and_the_same_seed_gives_the_same() -> None:
    labels, groups = photos(20, 20, copies=2)
    features = {"format": column(labels), "border": noise(len(labels))}
    plain, shifted = measure(features, labels, groups), measure(features, labels * 3 + 4, groups + 100)
    assert plain[0].gives_away == (0, 1)
    assert shifted[0].gives_away == (4, 7)
    assert shifted[1] == plain[1]
    assert measure(features, labels, groups, seed=1)[1] != plain[1]


def test_classes_of_one_group_are_left_out_and_small_ones_are_not() -> None:
    labels, groups = photos(12, 12, 2, 1)
    (found,) = measure({"format": column(labels)}, labels, groups)
    assert found.chance == pytest.approx(1 / 3)
    labels, groups = photos(2, 2)
    assert len(measure({"format": column(labels)}, labels, groups)) == 1
    for alone in (photos(9, 1), photos(1, 1), photos(5)):
        assert measure({"format": column(alone[0])}, *alone) == []


def test_guess_gives_probabilities_over_all_classes() -> None:
    labels, _ = photos(30, 30, 30)
    train, test = np.flatnonzero(labels != 2)[::2], np.arange(90)
    chances = guess(column(labels), labels, train, test)
    assert chances.shape == (90, 3)
    assert chances.sum(1) == pytest.approx(1)
    assert (chances[:, 2] == 0).all()
    assert (chances[:60].argmax(1) == labels[:60]).all()
    assert guess(column(labels), labels, train, test[:0]).shape == (0, 3)
    labels, rows = photos(90, 10)  # every class counts alike
    chances = guess(np.zeros((100, 1), np.float32), labels, rows, rows)
    assert chances.mean(0) == pytest.approx([0.5, 0.5], abs=0.1)


def test_many_groups_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def counted(features: Features, *given: Integers) -> object:
        seen.append((len(features), len(np.unique(features))))
        return np.eye(2)[given[0][given[2]]]

    monkeypatch.setattr(shortcuts, "MAX_GROUPS", 50)
    monkeypatch.setattr(shortcuts, "guess", counted)
    labels, groups = photos(200, 200, copies=2)
    measure({"file_size": column(groups)}, labels, groups)
    assert set(seen) == {(100, 50)}
