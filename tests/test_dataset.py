from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, write_photos

from spectraderm.artifacts import sha256
from spectraderm.data import audit
from spectraderm.data.manifest import Row
from spectraderm.errors import DatasetError
from spectraderm.preprocessing import Pixels, Preprocessing, decode
from spectraderm.progress import T, Track, no_track
from spectraderm.training import dataset

SMALL = Preprocessing(size=32)
GROUPS = np.array([0, 0, 0, 1, 2, 2, 5, 5, 5, 5])


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    write_photos(tmp_path / "photos", {"a": 3, "b": 2})
    return audit.audit(tmp_path / "photos", tmp_path / "run").rows


def stop_after(count: int) -> Track:
    def track(items: Iterable[T], description: str, total: int) -> Iterable[T]:
        for number, item in enumerate(items):
            if number == count:
                raise KeyboardInterrupt
            yield item

    return track


def decoded(tmp_path: Path, rows: list[Row], preprocessing: Preprocessing = SMALL) -> dataset.Decoded:
    return dataset.Decoded(tmp_path / "photos", rows, preprocessing, tmp_path / "cache")


def read(tmp_path: Path, rows: list[Row], track: Track = no_track, preprocessing: Preprocessing = SMALL) -> Pixels:
    return decoded(tmp_path, rows, preprocessing).all(track)


def test_pixels_are_those_of_the_one_preprocessing(tmp_path: Path, rows: list[Row]) -> None:
    pixels = read(tmp_path, rows)
    assert pixels.shape == (5, 32, 32, 3)
    assert pixels.dtype == np.uint8
    for row, own in zip(rows, pixels, strict=True):
        data = (tmp_path / "photos" / row.path).read_bytes()
        assert np.array_equal(own, SMALL(decode(data).image))


def test_a_changed_photo_is_named(tmp_path: Path, rows: list[Row]) -> None:
    (tmp_path / "photos" / rows[3].path).write_bytes(encode(paint(99)))
    with pytest.raises(DatasetError, match=f"{rows[3].path} was changed since the audit.*new run folder"):
        read(tmp_path, rows)


def test_a_vanished_photo_is_named(tmp_path: Path, rows: list[Row]) -> None:
    (tmp_path / "photos" / rows[2].path).unlink()
    with pytest.raises(DatasetError, match=f"{rows[2].path} can't be read any more.*audit"):
        read(tmp_path, rows)


def test_pixels_are_cached_and_read_once(tmp_path: Path, rows: list[Row]) -> None:
    first = np.array(read(tmp_path, rows))
    for row in rows:
        (tmp_path / "photos" / row.path).unlink()
    assert np.array_equal(read(tmp_path, rows), first)
    with pytest.raises(DatasetError):  # another size is another cache
        read(tmp_path, rows, preprocessing=Preprocessing(size=48))
    with pytest.raises(DatasetError):  # and so are other photos
        read(tmp_path, rows[:4])


def test_an_interrupted_cache_never_gets_its_name(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "BATCH", 2)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, rows, stop_after(1))
    assert [file.name for file in (tmp_path / "cache").iterdir() if not file.name.startswith(".")] == []
    assert read(tmp_path, rows).any((1, 2, 3)).all()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_only_what_is_asked_for_is_decoded_and_once(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen, plain = np.array(read(tmp_path, rows)), [], dataset.read_photo

    def counted(root: Path, row: Row, preprocessing: Preprocessing) -> Pixels:
        seen.append(row.path)
        return plain(root, row, preprocessing)

    monkeypatch.setattr(dataset, "read_photo", counted)
    (pixels,) = (tmp_path / "cache").iterdir()
    pixels.unlink()
    own = decoded(tmp_path, rows)
    assert np.array_equal(own[np.array([3, 1, 3])], whole[[3, 1, 3]])
    assert sorted(seen) == [rows[1].path, rows[3].path]
    own.close()
    assert list((tmp_path / "cache").iterdir()) == []  # what is not whole is not left behind
    again = decoded(tmp_path, rows)
    assert np.array_equal(again[1:3], whole[1:3])
    assert np.array_equal(again[np.arange(5)[::-1]], whole[::-1])
    assert np.array_equal(again.all(no_track), whole)
    assert len(seen) == 2 + 5
    again.close()
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [pixels.name]


def test_things_are_made_ahead_in_order_and_what_fails_is_raised() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        if number == 5:
            raise ZeroDivisionError
        return -number

    things = dataset.ahead(range(10), make)
    assert next(things) == 0
    assert len(made) <= 1 + dataset.AHEAD
    assert [next(things) for _ in range(4)] == [-1, -2, -3, -4]
    with pytest.raises(ZeroDivisionError):
        next(things)
    assert list(dataset.ahead([], make)) == []


def test_the_digest_says_photos_and_preprocessing() -> None:
    names = [sha256(b"1"), sha256(b"2")]
    others = [(names[::-1], SMALL), (names[:1], SMALL), (names, Preprocessing(size=48)), (names, Preprocessing(32))]
    digests = [dataset.digest(*other) for other in others]
    assert [digest == dataset.digest(names, SMALL) for digest in digests] == [False, False, False, True]


def test_an_epoch_by_file_shows_every_file_once() -> None:
    order = dataset.epoch_order(GROUPS, False, 0, 1)
    assert sorted(order.tolist()) == list(range(len(GROUPS)))


def test_an_epoch_by_photo_shows_one_file_of_every_group() -> None:
    shown = set()
    for epoch in range(1, 40):
        order = dataset.epoch_order(GROUPS, True, 0, epoch)
        assert sorted(GROUPS[order].tolist()) == [0, 1, 2, 5]
        shown |= set(order.tolist())
    assert shown == set(range(len(GROUPS)))  # in time, every file has its turn


@pytest.mark.parametrize("by_photo", [False, True])
def test_the_order_follows_from_seed_and_epoch_alone(by_photo: bool) -> None:
    groups = np.arange(50) // 2
    order = dataset.epoch_order(groups, by_photo, 3, 1).tolist()
    assert dataset.epoch_order(groups, by_photo, 3, 1).tolist() == order
    assert dataset.epoch_order(groups, by_photo, 3, 2).tolist() != order
    assert dataset.epoch_order(groups, by_photo, 4, 1).tolist() != order
