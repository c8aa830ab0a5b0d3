"""One's own photos: read, left out with a reason, and grouped."""

from pathlib import Path

import numpy as np
import pytest
from conftest import paint
from PIL import Image

from spectraderm.core.errors import DatasetError
from spectraderm.data import duplicates, own_photos
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.images.photo_files import DEBRIS
from spectraderm.images.preprocessing import Preprocessing


def save(folder: Path, *seeds: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        paint(seed).resize((300, 240)).save(folder / f"{seed}.png")


def test_photos_are_read_with_their_folders_and_what_is_no_photo_is_told(tmp_path: Path) -> None:
    save(tmp_path / "mine/a", 1, 2)
    save(tmp_path / "mine/b/deeper", 3)
    save(tmp_path / "rest/x", 4)
    save(tmp_path / "mine/.hidden", 5)
    (tmp_path / "mine/b/broken.jpg").write_bytes(b"no photo")
    Image.new("RGB", (300, 300), "black").save(tmp_path / "mine/a/black.png")
    photos = own_photos.read(tmp_path / "mine", Preprocessing(64), tmp_path / "rest")
    assert photos.folders == ["a", "a", "b", "other"]
    assert photos.pixels.shape == (4, 64, 64, 3)
    assert [Path(line.split(":")[0]).name for line in photos.left_out] == ["black.png", "broken.jpg"]
    assert [Path(line.split(":")[0]).name for line in photos.beside.unreadable] == ["broken.jpg"]
    assert [Path(path).name for path in photos.beside.left_out[DEBRIS]] == [".hidden"]
    (tmp_path / "mine/z").mkdir()
    (tmp_path / "mine/z/broken.jpg").write_bytes(b"no photo")
    with pytest.raises(DatasetError, match="no photo of 'z'"):
        own_photos.read(tmp_path / "mine", Preprocessing(64))


def test_copies_are_those_that_an_audit_groups() -> None:
    images = [paint(seed) for seed in range(20)]
    images += [images[3].transpose(Image.Transpose.ROTATE_90), images[7].resize((60, 50)), images[3]]
    hashes = np.stack([turned_hashes(image) for image in images])
    groups = own_photos.copies(hashes)
    expected = duplicates.photo_groups(len(hashes), duplicates.near_pairs(hashes))
    assert groups.tolist() == expected.tolist()
    assert own_photos.conflict(["a"] * 23, groups) is None
    assert own_photos.conflict(["a"] * 22 + ["b"], groups) == (3, 22)


def test_photos_of_one_patient_are_one_group_as_an_audit_has_it() -> None:
    copies = np.array([0, 1, 1, 2, 3, 4])
    keys = [[("patient", "p")], [], [("patient", "p")], [("lesion", "l"), ("patient", "q")], [("lesion", "l")], []]
    pairs = np.array([[1, 2]])
    assert own_photos.join(copies, keys).tolist() == duplicates.photo_groups(6, pairs, keys).tolist()
