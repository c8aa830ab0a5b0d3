import importlib
import io
import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import MADE_BY, encode, paint, png
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from spectraderm.core.errors import RecipeError, UnreadablePhoto
from spectraderm.images.decoding import FORMATS, decode
from spectraderm.images.preprocessing import Pixels, Preprocessing, Resize
from spectraderm.images.rgb import to_rgb

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
    assert photo.image.mode == "RGB"
    assert difference(photo.image) < 12


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quality_of_a_jpeg_is_told_from_its_tables(mode: str) -> None:
    qualities = range(1, 101) if mode == "RGB" else (10, 50, 95)
    found = [decode(encode(PHOTO.convert(mode), quality=quality)).jpeg_quality for quality in qualities]
    assert found == list(qualities)


def test_a_jpeg_of_other_tables_gets_the_nearest_quality() -> None:
    flat = decode(encode(PHOTO, qtables=[[20] * 64, [20] * 64])).jpeg_quality
    means = []
    for quality in range(1, 101):
        image = Image.open(io.BytesIO(encode(PHOTO, quality=quality)))
        assert isinstance(image, JpegImageFile)
        means.append(np.mean(image.quantization[0]))
    assert flat == 1 + np.abs(np.array(means) - 20).argmin()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_other_formats_have_no_jpeg_quality(kind: str) -> None:
    assert decode(encode(PHOTO, kind)).jpeg_quality == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = PHOTO.transpose(MADE_BY[orientation]) if orientation > 1 else PHOTO
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    assert difference(decode(encode(stored, kind, exif=exif, **options)).image) < 12


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


def test_cmyk_jpeg_has_the_colours_of_its_rgb() -> None:
    assert difference(decode(encode(PHOTO.convert("CMYK"), quality=95)).image) < 4


@pytest.mark.parametrize("image", [Image.new("F", (32, 32), 0.5), Image.new("I", (32, 32), -1)])
def test_pixels_without_a_scale_are_refused(image: Image.Image) -> None:
    with pytest.raises(UnreadablePhoto, match=r"x\.tif: 32-bit"):
        decode(encode(image, "TIFF"), "x.tif")


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG")])
def test_colour_profile_is_converted_to_srgb(mode: str, kind: str) -> None:
    data = encode(Image.new("RGB", (32, 32), (255, 0, 0)).convert(mode), kind, icc_profile=swapped_profile())
    red, green, blue = array(decode(data).image)[16, 16]
    assert (red < 10, green < 10, blue > 240) == (True, True, True)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize("profile", [b"no profile", swapped_profile()[:200]], ids=["none", "cut"])
def test_broken_colour_profile_is_ignored(mode: str, profile: bytes) -> None:
    data = encode(grey(90).convert(mode), "PNG", icc_profile=profile)
    assert decode(data).image.getpixel((5, 5)) == (90, 90, 90)


def test_profile_of_another_colour_space_is_ignored() -> None:
    data = encode(Image.new("L", (32, 32), 90), "PNG", icc_profile=swapped_profile())
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


SIZES = [(96, 72), (49, 98), (301, 203), (640, 33), (103, 107), (30, 40)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_pixels_equal_those_of_the_hub_processors(resize: Resize, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(size=224, resize=resize, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    config = json.loads(json.dumps(preprocessing.to_hub()))
    kind = config["image_processor_type"].removesuffix("ImageProcessor")
    module = importlib.import_module(f"transformers.models.{kind.lower()}.image_processing_pil_{kind.lower()}")
    theirs = getattr(module, f"{kind}ImageProcessorPil")(**config)(paint(5, size), return_tensors="np")["pixel_values"]
    pixels = preprocessing(paint(5, size))
    assert (pixels.dtype.name, pixels.shape) == ("uint8", (224, 224, 3))
    ours = (pixels / 255 - preprocessing.mean) / preprocessing.std
    assert np.abs(ours.transpose(2, 0, 1) - theirs[0]).max() < 1e-5


def test_crop_takes_the_middle_and_squash_takes_all() -> None:
    photo = Image.new("RGB", (300, 100), (255, 0, 0))
    photo.paste((0, 0, 255), (100, 0, 200, 100))
    assert array(Preprocessing(size=32, resize="crop")(photo))[:, 3:-3, 2].min() == 255
    assert array(Preprocessing(size=32)(photo))[16, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("preprocessing", [Preprocessing(), Preprocessing(96, "crop", 0.9, (0.1, 0.2, 0.3), (1, 2, 3))])
def test_hub_settings_come_back(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_hub(json.loads(json.dumps(preprocessing.to_hub()))) == preprocessing


@pytest.mark.parametrize(
    "change",
    [
        *({"size": size} for size in (None, 224, {}, {"height": 0}, {"height": "big"})),
        *({"image_std": std} for std in (None, [1, 1], [0, 1, 1], "abc")),
        {"image_mean": [1, 2]},
    ],
)
def test_hub_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"preprocessor_config\.json"):
        Preprocessing.from_hub(Preprocessing().to_hub() | change)


def test_sixteen_bit_is_not_clipped() -> None:
    ramp = Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16))
    assert np.unique(array(to_rgb(ramp))).size == 256
