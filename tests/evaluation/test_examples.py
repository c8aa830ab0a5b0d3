import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encode, paint
from handmade import LABELS, Said, leaking_run, write_run
from pages import pictures, report
from PIL import Image

from spectraderm.core.files import write_arrays, write_csv
from spectraderm.core.run import COPIES, Run

pytestmark = pytest.mark.usefixtures("quick_report")


def photos_of(folder: Path, *names: str, image: Image.Image | None = None) -> Path:
    """A folder of photos, of which those of the given names are there."""
    for name in ("test/d.jpg", *names):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(encode(image or paint(len(name))))
    return folder / "photos"


def test_the_wrong_photos_are_shown_once_the_surest_first_without_what_a_camera_notes(tmp_path: Path) -> None:
    root = photos_of(tmp_path)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Jane Doe, ward 7", 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 7.5)})
    info: dict[str, Any] = {"exif": exif, "comment": b"Jane Doe", "icc_profile": b"Jane Doe's profile"}
    for name in ("a", "b", "d"):
        (root / f"test/{name}.jpg").write_bytes(encode(paint(ord(name), (300, 200)), **info))
    assert b"Jane Doe" in (root / "test/b.jpg").read_bytes()
    page = report(leaking_run(tmp_path / "run", root))
    shown = pictures(page)
    assert len(shown) == 2
    assert page.text.index("test/d.jpg") < page.text.index("test/b.jpg")
    assert "test/a.jpg" not in page.text
    for data in shown:
        assert b"Jane" not in data
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.width < picture.height  # upright
            assert not picture.getexif()


def test_copies_of_one_error_are_counted_not_shown(tmp_path: Path) -> None:
    a, b, d = LABELS
    rows = [Said("t", 0, "train", a, a), Said("v", 1, "val", b, b), Said("w", 2, "val", d, d)]
    wrong = [Said(f"same-{i}", 7, "test", a, b, 1.0 + i) for i in range(3)]
    page = report(write_run(tmp_path, {"final": [*rows, *wrong, Said("zebra", 8, "test", d, b, 0.5)]}, "deduplicated"))
    assert "also wrong on 2 copies" in page.text
    assert ["same-0" in page.text, "same-1" in page.text, "same-2" in page.text] == [False, False, True]
    assert page.text.index("same-2") < page.text.index("zebra")


def test_the_map_lies_where_the_evidence_is(tmp_path: Path) -> None:
    grey = Image.new("RGB", (400, 200), (128, 128, 128))
    run = leaking_run(tmp_path / "run", photos_of(tmp_path, "test/b.jpg", image=grey))
    heat = np.full((1, 7, 7), -3, np.float16)
    heat[0, 5:, 5:] = 2
    path = Run(run).fold("final").heatmaps
    write_arrays(path, rows=np.array([5]), maps=heat)  # of test/d.jpg
    shown = pictures(report(run))
    assert len(shown) == 3
    with Image.open(io.BytesIO(shown[1])) as picture:
        assert picture.width == picture.height  # squashed, as the model sees it
        left, right = (np.asarray(picture, float)[i, i] for i in (20, -10))
    assert np.ptp(left) < 8
    assert right[1] - right[2] > 60
    path.write_bytes(b"broken")
    assert len(pictures(report(run))) == 2


def test_leaks_are_shown_beside_their_twins(tmp_path: Path) -> None:
    run = leaking_run(tmp_path / "run", photos_of(tmp_path, "train/d.jpg"))
    columns = ("path", "twin", "kind", "path_split", "twin_split")
    within = ("train/a.jpg", "train/b.jpg", "exact", "train", "train")
    lines = [("test/d.jpg", "train/d.jpg", "crop", "test", "train"), within]
    records = (dict(zip(columns, line, strict=True)) for line in lines)
    write_csv(run / COPIES, columns, records)
    page = report(run)
    assert "1 test photos are copies (crop or zoom: 1)" in page.text
    assert "train/d.jpg" in page.text
    assert "train/b.jpg" not in page.text
    assert len(pictures(page)) == 3  # the pair, and the same test photo among the errors
    assert "gallery.html" in page.text
    assert {"Test photo of D", "Its twin in train", "Photo of D"} <= set(page.alts)
    (tmp_path / "photos/test/d.jpg").write_bytes(b"broken")
    shutil.rmtree(tmp_path / "photos/train")
    page = report(run)
    assert not pictures(page)
    assert "test/d.jpg" in page.text
