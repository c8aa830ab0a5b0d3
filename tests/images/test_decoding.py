"""What is a photo comes out upright and RGB; what is none, or only pretends to be one, is refused by name."""

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from conftest import MADE_BY, encode, paint, png
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from spectraderm.core.errors import MissingExtra, UnreadablePhoto
from spectraderm.images import decoding
from spectraderm.images.decoding import FORMATS, decode, open_photo
from spectraderm.images.headers import MAX_SCANS
from spectraderm.images.preprocessing import Pixels
from spectraderm.images.rgb import to_rgb, upright

PHOTO = paint(1)


def array(image: Image.Image | Pixels) -> npt.NDArray[np.int64]:
    return np.asarray(image).astype(np.int64)


def difference(image: Image.Image, other: Image.Image = PHOTO) -> float:
    assert image.size == other.size
    return float(np.abs(array(image) - array(other)).mean())


def swapped_profile() -> bytes:
    """A colour profile that calls red what sRGB calls blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"----", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"----", b"bXYZ", 1)
    return profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_rgb(kind: str) -> None:
    photo = decode(encode(PHOTO, kind))
    assert (photo.format, photo.width, photo.height) == (kind, *PHOTO.size)
    assert (photo.image.mode, photo.jpeg_quality > 0) == ("RGB", kind == "JPEG")
    assert difference(photo.image) < 12


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quality_of_a_jpeg_is_told_from_its_tables(mode: str) -> None:
    qualities = range(1, 101) if mode == "RGB" else (10, 50, 95)
    found = [decode(encode(PHOTO.convert(mode), quality=quality)) for quality in qualities]
    assert [photo.jpeg_quality for photo in found] == list(qualities)
    assert difference(found[-1].image, PHOTO.convert(mode).convert("RGB")) < 4


def test_a_jpeg_of_other_tables_gets_the_nearest_quality() -> None:
    flat = decode(encode(PHOTO, qtables=[[20] * 64, [20] * 64])).jpeg_quality
    means = []
    for quality in range(1, 101):
        image = Image.open(io.BytesIO(encode(PHOTO, quality=quality)))
        assert isinstance(image, JpegImageFile)
        means.append(np.mean(image.quantization[0]))
    assert flat == 1 + np.abs(np.array(means) - 20).argmin()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = PHOTO.transpose(MADE_BY[orientation]) if orientation > 1 else PHOTO
    data = encode(stored, kind, exif=exif, **({"quality": 95} if kind in ("JPEG", "WEBP") else {}))
    assert difference(decode(data).image) < 12
    with Image.open(io.BytesIO(data)) as image:
        once, before = upright(image), image.tobytes()
        upright(image)
        assert image.tobytes() == before  # the caller's photo is left alone
        assert kind == "TIFF" or image.getexif()[0x0112] == orientation
    assert once.getexif().get(0x0112) is None
    assert difference(upright(once), once) == difference(open_photo(once), once.convert("RGB")) == 0


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage that is no TIFF header",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0",  # orientation "6", a text
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0",  # orientation 99
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored(kind: str, exif: bytes) -> None:
    assert difference(decode(encode(PHOTO, kind, exif=exif)).image) < 12


def grey(value: int) -> Image.Image:
    return Image.new("RGB", (32, 32), (value, value, value))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(Image.new("L", (32, 32), 90), "PNG"), 90),
        (encode(Image.new("L", (32, 32), 90), "TIFF"), 90),
        (encode(Image.new("1", (32, 32), 1), "PNG"), 255),
        (encode(Image.new("1", (32, 32), 0), "TIFF"), 0),
        (encode(Image.new("LA", (32, 32), (7, 0)), "PNG"), 255),
        (encode(Image.new("LA", (32, 32), (0, 128)), "PNG"), 127),
        (encode(Image.new("RGBA", (32, 32), (255, 0, 9, 0)), "PNG"), 255),
        (encode(Image.new("RGBA", (32, 32), (255, 0, 9, 0)), "WEBP", lossless=True, exact=True), 255),
        (encode(Image.new("RGBA", (32, 32), (0, 0, 0, 128)), "TIFF"), 127),
        (encode(Image.new("P", (32, 32), 3), "GIF", transparency=3), 255),
        (encode(Image.fromarray(np.full((32, 32), 32767, np.uint16)), "PNG"), 127),
        (encode(Image.fromarray(np.full((32, 32), 32767, np.uint16)), "TIFF"), 127),
        (encode(Image.frombytes("I;16B", (32, 32), b"\x7f\xff" * 1024), "TIFF"), 127),
        (png(32, 32, 16, 0, b"\x7f\xff" * 32), 127),
        (png(32, 32, 16, 2, b"\x7f\xff" * 96), 127),
        (encode(grey(90).convert("CMYK"), "TIFF"), 90),
    ],
)
def test_colour_modes_give_the_grey_they_mean(data: bytes, expected: int) -> None:
    pixels = array(decode(data).image)
    assert pixels.shape == (32, 32, 3)
    assert np.abs(pixels - expected).max() <= 1


def test_palette_keeps_the_colours_that_are_not_transparent() -> None:
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([10, 200, 30, 255, 0, 0])
    palette.paste(1, (16, 0, 32, 32))
    pixels = array(decode(encode(palette, "PNG", transparency=0)).image)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 31].tolist() == [255, 0, 0]


@pytest.mark.parametrize("image", [Image.new("F", (32, 32), 0.5), Image.new("I", (32, 32), -1)])
def test_pixels_without_a_scale_are_refused(image: Image.Image) -> None:
    with pytest.raises(UnreadablePhoto, match=r"x\.tif: a TIFF of signed, floating-point"):
        decode(encode(image, "TIFF"), "x.tif")
    with pytest.raises(UnreadablePhoto, match="32-bit"):
        open_photo(image)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG")])
def test_colour_profile_is_converted_to_srgb(mode: str, kind: str) -> None:
    data = encode(Image.new("RGB", (32, 32), (255, 0, 0)).convert(mode), kind, icc_profile=swapped_profile())
    red, green, blue = array(decode(data).image)[16, 16]
    assert (red < 10, green < 10, blue > 240) == (True, True, True)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize("length", [10, 200, None])
def test_colour_profile_that_is_broken_or_of_another_space_is_ignored(mode: str, length: int | None) -> None:
    profile = swapped_profile()[: length if length or mode == "L" else 10]
    data = encode(grey(90).convert(mode), "PNG", icc_profile=profile)
    assert decode(data).image.getpixel((5, 5)) == (90, 90, 90)


@pytest.mark.parametrize(
    ("kind", "expected"), [("GIF", "GIF"), ("WEBP", "WEBP"), ("PNG", "PNG"), ("TIFF", "TIFF"), ("MPO", "JPEG")]
)
def test_of_several_frames_the_first_counts(kind: str, expected: str) -> None:
    photo = decode(encode(PHOTO, kind, save_all=True, append_images=[paint(2), paint(3)]))
    assert photo.format == expected
    assert difference(photo.image) < 12


def test_what_is_rgb_already_is_copied_without_its_metadata() -> None:
    given = paint(1)
    given.info = {"icc_profile": b"no profile", "exif": b"x", "comment": "x"}
    copy = to_rgb(given)
    assert (copy.info, difference(copy)) == ({}, 0)
    copy.paste(0, (0, 0, 9, 9))
    assert difference(given) == 0
    assert given.info["comment"] == "x"
    given.info = {"transparency": given.getpixel((5, 5))}
    assert to_rgb(given).getpixel((5, 5)) == (255, 255, 255)


def test_decoding_in_threads_leaves_the_warning_filters() -> None:
    data, before = encode(paint(1, (16, 16))), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [data] * 1500))
    assert warnings.filters == before


@pytest.mark.parametrize("size", [(16, 16), (16, 320), (320, 16)])
def test_the_smallest_and_longest_photos_are_taken(size: tuple[int, int]) -> None:
    assert decode(encode(paint(1, size), "PNG")).image.size == size
    smaller = (size[0] + 1, size[1]) if size[0] > size[1] else (size[0] - 1, size[1])
    with pytest.raises(UnreadablePhoto, match=r"^x\.png: .*(too small|a strip)"):
        decode(encode(paint(1, smaller), "PNG"), "x.png")


def test_a_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(PHOTO)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data))
    decode(data)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data) - 1)
    with pytest.raises(UnreadablePhoto, match="MB is more than"):
        decode(data)


def test_scan_markers_behind_a_baseline_jpeg_do_not_count() -> None:
    decode(encode(PHOTO) + b"\xff\xda" * (MAX_SCANS + 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"just words", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"GIF89a", b"BM"]
    + [encode(PHOTO, kind)[:-200] for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")]
    + [encode(PHOTO, kind)[:100] for kind in FORMATS]
    + [b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypmif1" + bytes(64)],
)
@pytest.mark.filterwarnings("ignore:Truncated File")
def test_incomplete_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(UnreadablePhoto, match=r"^a b/ü\.jpg: \w+") as caught:
        decode(data, "a b/ü.jpg")
    assert caught.value.remedy


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_extra_names_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"^a\.heic .*\[heic\]"):
        decode(b"\0\0\0\x18ftyp" + brand + bytes(64), "a.heic")


def test_heic_decodes_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    stored = PHOTO.transpose(Image.Transpose.ROTATE_90)
    pillow_heif.from_pillow(stored).save(stream, quality=95, exif=exif.tobytes())
    photo = decode(stream.getvalue())
    assert (photo.format, photo.image.mode, photo.image.size) == ("HEIF", "RGB", PHOTO.size)
    assert np.abs(np.asarray(photo.image).astype(int) - np.asarray(PHOTO).astype(int)).mean() < 12
