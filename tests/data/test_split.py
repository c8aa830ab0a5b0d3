from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import given, grouped, row

from spectraderm.core import Protocol
from spectraderm.core.errors import RunFolderError, SplitError
from spectraderm.data import split
from spectraderm.data.manifest import Row
from spectraderm.data.split import Fold, Split, check, make

GROUPED: Protocol = "grouped"
ORIGINAL: Protocol = "original"
DEDUPLICATED: Protocol = "deduplicated"


def groups_by_side(rows: list[Row], fold: Fold) -> dict[str, set[int]]:
    sides: defaultdict[str, set[int]] = defaultdict(set)
    for photo in rows:
        sides[fold.splits[photo.path]].add(photo.photo_group)
    return sides


def assert_no_group_crosses(rows: list[Row], made: Split) -> None:
    for fold in made.folds:
        sides = groups_by_side(rows, fold)
        assert sum(map(len, sides.values())) == len({photo.photo_group for photo in rows})


def labels_by_side(rows: list[Row], fold: Fold) -> dict[str, set[str]]:
    return {side: {r.label for r in rows if fold.splits[r.path] == side} for side in set(fold.splits.values())}


@pytest.mark.parametrize("counts", [(4, 4), (5, 30, 11), (100, 50)])
def test_holdout_puts_every_class_on_every_side_and_no_group_on_two(counts: tuple[int, ...]) -> None:
    rows = [*grouped(*counts), row("c1/odd.jpg", "c1", 3)]  # one group is of two classes
    made = make(rows, GROUPED, 1, 0)
    assert_no_group_crosses(rows, made)
    assert [fold.name for fold in made.folds] == ["final"]
    everyone = {f"c{number}" for number in range(len(counts))}
    assert labels_by_side(rows, made.folds[0]) == dict.fromkeys(split.SPLITS, everyone)
    if counts == (100, 50):
        shares = {side: len(groups) for side, groups in groups_by_side(rows, made.folds[0]).items()}
        assert shares == {"test": 30, "val": 15, "calibration": 15, "train": 90}


@pytest.mark.parametrize(("folds", "counts"), [(2, (4, 9)), (3, (4, 4)), (5, (6, 23, 40))])
def test_folds_test_every_photo_once_and_no_group_crosses(folds: int, counts: tuple[int, ...]) -> None:
    rows = grouped(*counts)
    made = make(rows, GROUPED, folds, 3)
    assert_no_group_crosses(rows, made)
    assert [fold.name for fold in made.folds] == ["final", *(f"fold-{n + 1}" for n in range(folds))]
    tested = Counter(path for fold in made.folds for path, side in fold.splits.items() if side == "test")
    assert tested == Counter({photo.path: 1 for photo in rows})
    everyone = {photo.label for photo in rows}
    assert labels_by_side(rows, made.folds[0]) == {"train": everyone, "val": everyone}
    for fold in made.folds[1:]:
        assert labels_by_side(rows, fold) == {"train": everyone, "val": everyone, "test": everyone}
    assert len({fold.seed for fold in made.folds}) == folds + 1
    assert make(rows, GROUPED, folds, 3) == made
    assert make(rows, GROUPED, folds, 4).folds[0].splits != made.folds[0].splits


@pytest.mark.parametrize(("folds", "enough"), [(1, 4), (2, 4), (3, 4), (5, 6)])
def test_too_few_photo_groups_name_the_class(folds: int, enough: int) -> None:
    make(grouped(enough, 20), GROUPED, folds, 0)
    with pytest.raises(SplitError, match=f"class 'c0' has {enough - 1} photo groups, {enough} are needed"):
        make(grouped(enough - 1, 20), GROUPED, folds, 0)


@pytest.mark.parametrize("draws", [1, 4])
def test_original_keeps_test_and_cuts_a_fifth_of_each_class(draws: int) -> None:
    rows = given(20, 5)
    made = make(rows, ORIGINAL, draws, 7)
    assert [fold.name for fold in made.folds] == ["final", "draw-2", "draw-3", "draw-4"][:draws]
    assert [fold.seed for fold in made.folds] == [7, 8, 9, 10][:draws]
    for fold in made.folds:
        counts = Counter((photo.given_split, photo.label, fold.splits[photo.path]) for photo in rows)
        shares = {("train", "train"): 16, ("train", "val"): 4, ("test", "test"): 5}
        assert counts == {(given, label, name): n for (given, name), n in shares.items() for label in "ab"}
    assert len({tuple(fold.splits.items()) for fold in made.folds}) == draws
    assert make(rows, ORIGINAL, draws, 7) == made
    rows = given(6, 3, val=2)  # a given validation folder is kept
    assert make(rows, ORIGINAL, 1, 0).folds[0].splits == {photo.path: photo.given_split for photo in rows}


