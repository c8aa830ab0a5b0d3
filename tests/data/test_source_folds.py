from collections import Counter
from dataclasses import replace
from itertools import count

import pytest
from conftest import row

from spectraderm.core import Protocol
from spectraderm.core.errors import SplitError
from spectraderm.data.folds import EXCLUDED
from spectraderm.data.manifest import Row
from spectraderm.data.split import Fold, Split, check, make

BY_SOURCE: Protocol = "by-source"


def photos(counts: dict[str, dict[str, int]], given: str = "") -> list[Row]:
    """So many photo groups by source and class, every third one with a copy beside it."""
    rows, group = [], count()
    for source, classes in counts.items():
        for label, groups in classes.items():
            for number in range(groups):
                own = next(group)
                names = [f"{source}/{label}/{number}-{copy}.jpg" for copy in range(2 if number % 3 == 0 else 1)]
                rows += [replace(row(name, label, own, given), source=source) for name in names]
    return rows


def joined(rows: list[Row], *paths: str) -> list[Row]:
    """The same with these photos, and the copies that they have, in one photo group."""
    groups = {photo.photo_group for photo in rows if photo.path in paths}
    return [replace(photo, photo_group=9999) if photo.photo_group in groups else photo for photo in rows]


THREE = photos({"A": {"x": 7, "y": 5}, "B": {"x": 4, "y": 4}, "C": {"x": 3, "only": 4}})


def test_each_source_is_tested_by_a_model_that_saw_none_of_it() -> None:
    rows = joined(THREE, "A/x/0-0.jpg", "B/x/1-0.jpg")
    made = make(rows, BY_SOURCE, 1, 5)
    assert [(fold.name, fold.seed) for fold in made.folds] == [
        ("final", 5),
        ("fold-1", 6),
        ("fold-2", 7),
        ("fold-3", 8),
    ]
    assert set(made.folds[0].splits.values()) == {"train", "val"}
    tested = Counter[str]()
    for fold, source in zip(made.folds[1:], "ABC", strict=True):
        sides = {photo.path: fold.splits[photo.path] for photo in rows}
        learned = {photo.photo_group for photo in rows if sides[photo.path] in ("train", "val")}
        for photo in rows:
            side = sides[photo.path]
            assert (side == "test") == (photo.source == source and photo.photo_group != 9999 and photo.label != "only")
            assert photo.source != source or side in ("test", EXCLUDED)
            if side in ("test", EXCLUDED):
                assert photo.photo_group not in learned
        tested.update(path for path, side in sides.items() if side == "test")
    shared = {photo.path for photo in rows if photo.photo_group == 9999}
    assert tested == Counter(p.path for p in rows if p.path not in shared and p.label != "only")
    # a group of two sources is left out where these are, and trained on in the fold of the third
    assert {fold.name: {fold.splits[path] for path in shared} & {EXCLUDED} for fold in made.folds[1:]} == {
        "fold-1": {EXCLUDED},
        "fold-2": {EXCLUDED},
        "fold-3": set(),
    }
    assert make(rows, BY_SOURCE, 1, 5) == made
    assert make(rows, BY_SOURCE, 1, 6) != made


def test_a_class_with_one_other_group_is_trained_on_and_not_validated() -> None:
    rows = photos({"A": {"x": 5, "y": 4, "z": 1}, "B": {"x": 5, "y": 4, "z": 2}})
    second = make(rows, BY_SOURCE, 1, 0).folds[2]
    assert {second.splits[photo.path] for photo in rows if photo.source == "A" and photo.label == "z"} == {"train"}
    assert {second.splits[photo.path] for photo in rows if photo.source == "B"} == {"test"}


def test_where_the_folders_allow_it_they_are_scored_as_they_came_too() -> None:
    counts = {"A": {"x": 4, "y": 4}, "B": {"x": 4, "y": 4}}
    train, tests = photos(counts, "train"), photos(counts, "test")
    tests = [replace(p, path=f"t{p.path}", photo_group=p.photo_group + 100) for p in tests]
    assert [fold.name for fold in make(train + tests, BY_SOURCE, 1, 0).folds] == [
        "final",
        "fold-1",
        "fold-2",
        "original",
    ]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([replace(photo, source="") for photo in THREE[:3]] + THREE[3:], "3 photos have no source"),
        ([replace(photo, source="A") for photo in THREE], "two sources are needed"),
        (photos({"A": {"x": 5, "y": 5}, "B": {"x": 5}}), "without source 'A' photos of 1 classes are left"),
        (photos({"A": {"x": 5, "y": 5}, "B": {"x": 5, "y": 5}, "C": {"z": 5}}), "source 'C' has no photos of its own"),
        (photos({"A": {"x": 5, "y": 5}, "B": {"x": 5, "y": 5, "z": 1}}), "class 'z' has 1 photo groups"),
    ],
)
def test_what_cannot_be_split_by_source_says_so(rows: list[Row], problem: str) -> None:
    with pytest.raises(SplitError, match=problem) as caught:
        make(rows, BY_SOURCE, 1, 0)
    assert caught.value.remedy
    with pytest.raises(SplitError, match="2 folds"):
        make(THREE, BY_SOURCE, 2, 0)


@pytest.mark.parametrize("broken", ["trained on", "copy trained on", "left out", "tested twice", "fold lacks"])
def test_a_broken_promise_is_found(broken: str) -> None:
    rows = joined(THREE, "A/x/0-0.jpg", "B/x/1-0.jpg")
    made = make(rows, BY_SOURCE, 1, 0)
    folds = {fold.name: Fold(fold.name, fold.seed, dict(fold.splits)) for fold in made.folds}
    check(rows, Split(BY_SOURCE, list(folds.values())))
    if broken == "trained on":
        folds["fold-1"].splits["A/x/1-0.jpg"] = "train"
    elif broken == "copy trained on":
        folds["fold-1"].splits["B/x/1-0.jpg"] = "train"
    elif broken == "left out":
        folds["fold-2"].splits["B/x/2-0.jpg"] = EXCLUDED
    elif broken == "tested twice":
        folds["fold-2"].splits.update(folds["fold-1"].splits)
    else:
        del folds["fold-3"]
    with pytest.raises(SplitError):
        check(rows, Split(BY_SOURCE, list(folds.values())))


def test_photos_of_none_of_the_classes_are_tested_even_where_none_was_learned() -> None:
    rows = photos({"A": {"x": 5, "y": 5}, "B": {"x": 5, "y": 5}, "nails": {"other": 4}})
    made = make(rows, BY_SOURCE, 1, 0)
    of_nails = made.folds[3].splits
    assert {side for path, side in of_nails.items() if path.startswith("nails/")} == {"test"}
    assert {side for path, side in made.folds[1].splits.items() if path.startswith("nails/")} == {"train", "val"}
    few = photos({"A": {"x": 5, "other": 5}, "B": {"x": 5, "y": 5, "other": 5}})
    with pytest.raises(SplitError, match="without source 'B' photos of 1 classes are left"):
        make(few, BY_SOURCE, 1, 0)
