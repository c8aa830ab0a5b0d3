import base64
import io

import numpy as np
import pytest
from conftest import encode, paint
from PIL import Image

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images.thumbnails import data_url


def opened(url: str) -> Image.Image:
    kind, data = url.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_thumbnail_is_small_and_keeps_nothing_but_pixels() -> None:
    photo = paint(1, (400, 300))
    exif = photo.getexif()
    exif[0x010E] = "Jane Doe"
    data = encode(photo, exif=exif, comment=b"Jane Doe", icc_profile=b"Jane Doe")
    assert data.count(b"Jane Doe") == 3
    thumbnail = opened(data_url(data, 100))
    assert thumbnail.size == (100, 75)
    assert b"Jane Doe" not in base64.b64decode(data_url(data, 100).split(",")[1])
    assert not thumbnail.getexif()
    commented = Image.open(io.BytesIO(data))
    assert b"Jane Doe" not in base64.b64decode(data_url(commented, 100).split(",")[1])
    assert commented.size == (400, 300)
    wanted = np.asarray(photo.resize((100, 75), Image.Resampling.LANCZOS), np.float64)
    assert np.abs(np.asarray(thumbnail, np.float64) - wanted).mean() < 6


def test_a_thumbnail_is_upright_and_never_enlarged() -> None:
    photo = paint(2, (40, 30))
    exif = photo.getexif()
    exif[0x0112] = 6
    assert opened(data_url(encode(photo, exif=exif), 100)).size == (30, 40)
    assert opened(data_url(paint(3, (2000, 20)), 50)).size == (50, 1)
    with pytest.raises(UnreadablePhoto):
        data_url(b"no photo", 50)
