"""The proof that runs with every split, and the file it is kept in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import given, grouped

from spectraderm.core.errors import RunFolderError, SplitError
from spectraderm.data import split
from spectraderm.data.manifest import Row
from spectraderm.data.split import Protocol, Split, check, make


def planted(rows: list[Row], folds: int, change: Callable[[dict[str, str]], None], at: int = -1) -> Split:
    made = make(rows, "grouped", folds, 0)
    change(made.folds[at].splits)
    return made


def move(side: str, *paths: str) -> Callable[[dict[str, str]], None]:
    return lambda splits: splits.update(dict.fromkeys(paths, side))


def side_away(side: str, instead: str) -> Callable[[dict[str, str]], None]:
    return lambda splits: splits.update((path, instead) for path, own in splits.items() if own == side)


def cross(splits: dict[str, str]) -> None:
    splits["c0/0-0.jpg"] = next(side for side in ("train", "val") if side != splits["c0/0-1.jpg"])


def class_away(splits: dict[str, str]) -> None:
    splits.update((path, "train") for path, own in splits.items() if own == "val" and path.startswith("c1/"))


@pytest.mark.parametrize(
    ("folds", "change", "problem"),
    [
        (1, cross, "photo group 0 crosses"),
        (3, cross, "photo group 0 crosses"),
        (1, lambda splits: splits.pop("c0/0-0.jpg"), "c0/0-0.jpg stands in only one"),
        (1, move("train", "c0/unknown.jpg"), "c0/unknown.jpg stands in only one"),
        (1, move("holdout", "c0/1-0.jpg"), "'holdout' is not one of"),
        (1, class_away, "val has no photo of c1"),
        (3, class_away, "val has no photo of c1"),
        (1, side_away("train", "val"), "no photo is in train"),
        (1, side_away("calibration", "val"), "no photo is in calibration"),
        (1, side_away("test", "val"), "no photo is in test"),
        (3, side_away("val", "train"), "no photo is in val"),
        (3, side_away("test", "train"), "do not test every photo exactly once"),
    ],
)
def test_check_finds_planted_violations(folds: int, change: Callable[[dict[str, str]], None], problem: str) -> None:
    rows = grouped(12, 12)
    with pytest.raises(SplitError, match=problem):
        check(rows, planted(rows, folds, change))


def test_check_lets_copies_cross_only_as_given() -> None:
    rows = given(20, 5)
    made = make(rows, "original", 1, 0)
    with pytest.raises(SplitError, match=r"no photo is in calibration|photo group 0 crosses"):
        check(rows, Split("grouped", made.folds))
    beside = make(rows, "grouped", 1, 0)
    check(rows, beside)
    with pytest.raises(SplitError, match=r"no photo is in calibration|photo group 0 crosses"):
        check(rows, Split("grouped", [replace(fold, name="final") for fold in beside.folds]))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (move("train", "test/a/0.jpg"), "test/a/0.jpg is in train, its folder says otherwise"),
        (move("test", "train/a/3.jpg"), "train/a/3.jpg is in test, its folder says otherwise"),
        (move("excluded", "train/a/3.jpg"), "'excluded' is not one of"),
    ],
)
@pytest.mark.parametrize("protocol", ["original", "grouped"])
def test_check_holds_folders_as_given_to_their_folders(
    protocol: Protocol, change: Callable[[dict[str, str]], None], problem: str
) -> None:
    rows = given(20, 5)
    made = make(rows, protocol, 1, 0)
    change(made.folds[-1].splits)
    with pytest.raises(SplitError, match=problem):
        check(rows, made)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (move("train", "train/a/0.jpg"), "photo group 0 crosses"),
        (move("excluded", "train/a/3.jpg"), "train/a/3.jpg must not be in excluded"),
        (move("excluded", "test/b/2.jpg"), "test/b/2.jpg must not be in excluded"),
        (move("train", "test/b/2.jpg"), "its folder says otherwise"),
        (side_away("calibration", "train"), "no photo is in calibration"),
        (move("val", "train/a/5.jpg", "train/b/5.jpg"), "must not be in val"),
    ],
)
def test_check_proves_that_a_split_is_cleaned(change: Callable[[dict[str, str]], None], problem: str) -> None:
    rows = [replace(r, photo_group=700) if r.path in ("train/a/5.jpg", "train/b/5.jpg") else r for r in given(20, 5)]
    rows = [replace(r, photo_group=0) if r.path == "train/a/0.jpg" else r for r in rows]
    made = make(rows, "deduplicated", 1, 0)
    check(rows, made)
    change(made.folds[0].splits)
    with pytest.raises(SplitError, match=problem):
        check(rows, made)


@pytest.mark.parametrize(
    ("rows", "made"),
    [
        (grouped(20, 20), make(grouped(20, 20), "grouped", 1, 2)),
        (grouped(20, 20), make(grouped(20, 20), "grouped", 3, 2)),
        (given(20, 5), make(given(20, 5), "original", 2, 2)),
        (given(20, 5), make(given(20, 5), "grouped", 3, 2)),
        (given(20, 5), make(given(20, 5), "deduplicated", 1, 2)),
    ],
)
def test_a_split_comes_back(rows: list[Row], made: Split, tmp_path: Path) -> None:
    split.write(tmp_path / "split.csv", made, rows)
    assert split.read(tmp_path / "split.csv", rows) == made
    with pytest.raises(SplitError, match="only one of manifest and split"):
        split.read(tmp_path / "split.csv", rows[1:])


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("grouped,final", "by-luck,final", SplitError),
        ("c0/1-0.jpg", "c0/2-0.jpg", SplitError),
        ("final,0,", "final,zero,", SplitError),
        ("protocol,fold", "protocol,bend", RunFolderError),
    ],
)
def test_a_damaged_split_file_is_refused(old: str, new: str, error: type[Exception], tmp_path: Path) -> None:
    rows = grouped(8, 8)
    split.write(tmp_path / "split.csv", make(rows, "grouped", 1, 0), rows)
    text = (tmp_path / "split.csv").read_text()
    (tmp_path / "split.csv").write_text(text.replace(old, new))
    with pytest.raises(error, match=r"split\.csv"):
        split.read(tmp_path / "split.csv", rows)