@pytest.mark.parametrize(
    ("rows", "protocol", "folds", "seed", "problem"),
    [
        (grouped(9, 9), ORIGINAL, 1, 0, "no test folder"),
        (given(1, 3), ORIGINAL, 1, 0, "class 'a' has 1 training photos"),
        (grouped(9, 9), GROUPED, 0, 0, "0 folds"),
        (grouped(9, 9), GROUPED, 1, -1, "-1 is no seed"),
        (grouped(9, 9), DEDUPLICATED, 1, 0, "no test folder"),
        (given(9, 3), DEDUPLICATED, 2, 0, "2 folds"),
    ],
)
def test_impossible_wishes_are_refused(
    rows: list[Row], protocol: Protocol, folds: int, seed: int, problem: str
) -> None:
    with pytest.raises(SplitError, match=problem):
        make(rows, protocol, folds, seed)


@pytest.mark.parametrize("folds", [1, 3])
def test_beside_grouped_folds_stands_what_the_folders_would_have_scored(folds: int) -> None:
    rows = given(20, 5)
    made = make(rows, GROUPED, folds, 4)
    names = ["final", *(f"fold-{number + 1}" for number in range(folds) if folds > 1), "original"]
    assert [fold.name for fold in made.folds] == names
    alone = make(rows, ORIGINAL, 1, 4).folds[0]
    assert (made.folds[-1].splits, made.folds[-1].seed) == (alone.splits, alone.seed)
    assert_no_group_crosses(rows, Split(GROUPED, made.folds[:-1]))
    with pytest.raises(SplitError, match=r"no photo is in calibration|photo group 0 crosses"):
        check(rows, Split(GROUPED, [replace(made.folds[-1], name="final")]))  # copies cross in `original` alone


@pytest.mark.parametrize(
    "rows",
    [
        grouped(8, 8),
        [r for r in given(9, 3) if not r.path.startswith("test/a/")],
        [r for r in given(9, 5) if not r.path.startswith("train/a/") or r.path == "train/a/1.jpg"],
        [r for r in given(9, 3, val=2) if not r.path.startswith("val/a/")],
    ],
)
def test_folders_that_cannot_be_scored_give_no_such_fold(rows: list[Row]) -> None:
    assert [fold.name for fold in make(rows, GROUPED, 1, 0).folds] == ["final"]


def leaking(seed: int = 0, train: int = 20) -> tuple[list[Row], Fold]:
    """Train folders of `train` groups, the first four of each class tested too; one photo stands in both classes."""
    rows = [
        row(f"train/{c}/{n}-{k}.jpg", c, 100 * i + n, "train")
        for i, c in enumerate("ab")
        for n in range(train)
        for k in (0, 1)
    ]
    rows += [row(f"test/{c}/{n}.jpg", c, 100 * i + n, "test") for i, c in enumerate("ab") for n in (0, 1, 2, 3, 90, 91)]
    rows += [row("test/b/x.jpg", "b", 500, "test"), row("train/a/x.jpg", "a", 500, "train")]
    return rows, make(rows, DEDUPLICATED, 1, seed).folds[0]


@pytest.mark.parametrize("seed", range(2))
def test_deduplicated_keeps_the_test_folder_and_leaves_out_what_leaks_or_is_disputed(seed: int) -> None:
    rows, fold = leaking(seed)
    tested = {r.path for r in rows if r.given_split == "test"} - {"test/b/x.jpg"}
    assert {path for path, side in fold.splits.items() if side == "test"} == tested
    out = {f"train/{c}/{n}-{k}.jpg" for c in "ab" for n in range(4) for k in (0, 1)} | {"test/b/x.jpg", "train/a/x.jpg"}
    assert {path for path, side in fold.splits.items() if side == "excluded"} == out
    sides = groups_by_side(rows, fold)
    assert {side: len(groups) for side, groups in sides.items()} == {
        "train": 24, "val": 4, "calibration": 4, "test": 12, "excluded": 9,
    }  # fmt: skip
    inside = [own for side, groups in sides.items() if side != "excluded" for own in groups]
    assert len(inside) == len(set(inside))
    assert fold.name == "final"
    assert (leaking(seed)[1], leaking(seed + 1)[1].splits == fold.splits) == (fold, False)
    patient = [replace(r, copy_group=n) for n, r in enumerate(rows)]  # with two diseases: no label conflict
    fold = make(patient, DEDUPLICATED, 1, 0).folds[0]
    assert (fold.splits["test/b/x.jpg"], fold.splits["train/a/x.jpg"]) == ("test", "excluded")
    with pytest.raises(SplitError, match=r"class 'a' has 2 photo groups .* 3 are needed\. Use --split grouped"):
        leaking(train=6)


