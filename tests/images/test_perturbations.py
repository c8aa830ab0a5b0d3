import io

import numpy as np
import pytest
from conftest import encode, paint
from PIL import Image

from spectraderm.images.perturbations import CHANGES

GREY = (128, 128, 128)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("size", [(300, 200), (16, 320), (17, 16)])
def test_a_change_gives_another_photo_and_leaves_the_one_it_got(name: str, size: tuple[int, int]) -> None:
    photo = paint(1, size)
    before = photo.tobytes()
    changed = CHANGES[name](photo)
    assert (changed.mode, photo.tobytes(), photo.size) == ("RGB", before, size)
    assert changed.tobytes() != before


def test_turns_and_mirrors_move_pixels_and_keep_them() -> None:
    photo = paint(2)
    pixels = np.asarray(photo)
    moved = {"mirrored": pixels[:, ::-1], "turned": np.rot90(pixels), "upside down": pixels[::-1, ::-1]}
    for name, expected in moved.items():
        np.testing.assert_array_equal(np.asarray(CHANGES[name](photo)), expected)


def test_re_encoding_is_jpeg_of_128_pixels_at_most_at_quality_60() -> None:
    assert CHANGES["re-encoded"](paint(3, (200, 400))).size == (64, 128)
    assert CHANGES["re-encoded"](paint(3, (60, 40))).size == (60, 40)
    photo = paint(4, (128, 96))  # small enough that nothing is scaled
    saved = {quality: Image.open(io.BytesIO(encode(photo, quality=quality))) for quality in (50, 60, 70)}
    ours = CHANGES["re-encoded"](photo).tobytes()
    assert [quality for quality, image in saved.items() if image.convert("RGB").tobytes() == ours] == [60]


def test_only_the_outer_tenth_is_blanked() -> None:
    photo = Image.new("RGB", (200, 100), (255, 0, 0))
    pixels = np.asarray(CHANGES["border blanked"](photo))
    assert (pixels[10:90, 20:180] == (255, 0, 0)).all()
    grey = (pixels == GREY).all(2)
    assert grey.sum() == 200 * 100 - 160 * 80
    assert not grey[10:90, 20:180].any()
