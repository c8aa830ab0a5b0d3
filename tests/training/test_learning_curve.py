from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from spectraderm.core.files import read_csv
from spectraderm.training import learning_curve
from spectraderm.training.learning_curve import COLUMNS, Photos, draws, write

HOW = (1.0, 0.2, 0.0)


def photos(groups: int, first: int = 0, copies: int = 2, spread: float = 0.0) -> Photos:
    """Photo groups of three classes, whose means differ, in so many copies each."""
    random = np.random.default_rng(first)
    group = np.repeat(np.arange(first, first + groups), copies)
    targets, noise = group % 3, random.normal(size=(groups, 6)).repeat(copies, 0)
    return Photos((noise + 2 * np.eye(3, 6)[targets] + spread).astype(np.float32), targets, group)


def rows(path: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in read_csv(path, COLUMNS, "")]


def test_each_share_is_of_each_class_and_every_test_group_has_a_line(tmp_path: Path) -> None:
    train, test = photos(40), photos(9, 100)
    write(tmp_path / "a.csv", train, test, test.targets, HOW, 0, 2)
    curve = rows(tmp_path / "a.csv")
    sizes = {(row["share"], row["draw"]): row["train_groups"] for row in curve}
    # of 14, 13 and 13 groups a class; halves are rounded to the even number
    assert sizes == {(s, d): n for s, n in ((0.25, 10), (0.5, 19), (0.75, 30)) for d in (0, 1)} | {(1.0, 0): 40}
    assert len(curve) == 7 * 9
    assert {row["right"] for row in curve if row["share"] == 1.0} == {1.0}  # the guesses that were given
    assert {row["photo_group"] for row in curve} == set(range(100, 109))
    write(tmp_path / "b.csv", train, test, test.targets, HOW, 0, 2)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_part_is_fitted_as_scikit_learn_fits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = photos(60, copies=1), photos(120, 100, copies=1)
    parts: list[Photos] = []
    plain = Photos.fit

    def noted(part: Photos, *how: float) -> Any:  # noqa: ANN401
        parts.append(part)
        return plain(part, *how)

    monkeypatch.setattr(Photos, "fit", noted)
    write(tmp_path / "a.csv", train, test, test.targets, (1.0, 1e-6, 0.0), 1, 1)
    for share, part in zip(learning_curve.SHARES, parts, strict=True):
        peer = LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(part.features, part.targets)
        right = [row["right"] for row in rows(tmp_path / "a.csv") if row["share"] == share]
        # classes weigh a little otherwise in our covariance
        assert np.mean(right) == pytest.approx(np.mean(peer.predict(test.features) == test.targets), abs=0.03)
    assert set(parts[0].groups) < set(parts[1].groups) < set(parts[2].groups)


def test_copies_of_training_photos_and_missing_classes_do_not_count(tmp_path: Path) -> None:
    train = photos(30)
    train = train.take(train.targets != 1)
    write(tmp_path / "none.csv", train, train, train.targets, HOW, 0, 1)
    assert not (tmp_path / "none.csv").exists()
    test = photos(30, 20)  # ten of them are in training, but for those of class 1
    write(tmp_path / "some.csv", train, test, np.zeros_like(test.targets), HOW, 0, 1)
    curve = rows(tmp_path / "some.csv")
    assert {row["photo_group"] for row in curve} == set(range(20, 50)) - set(train.groups.tolist())
    assert {row["right"] for row in curve if row["photo_group"] % 3 == 1} == {0.0}


def test_three_draws_in_all_are_spread_over_the_first_folds() -> None:
    assert draws(["a"]) == {"a": 3}
    assert draws(["a", "b"]) == {"a": 2, "b": 2}
    assert draws(["a", "b", "c", "d"]) == {"a": 1, "b": 1, "c": 1}
