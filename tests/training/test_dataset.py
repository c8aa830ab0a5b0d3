import errno
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, write_photos
from conftest import row as made
from torch import Tensor

from spectraderm.core.artifacts import sha256
from spectraderm.core.errors import DatasetError, RunFolderError, WriteError
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import T, Track, no_track
from spectraderm.data.manifest import Row
from spectraderm.images.preprocessing import Pixels, Preprocessing, decode
from spectraderm.training import blocks, dataset

SMALL = Preprocessing(size=32)
GROUPS = np.array([0, 0, 0, 1, 2, 2, 5, 5, 5, 5])


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    paths = write_photos(tmp_path / "photos", {"a": 3, "b": 2})
    sums = [sha256((tmp_path / "photos" / path).read_bytes()) for path in paths]
    return [replace(made(path, path[0], i), sha256=sums[i]) for i, path in enumerate(paths)]


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
    return decoded(tmp_path, rows, preprocessing).all(track)[:]


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


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the photos that are decoded; blocks are of two photos, and two are decoded at a time."""
    seen: list[str] = []
    plain = dataset.read_photo

    def counted(root: Path, row: Row, preprocessing: Preprocessing) -> Pixels:
        seen.append(row.path)
        return plain(root, row, preprocessing)

    monkeypatch.setattr(dataset, "read_photo", counted)
    monkeypatch.setattr(dataset, "BATCH", 2)
    monkeypatch.setattr(blocks, "BLOCK", 2)
    return seen


def test_an_interrupted_decoding_goes_on_where_it_was(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    whole = np.array(read(tmp_path, rows))
    shutil.rmtree(tmp_path / "cache")
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path, rows, stop_after(2))
    assert sorted(seen) == [row.path for row in rows[:4]]
    assert np.array_equal(read(tmp_path, rows), whole)
    assert sorted(seen) == [row.path for row in rows]


def test_a_block_that_was_cut_off_is_decoded_again(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    whole = np.array(read(tmp_path, rows))
    shutil.rmtree(tmp_path / "cache")
    decoded(tmp_path, rows)[np.array([0, 1, 2])]
    seen.clear()
    assert np.array_equal(read(tmp_path, rows), whole)
    assert sorted(seen) == [row.path for row in rows[2:]]


@pytest.mark.parametrize("what", ["bit", "sum", "sums", "end"])
def test_what_is_damaged_is_decoded_again(what: str, tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    whole = np.array(read(tmp_path, rows))
    (pixels,), (sums,) = ((tmp_path / "cache").glob(f"*.{kind}") for kind in ("npy", "json"))
    seen.clear()
    data = bytearray(pixels.read_bytes())
    if what == "bit":
        data[-2 * 32 * 32 * 3 - 5] ^= 4  # in photo 2, of block 1
        pixels.write_bytes(data)
    elif what == "sum":
        told = json.loads(sums.read_text())
        told["sha256"]["1"] = told["sha256"]["0"]
        sums.write_text(json.dumps(told))
    elif what == "sums":
        sums.write_text(sums.read_text()[:-9])
    else:
        pixels.write_bytes(data[:-7])
    again = decoded(tmp_path, rows)
    assert np.array_equal(again[:2], whole[:2])
    assert len(seen) == (0 if what in ("bit", "sum") else 2)
    assert np.array_equal(again[np.array([4, 3])], whole[[4, 3]])
    assert np.array_equal(again.all(no_track)[:], whole)
    assert sorted(seen) == sorted(row.path for row in (rows[2:4] if what in ("bit", "sum") else rows))
    seen.clear()
    assert np.array_equal(read(tmp_path, rows), whole)  # it was mended
    assert seen == []


def test_a_process_that_may_not_write_mends_for_itself_alone(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    whole = np.array(read(tmp_path, rows))
    (pixels,) = (tmp_path / "cache").glob("*.npy")
    data = bytearray(pixels.read_bytes())
    data[-1] ^= 4
    pixels.write_bytes(data)
    before = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    seen.clear()
    other = dataset.Decoded(tmp_path / "photos", rows, SMALL, tmp_path / "cache", writes=False)
    assert np.array_equal(other[:], whole)
    other.close()
    assert seen == [rows[4].path]
    assert {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()} == before
    lost = dataset.Decoded(tmp_path / "photos", rows, SMALL, tmp_path / "elsewhere", writes=False)
    with pytest.raises(RunFolderError, match=r"pixels-.*npy can't be read.*share the run folder"):
        lost[:]


def test_a_full_disk_is_said_and_nothing_is_lost(
    tmp_path: Path, rows: list[Row], seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = np.array(read(tmp_path, rows))
    shutil.rmtree(tmp_path / "cache")
    plain, calls = blocks.Blocks.put, []

    class Full:
        def __getattr__(self, name: str) -> Callable[..., None]:
            def refuse(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            return refuse

    def put(self: blocks.Blocks, row: int, pixels: Pixels) -> None:
        calls.append(row)
        if len(calls) == 4:
            monkeypatch.setattr(self, "_file", Full())
        plain(self, row, pixels)

    monkeypatch.setattr(blocks.Blocks, "put", put)
    with pytest.raises(WriteError, match=r"pixels-.*npy can't be written"):
        read(tmp_path, rows)
    seen.clear()
    assert np.array_equal(read(tmp_path, rows), whole)
    assert sorted(seen) == [row.path for row in rows[2:]]


def test_only_what_is_asked_for_is_decoded_and_once(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    whole = np.array(read(tmp_path, rows))
    (pixels,) = (tmp_path / "cache").glob("*.npy")
    shutil.rmtree(tmp_path / "cache")
    seen.clear()
    own = decoded(tmp_path, rows)
    assert np.array_equal(own[np.array([3, 1, 3])], whole[[3, 1, 3]])
    assert sorted(seen) == [rows[1].path, rows[3].path]
    own.close()
    assert list((tmp_path / "cache").iterdir()) == []  # what is not whole is not left behind
    again = decoded(tmp_path, rows)
    assert np.array_equal(again[1:3], whole[1:3])
    assert np.array_equal(again[np.arange(5)[::-1]], whole[::-1])
    assert np.array_equal(again.all(no_track)[:], whole)
    assert len(seen) == 2 + 5
    again.close()
    assert {file.name for file in (tmp_path / "cache").iterdir()} == {pixels.name, f"{pixels.stem}.json"}


def test_some_rows_go_through_a_network_in_batches() -> None:
    photos = np.arange(40, dtype=np.float32).reshape(20, 2)
    sizes: list[int] = []

    def network(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return 2 * batch

    rows = np.array([3, 19, 0, 3, 7])
    assert np.array_equal(dataset.in_batches(photos, network, 2, rows), 2 * photos[rows])
    assert np.array_equal(dataset.in_batches(photos, network, 8), 2 * photos)
    assert sizes == [2, 2, 1, 8, 8, 4]


def test_things_are_made_ahead_in_order_and_what_fails_is_raised() -> None:
    made: list[int] = []

    def make(number: int) -> int:
        made.append(number)
        if number == 5:
            raise ZeroDivisionError
        return -number

    things = in_order(make, range(10), 1, 2)
    assert next(things) == (0, 0)
    assert len(made) <= 3
    assert [next(things) for _ in range(4)] == [(1, -1), (2, -2), (3, -3), (4, -4)]
    with pytest.raises(ZeroDivisionError):
        next(things)
    assert list(in_order(make, [], 1)) == []


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


@pytest.mark.parametrize("grouped", [False, True])
def test_the_order_follows_from_seed_and_epoch_alone(grouped: bool) -> None:
    groups = np.arange(50) // 2
    order = dataset.epoch_order(groups, grouped, 3, 1).tolist()
    assert dataset.epoch_order(groups, grouped, 3, 1).tolist() == order
    assert dataset.epoch_order(groups, grouped, 3, 2).tolist() != order
    assert dataset.epoch_order(groups, grouped, 4, 1).tolist() != order