def move(side: str, *paths: str) -> Callable[[dict[str, str]], None]:
    return lambda splits: splits.update(dict.fromkeys(paths, side))


def side_away(side: str, instead: str) -> Callable[[dict[str, str]], None]:
    return lambda splits: splits.update((path, instead) for path, own in splits.items() if own == side)


def disputed() -> list[Row]:
    """Train and test folders with a photo in two classes, and a second copy of the test photo that leaks."""
    rows = [replace(r, photo_group=700) if r.path in ("train/a/5.jpg", "train/b/5.jpg") else r for r in given(20, 5)]
    return [replace(r, photo_group=0) if r.path == "train/a/0.jpg" else r for r in rows]


FOLDERS = [
    (move("train", "test/a/0.jpg"), "test/a/0.jpg is in train, its folder says otherwise"),
    (move("test", "train/a/3.jpg"), "train/a/3.jpg is in test, its folder says otherwise"),
    (move("excluded", "train/a/3.jpg"), "'excluded' is not one of"),
]
GROUPS = [
    (lambda splits: splits.update({f"c0/0-{n}.jpg": ("train", "val")[n] for n in (0, 1)}), "photo group 0 crosses"),
    (lambda splits: splits.update((p, "train") for p, own in splits.items() if own == "val" and p[:2] == "c1"),
     "val has no photo of c1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "protocol", "folds", "change", "problem"),
    [
        *((grouped(12, 12), GROUPED, folds, *case) for folds in (1, 3) for case in GROUPS),
        (grouped(12, 12), GROUPED, 1, lambda splits: splits.pop("c0/0-0.jpg"), "c0/0-0.jpg stands in only one"),
        (grouped(12, 12), GROUPED, 1, move("train", "c0/unknown.jpg"), "c0/unknown.jpg stands in only one"),
        (grouped(12, 12), GROUPED, 1, move("holdout", "c0/1-0.jpg"), "'holdout' is not one of"),
        (grouped(12, 12), GROUPED, 1, side_away("train", "val"), "no photo is in train"),
        (grouped(12, 12), GROUPED, 1, side_away("calibration", "val"), "no photo is in calibration"),
        (grouped(12, 12), GROUPED, 1, side_away("test", "val"), "no photo is in test"),
        (grouped(12, 12), GROUPED, 3, side_away("val", "train"), "no photo is in val"),
        (grouped(12, 12), GROUPED, 3, side_away("test", "train"), "do not test every photo exactly once"),
        *((given(20, 5), protocol, 1, *case) for protocol in (ORIGINAL, GROUPED) for case in FOLDERS),
        (disputed(), DEDUPLICATED, 1, move("train", "train/a/0.jpg"), "photo group 0 crosses"),
        (disputed(), DEDUPLICATED, 1, move("excluded", "train/a/3.jpg"), "train/a/3.jpg must not be in excluded"),
        (disputed(), DEDUPLICATED, 1, move("excluded", "test/b/2.jpg"), "test/b/2.jpg must not be in excluded"),
        (disputed(), DEDUPLICATED, 1, move("train", "test/b/2.jpg"), "its folder says otherwise"),
        (disputed(), DEDUPLICATED, 1, side_away("calibration", "train"), "no photo is in calibration"),
        (disputed(), DEDUPLICATED, 1, move("val", "train/a/5.jpg", "train/b/5.jpg"), "must not be in val"),
    ],
)
def test_check_finds_planted_violations(
    rows: list[Row], protocol: Protocol, folds: int, change: Callable[[dict[str, str]], None], problem: str
) -> None:
    made = make(rows, protocol, folds, 0)
    change(made.folds[-1].splits)
    with pytest.raises(SplitError, match=problem):
        check(rows, made)


@pytest.mark.parametrize(
    ("rows", "protocol", "folds"),
    [
        (grouped(20, 20), GROUPED, 3),
        (given(20, 5), ORIGINAL, 2),
        (given(20, 5), GROUPED, 3),
        (disputed(), DEDUPLICATED, 1),
    ],
)
def test_a_split_comes_back(rows: list[Row], protocol: Protocol, folds: int, tmp_path: Path) -> None:
    made = make(rows, protocol, folds, 2)
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


def test_classes_that_look_alike_are_not_split() -> None:
    rows = [replace(each, label=each.label.replace("c1", "C 0").replace("c0", "c-0")) for each in grouped(9, 9, 9)]
    with pytest.raises(SplitError, match=r"'c1' and 'c0' look alike.*one folder, or rename one"):
        make(rows, "grouped", 1, 0)
