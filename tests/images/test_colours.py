"""What a file says of its colours counts, or the file is refused: gamma, profiles, inks, a transparent colour."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode, paint, png
from hostile_parts import jpeg_segment, png_with
from PIL import Image, ImageChops, ImageCms

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images.decoding import decode

PHOTO = paint(1)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def array(image: Image.Image) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def grey_profile() -> bytes:
    """A colour profile of grey levels that are proportional to light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0\0\0\0\0"
    text = b"desc\0\0\0\0\0\0\0\7linear\0" + bytes(78)
    tags, at = [(b"wtpt", white), (b"kTRC", curve), (b"desc", text)], 128 + 4 + 36
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    head = bytearray(128)
    head[8:24], head[36:40] = b"\2\x10\0\0mntrGRAYXYZ ", b"acsp"
    head[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    head[:4] = struct.pack(">I", 128 + len(table) + len(body))
    return bytes(head) + table + body


RAMP = np.repeat(np.arange(256, dtype=np.uint8)[None, :], 16, 0)


def ramp(*chunks: tuple[bytes, bytes], colour: int = 2) -> npt.NDArray[np.int64]:
    """The levels that come of a PNG of all levels with these chunks."""
    picture = Image.fromarray(RAMP).convert("RGB" if colour == 2 else "L")
    return array(decode(png_with(picture, chunks)).image)[0, :, 0]


@pytest.mark.parametrize(("gamma", "expected"), [(100_000, [56, 137, 188, 229]), (55_556, [10, 81, 146, 210])])
def test_a_png_of_another_gamma_is_shown_as_browsers_do(gamma: int, expected: list[int]) -> None:
    """The numbers are Chromium's."""
    levels = (b"gAMA", gamma.to_bytes(4, "big"))
    assert np.abs(ramp(levels)[[10, 64, 128, 200]] - expected).max() <= 1
    np.testing.assert_array_equal(ramp(levels, colour=0), ramp(levels))
    clear = png_with(Image.new("RGBA", (32, 32), (64, 64, 64, 128)), [levels])  # before it is laid over white
    assert abs(array(decode(clear).image)[5, 5, 0] - (expected[1] * 128 + 255 * 127) / 255) <= 1
    compressed = (b"iCCP", b"x\0\0" + zlib.compress(SRGB))
    for other in ((b"sRGB", b"\0"), compressed):  # go before gAMA
        np.testing.assert_array_equal(ramp(other, levels), np.arange(256))


@pytest.mark.parametrize("gamma", [45_455, 45_000, 0])
def test_the_usual_gamma_changes_nothing(gamma: int) -> None:
    np.testing.assert_array_equal(ramp((b"gAMA", gamma.to_bytes(4, "big"))), np.arange(256))


LAB = bytearray(SRGB)
LAB[16:20] = b"Lab "


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (encode(PHOTO, icc_profile=bytes(LAB)), "its colour profile is of 'Lab' colours"),
        (encode(PHOTO, "TIFF", icc_profile=bytes(LAB)), "its colour profile is of 'Lab' colours"),
        (encode(PHOTO).replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "a JPEG of 12 bits"),
        (png(32, 32, 16, 0, b"\x7f\xff" * 32, (b"tRNS", b"\x7f\xff")), "a PNG of 16 bits with a transparent colour"),
        (
            png(32, 32, 16, 2, b"\x7f\xff" * 96, (b"tRNS", b"\x7f\xff" * 3)),
            "a PNG of 16 bits with a transparent colour",
        ),
        (png(32, 32, 4, 0, b"\x33" * 16, (b"tRNS", b"\0\3")), "a PNG of 4 bits with a transparent colour"),
        (encode(PHOTO, "GIF").replace(struct.pack("<HH", *PHOTO.size), b"\x80\0\x80\0", 1), "a GIF whose first frame"),
        (png(32, 32, 8, 2, b"\x7f" * 96, (b"cICP", b"\x09\x10\0\1")), "a PNG of HDR light levels"),
    ],
)
def test_colours_that_would_be_misread_are_refused_by_name(data: bytes, problem: str) -> None:
    with pytest.raises(UnreadablePhoto, match=f"^x: {problem}") as caught:
        decode(data, "x")
    assert caught.value.remedy


def test_a_transparent_colour_of_8_bits_shows_the_background() -> None:
    levels = ramp((b"tRNS", b"\0\x07\0\x07\0\x07"))
    assert levels[[6, 7, 8]].tolist() == [6, 255, 8]


@pytest.mark.parametrize("kind", ["CMYK", "unmarked CMYK", "YCCK"])
def test_a_jpeg_of_four_colours_holds_paper_not_ink(kind: str) -> None:
    """As Adobe, Chromium and libvips have it, with Adobe's mark and without."""
    inks, mark = PHOTO.convert("CMYK"), jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([2 * (kind == "YCCK")]))
    if kind == "YCCK":
        colours = Image.merge("RGB", inks.split()[:3]).convert("YCbCr").split()
        inks = Image.merge("CMYK", [*(ImageChops.invert(band) for band in colours), inks.split()[3]])
    data = encode(inks, quality=95, subsampling=0)
    at = data.index(b"\xff\xee")
    found = array(decode(data[:at] + (b"" if kind == "unmarked CMYK" else mark) + data[at + 16 :]).image)
    assert np.abs(found - array(PHOTO)).mean() < 3


def test_a_grey_profile_counts_at_16_bits_as_at_8() -> None:
    """A profile of linear light makes the middle brighter, as Chromium does with a PNG of gamma 1."""
    profile = grey_profile()
    flat = Image.new("L", (32, 32), 128)
    deep = Image.fromarray(np.full((32, 32), 128 * 257, np.uint16))
    for kind in ("PNG", "TIFF"):
        levels = [array(decode(encode(image, kind, icc_profile=profile)).image)[5, 5, 0] for image in (flat, deep)]
        assert np.abs(np.array(levels) - 188).max() <= 1
