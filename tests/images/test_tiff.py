"""Every way to store a TIFF gives the pixels that its writer meant, or an error that names the way."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from conftest import paint
from PIL import Image
from tiffs import Samples, tiff

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images.decoding import decode, open_photo

RGB = np.asarray(paint(1, (45, 38)))
GREY = np.asarray(paint(1, (45, 38)).convert("L"))[..., None]
ALPHA = np.asarray(paint(2, (45, 38)).convert("L"))[..., None]
CMYK = np.dstack([RGB, GREY // 2])
WIDE, WIDE_GREY, WIDE_CMYK = (pixels.astype(np.uint16) * 257 for pixels in (RGB, GREY, CMYK))
INKED = np.rint((255.0 - RGB) * (255.0 - GREY // 2) / 255).astype(np.uint8)
OVER_WHITE = np.rint(RGB * (ALPHA / 255) + 255 - ALPHA).astype(np.uint8)
MULTIPLIED = OVER_WHITE - (255 - ALPHA)
PALETTE = np.random.default_rng(1).integers(0, 65536, (3, 256))
ZIP: dict[str, Any] = {"compression": 8, "compress": zlib.compress}
LOW_BIT_FIRST = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


@pytest.mark.parametrize(
    ("samples", "colours", "options", "expected"),
    [
        (GREY, 1, {}, GREY),
        (GREY, 0, {}, 255 - GREY),
        (GREY >> 7, 1, {"bits": 1}, (GREY >> 7) * 255),
        (GREY >> 7, 0, {"bits": 1, **ZIP}, 255 - (GREY >> 7) * 255),
        (GREY >> 6, 1, {"bits": 2, "tile": (16, 32)}, (GREY >> 6) * 85),
        (GREY >> 4, 0, {"bits": 4, "rows": 7}, 255 - (GREY >> 4) * 17),
        (WIDE_GREY, 1, {}, GREY),
        (WIDE_GREY, 1, {"order": ">", "rows": 5}, GREY),
        (RGB, 2, {"planar": 2, "rows": 9}, RGB),
        (RGB, 2, {"big": True, "tile": (16, 16)}, RGB),
        (RGB, 2, {"tags": {258: [8]}}, RGB),
        (WIDE, 2, {}, RGB),
        (WIDE, 2, {"order": ">", "tile": (32, 16)}, RGB),
        (WIDE, 2, {"planar": 2, **ZIP}, RGB),
        (WIDE, 2, {"planar": 2, "order": ">", **ZIP}, RGB),
        (np.dstack([RGB, ALPHA]), 2, {"tags": {338: [0]}}, RGB),
        (np.dstack([RGB, ALPHA]), 2, {"tags": {338: [2]}}, OVER_WHITE),
        (np.dstack([RGB, ALPHA]), 2, {"tags": {338: [2]}, "planar": 2}, OVER_WHITE),
        (np.dstack([MULTIPLIED, ALPHA]), 2, {"tags": {338: [1]}}, OVER_WHITE),
        (GREY, 3, {"tags": {320: PALETTE.ravel().tolist()}}, (PALETTE >> 8).T[GREY[..., 0]]),
        (CMYK, 5, {}, INKED),
        (CMYK, 5, {"planar": 2}, INKED),
        (WIDE_CMYK, 5, {"order": ">"}, INKED),
        (RGB, 2, {"tags": {266: [2]}, "compress": lambda data: data.translate(LOW_BIT_FIRST)}, RGB),
        (np.rot90(RGB), 2, {"tags": {274: [6]}}, RGB),
    ],
)  # fmt: skip
def test_what_is_read_is_what_was_meant(
    samples: Samples, colours: int, options: dict[str, Any], expected: Samples
) -> None:
    pixels = np.asarray(decode(tiff(samples, colours, **options)).image).astype(int)
    assert np.abs(pixels - np.broadcast_to(expected, pixels.shape)).max() <= 2 * (338 in options.get("tags", {}))


@pytest.mark.parametrize(
    ("samples", "colours", "options", "problem"),
    [
        (WIDE, 2, {"planar": 2}, "of 16-bit RGB in separate planes"),
        (WIDE, 2, {"planar": 2, "order": ">", "tile": (16, 16)}, "of 16-bit RGB in separate planes"),
        (WIDE_CMYK, 5, {"planar": 2}, "of 16-bit CMYK in separate planes"),
        (GREY, 0, {"planar": 2}, "of 8-bit white-is-zero grey in separate planes"),
        (WIDE_GREY, 0, {}, "of 16-bit white-is-zero grey"),
        (WIDE_GREY >> 4, 1, {"bits": 12}, "of 12-bit grey"),
        (WIDE >> 6, 2, {"bits": 10}, "of 10-bit RGB"),
        (WIDE.astype(np.uint32), 2, {}, "of 32-bit RGB"),
        (WIDE_GREY.astype(np.uint32), 1, {}, "of 32-bit grey"),
        (RGB, 2, {"tags": {258: [5, 6, 5]}}, "of 5-6-bit RGB"),
        ((GREY // 2).astype(np.int8), 1, {}, "of signed, floating-point or undefined numbers"),
        ((WIDE_GREY // 2).astype(np.int16), 1, {}, "of signed, floating-point or undefined numbers"),
        ((RGB / 255).astype(np.float32), 2, {}, "of signed, floating-point or undefined numbers"),
        ((GREY / 255).astype(np.float16), 1, {}, "of signed, floating-point or undefined numbers"),
        (GREY >> 7, 4, {"bits": 1}, "in mask colours"),
        (RGB, 6, {}, "of 8-bit YCbCr in compression 1"),
        (RGB, 6, ZIP, "of 8-bit YCbCr in compression 8"),
        (RGB, 8, {}, "in CIELab colours"),
        (RGB, 9, ZIP, "in ICCLab colours"),
        (WIDE, 32845, {}, "in LogLuv colours"),
        (WIDE_GREY, 32803, {}, "in raw sensor colours"),
        (RGB, 99, {}, r"in unknown \(99\) colours"),
        (RGB, 2, {"tags": {262: None}}, "in unstated colours"),
        (RGB, 1, {"tags": {338: [0, 0]}}, "of 8-bit grey with extra samples of the kinds 0, 0"),
        (RGB, 1, {}, "of 8-bit grey with 3 samples a pixel"),
        (np.dstack([RGB, ALPHA]), 2, {"tags": {338: [999]}}, "extra samples of the kind 999"),
        (np.dstack([GREY, ALPHA]), 1, {"tags": {338: [2]}, "planar": 2, **ZIP}, "in separate planes"),
        (np.dstack([RGB, ALPHA]), 2, {"planar": 2, **ZIP}, "with 4 samples a pixel"),
        (WIDE, 2, {"tags": {277: [4]}}, "of 16-bit RGB with 4 samples a pixel"),
        (GREY >> 4, 1, {"bits": 4, "tags": {317: [2]}, **ZIP}, "with predictor 2 in compression 8"),
        (CMYK, 5, {"tags": {332: [2]}}, "of 8-bit CMYK with other inks"),
        (GREY, 3, {"tags": {320: [n % 256 for n in range(768)]}}, "without a palette of 16-bit levels"),
        (RGB, 2, {"compression": 6}, "in compression 6"),
        (RGB, 2, {"compression": 50001}, "in compression 50001"),
        (RGB, 2, {"tags": {317: [2]}}, "with predictor 2 in compression 1"),
        (GREY >> 6, 1, {"bits": 2, "tags": {266: [2]}}, "of 2-bit grey whose bytes begin with their lowest bit"),
        (RGB, 2, {"tags": {266: [2]}, "planar": 2}, "of 8-bit RGB in separate planes"),
        (RGB, 2, {"tags": {254: [1]}}, "that begins with a thumbnail or a mask"),
        (RGB, 2, {"tags": {255: [2]}}, "that begins with a thumbnail or a mask"),
        (RGB, 2, {"tags": {278: [7]}}, "of 1 strips or tiles instead of 6"),
        (RGB, 2, {"rows": 5, "tags": {278: [38]}}, "of 8 strips or tiles instead of 1"),
        (RGB, 2, {"tile": (16, 16), "tags": {322: [48]}}, "of 9 strips or tiles instead of 3"),
        (RGB, 2, {"tags": {258: [16] * 3}}, "of 5130 bytes of pixels instead of 10260"),
        (RGB, 2, {"order": ">", "big": True}, "of the kind BigTIFF in big-endian order"),
    ],
)  # fmt: skip
def test_what_would_be_misread_is_refused_by_name(
    samples: Samples, colours: int, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UnreadablePhoto, match=rf"^x\.tif: a TIFF .*{problem} can't be read safely") as caught:
        decode(tiff(samples, colours, **options), "x.tif")
    assert "Save it as" in str(caught.value.remedy)


def test_a_pillow_image_of_such_a_file_is_refused_and_another_left_where_it_was() -> None:
    with (
        Image.open(io.BytesIO(tiff(WIDE, 2, planar=2))) as image,
        pytest.raises(UnreadablePhoto, match="separate planes"),
    ):
        open_photo(image)
    with Image.open(io.BytesIO(tiff(WIDE, 2))) as image:
        np.testing.assert_array_equal(np.asarray(open_photo(image)), RGB)
        np.testing.assert_array_equal(np.asarray(image), RGB)
