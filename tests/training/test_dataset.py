from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, write_photos
from conftest import row as made
from PIL import Image
from torch import Tensor

from spectraderm.core.errors import DatasetError
from spectraderm.core.files import sha256
from spectraderm.data.manifest import Row, open_photo
from spectraderm.images.decoding import decode
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training import dataset

SMALL = Preprocessing(size=32)
GROUPS = np.array([0, 0, 0, 1, 2, 2, 5, 5, 5, 5])


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    paths = write_photos(tmp_path / "photos", {"a": 3, "b": 2})
    sums = [sha256((tmp_path / "photos" / path).read_bytes()) for path in paths]
    return [replace(made(path, path[0], i), sha256=sums[i]) for i, path in enumerate(paths)]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the photos that are decoded."""
    seen: list[str] = []

    def counted(root: Path, row: Row) -> Image.Image:
        seen.append(row.path)
        return open_photo(root, row)

    monkeypatch.setattr(dataset, "open_photo", counted)
    return seen


def decoded(tmp_path: Path, rows: list[Row], preprocessing: Preprocessing = SMALL) -> dataset.Decoded:
    return dataset.Decoded(tmp_path / "photos", rows, preprocessing, tmp_path / "cache")


def stored(tmp_path: Path, rows: list[Row], preprocessing: Preprocessing = SMALL) -> Pixels:
    pixels = decoded(tmp_path, rows, preprocessing)
    pixels.store()
    return pixels[:]


def test_pixels_are_those_of_the_one_preprocessing_and_decoded_when_asked_for(
    tmp_path: Path, rows: list[Row], seen: list[str]
) -> None:
    pixels = decoded(tmp_path, rows)
    expected = [SMALL(decode((tmp_path / "photos" / row.path).read_bytes()).image) for row in rows]
    assert np.array_equal(pixels[np.array([3, 1])], [expected[3], expected[1]])
    assert seen == [rows[3].path, rows[1].path]
    assert pixels[np.array([], int)].shape == (0, 32, 32, 3)
    assert np.array_equal(pixels[:], expected)  # stored, for that many were asked for
    assert np.array_equal(pixels[np.array([3, 1])], [expected[3], expected[1]])
    assert len(seen) == 2 + 5
    assert pixels[:].dtype == np.uint8


def test_photos_that_will_be_needed_often_are_decoded_once(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    pixels = dataset.Decoded(tmp_path / "photos", rows, SMALL, tmp_path / "cache", often=True)
    for row in range(5):
        assert np.array_equal(pixels[row : row + 1], pixels[:][row : row + 1])
    assert sorted(seen) == sorted(row.path for row in rows)


def test_a_photo_that_changed_or_vanished_is_named(tmp_path: Path, rows: list[Row]) -> None:
    (tmp_path / "photos" / rows[3].path).write_bytes(encode(paint(99)))
    with pytest.raises(DatasetError, match=f"{rows[3].path} was changed since the audit.*new run folder"):
        stored(tmp_path, rows)
    assert not any((tmp_path / "cache").glob("pixels-*"))
    (tmp_path / "photos" / rows[2].path).unlink()
    with pytest.raises(DatasetError, match=f"{rows[2].path} can't be read any more.*audit"):
        decoded(tmp_path, rows)[1:3]


def test_stored_pixels_are_mapped_and_serve_later_trainings(tmp_path: Path, rows: list[Row], seen: list[str]) -> None:
    first = np.array(stored(tmp_path, rows))
    seen.clear()
    again = decoded(tmp_path, rows)
    again.store()
    assert np.array_equal(again[:], first)
    assert isinstance(again[:], np.memmap)
    assert np.array_equal(again[np.array([4, 0, 4])], first[[4, 0, 4]])
    assert seen == []
    stored(tmp_path, rows, Preprocessing(size=48))  # another size is another file
    stored(tmp_path, rows[:4])  # and so are other photos
    assert len(seen) == 5 + 4


def test_a_file_that_is_not_whole_is_written_again(tmp_path: Path, rows: list[Row]) -> None:
    whole = np.array(stored(tmp_path, rows))
    (path,) = (tmp_path / "cache").glob("pixels-*.npy")
    path.write_bytes(path.read_bytes()[:-7])
    assert np.array_equal(stored(tmp_path, rows), whole)


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
