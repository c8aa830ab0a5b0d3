import os
import signal
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, write_photos
from PIL import Image

from spectraderm.core.errors import WriteError
from spectraderm.core.progress import no_track
from spectraderm.data import measurements
from spectraderm.data.measurements import Embedding, Measured, Store, arrays, glance, grey, measure_all
from spectraderm.data.shortcuts import NAMES
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.images.preprocessing import Preprocessing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five photos, a file that is none, and a link to nothing."""
    write_photos(tmp_path / "photos", {"a": 5})
    (tmp_path / "photos/a/bad.jpg").write_bytes(b"no photo")
    (tmp_path / "photos/a/gone.jpg").symlink_to("nothing.jpg")
    return tmp_path / "photos"


PATHS = [*(f"a/{number:02d}.jpg" for number in range(5)), "a/bad.jpg", "a/gone.jpg"]


def test_the_border_is_the_outer_tenth_and_nothing_else() -> None:
    image = Image.new("RGB", (200, 100), (10, 20, 30))
    before = glance(image)
    image.paste((250, 0, 0), (20, 10, 180, 90))
    after = glance(image)
    assert np.array_equal(before["border"], after["border"])
    assert after["border"][:6].tolist() == [10, 20, 30, 0, 0, 0]
    image.paste((90, 90, 90), (180, 0, 200, 100))  # the right side
    right = glance(image)["border"].reshape(4, 6)
    assert right[3].tolist() == [90, 90, 90, 0, 0, 0]
    assert right[2].tolist() == [10, 20, 30, 0, 0, 0]


def test_a_glance_averages_the_photo() -> None:
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[:10, 10:20] = (64, 128, 255)
    seen = glance(Image.fromarray(pixels))
    assert seen["mean_colour"] == pytest.approx(np.array([64, 128, 255]) / 64)
    coarse = seen["pixels_8x8"].reshape(8, 8, 3)
    assert coarse[0, 1].tolist() == [64, 128, 255]
    assert coarse.sum() == 64 + 128 + 255


def test_every_shortcut_has_its_column(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encode(paint(1), "PNG"))
    content = arrays(measure_all(tmp_path, ["1.png"], tmp_path / "run", no_track).table)
    widths = {name: content[name].shape for name in NAMES}
    assert widths == dict(zip(NAMES, [(1, 1), (1, 6), (1, 4), (1, 1), (1, 12), (1, 3), (1, 24), (1, 192)], strict=True))
    assert all(content[name].dtype == np.float32 for name in NAMES)
    assert content["file_size"].tolist() == [[(tmp_path / "1.png").stat().st_size]]
    assert content["format"].tolist() == [[0, 1, 0, 0, 0, 0]]
    assert content["dimensions"][0].tolist() == pytest.approx([96, 72, 96 * 72, 4 / 3])


def test_views_are_those_of_the_photos_that_can_be_read(root: Path) -> None:
    embedding = Embedding(Preprocessing(size=4), lambda pixels: pixels.reshape(len(pixels), -1).astype(np.float32))
    photos = measure_all(root, ["a/bad.jpg", *PATHS], root.parent / "run", no_track, embedding)
    assert [bool(reason) for reason in photos.reasons] == [True] + 5 * [False] + 2 * [True]
    assert "a/gone.jpg can't be read" in photos.reasons[-1]
    assert photos.features is not None
    assert photos.features.shape == (5, 48)
    content = arrays(photos.table)
    for number, path in enumerate(PATHS[:5]):
        with Image.open(root / path) as photo:
            assert content["hashes"][number].tobytes() == turned_hashes(photo).tobytes()
            colour = np.asarray(photo, np.float64).mean((0, 1))
            np.testing.assert_allclose(content["mean_colour"][number], colour, atol=2)
            assert np.array_equal(photos.grey(number), grey(photo))
            assert photos.features[number].tolist() == Preprocessing(size=4)(photo).ravel().tolist()
        assert photos.thumbnail(number).startswith("data:image/jpeg;base64,")
    assert list((root.parent / "run").iterdir()) == []  # what is kept meanwhile has no name


def test_many_photos_are_measured_by_processes_to_the_same_numbers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = measure_all(root, PATHS, root.parent / "run", no_track)
    monkeypatch.setattr(measurements, "MANY", 5)
    many = measure_all(root, PATHS, root.parent / "run", no_track)
    assert few.reasons == many.reasons
    assert few.table.tobytes() == many.table.tobytes()


def test_a_photo_that_kills_its_process_is_named_and_costs_no_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = measurements.measure

    def killed_by_one(root: Path, path: str, _: Preprocessing | None) -> Measured | str:
        if path == "a/02.jpg":  # as where memory runs out, or a decoder crashes
            os.kill(os.getpid(), signal.SIGKILL)
        return really(root, path)

    monkeypatch.setattr(measurements, "MANY", 5)
    monkeypatch.setattr(measurements, "measure", killed_by_one)
    photos = measure_all(root, PATHS, root.parent / "run", no_track)
    assert "a/02.jpg: the process that read it was killed" in photos.reasons[2]
    assert [bool(reason) for reason in photos.reasons] == [False, False, True, False, False, True, True]
    assert len(photos.table) == 4


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(store, "_file", Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
    with pytest.raises(WriteError, match=f"{tmp_path} can't be written: the disk is full"):
        store.append(b"x")
