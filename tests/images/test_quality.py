import io
from dataclasses import astuple

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode, page, paint, skin
from PIL import Image, ImageDraw, ImageFilter

from spectraderm.images.quality import flaws, measure

SIZES = [(224, 224), (1600, 1200)]


def refused(image: Image.Image) -> list[str]:
    return [flaw.id for flaw in flaws(measure(image), *image.size) if flaw.unusable]


def resaved(image: Image.Image, quality: int = 75) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, quality=quality))).convert("RGB")


def from_array(values: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def noisy(size: tuple[int, int], mean: float, deviation: float) -> Image.Image:
    return from_array(np.random.default_rng(0).normal(mean, deviation, (size[1], size[0], 3)))


def logo(size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, "white")
    width, height = size
    ImageDraw.Draw(image).ellipse([width * 0.2, height * 0.2, width * 0.8, height * 0.8], fill=(200, 0, 0))
    return image


def gradient(size: tuple[int, int]) -> Image.Image:
    rows, columns = np.mgrid[0 : 1 : size[1] * 1j, 0 : 1 : size[0] * 1j]
    return from_array(np.stack([columns * 255, 90 + rows * 100, 60 + columns * 80], -1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("colour", "reason"),
    [
        ((0, 0, 0), "too_dark"),
        ((255, 255, 255), "blown_out"),
        ((200, 150, 120), "blank"),
        ((255, 0, 0), "blank"),
        ((90, 90, 90), "blank"),
    ],
)
def test_one_colour_is_refused(colour: tuple[int, int, int], reason: str, size: tuple[int, int]) -> None:
    assert refused(Image.new("RGB", size, colour)) == [reason]


@pytest.mark.parametrize("size", SIZES)
def test_what_shows_nothing_is_refused(size: tuple[int, int]) -> None:
    assert refused(gradient(size)) == ["blurred"]
    assert refused(noisy(size, 128, 45)) == ["not_a_photo"]
    assert refused(noisy(size, 7, 3)) == ["too_dark"]
    assert refused(noisy(size, 250, 3)) == ["blown_out"]


@pytest.mark.parametrize("size", SIZES)
def test_drawings_and_text_are_refused(size: tuple[int, int]) -> None:
    for image in (logo(size), page(size)):
        assert refused(image) == ["not_a_photo"]
        assert refused(resaved(image)) == ["not_a_photo"]


@pytest.mark.parametrize("size", SIZES)
def test_a_blurred_photo_is_refused_and_the_sharp_one_is_not(size: tuple[int, int]) -> None:
    photo = skin(size)
    blurred = photo.filter(ImageFilter.GaussianBlur(max(size) / 20))
    assert refused(photo) == []
    assert refused(blurred) == refused(resaved(blurred)) == ["blurred"]


def test_photos_that_are_too_dark_or_too_bright_or_blurred_are_refused_or_told() -> None:
    speck = Image.new("RGB", (200, 200), "white")
    speck.paste(skin((50, 50)), (70, 70))  # 6 % of it: no longer only the lightest are white
    blurred = skin((400, 300)).filter(ImageFilter.GaussianBlur(7))
    for image, expected, unusable in (
        (skin().point(lambda v: v * 14 / 255), "too_dark", True),
        (skin().point(lambda v: v / 12), "too_dark", True),
        (skin().point(lambda v: 240 + v / 10), "blown_out", True),
        (speck, "blown_out", True),
        (skin().point(lambda v: v * 0.25), "too_dark", False),
        (blurred, "blurred", False),
    ):
        found = flaws(measure(image), *image.size)
        assert (found[0].id, {flaw.unusable for flaw in found}) == (expected, {unusable})


def test_smooth_skin_grey_photos_and_black_or_white_backgrounds_are_not_refused() -> None:
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[-1:1:300j, -1:1:400j]
    light = 1 - 0.15 * (columns**2 + rows)  # no lesion, no edge: shading and the texture of skin
    coarse = np.asarray(Image.fromarray(random.normal(0, 1, (60, 80)).astype(np.float32)).resize((400, 300)))
    smooth = from_array((light + 0.02 * coarse)[..., None] * np.array([205.0, 160, 135]) * 0.95)
    assert refused(smooth) == refused(resaved(smooth)) == []
    assert refused(skin().convert("L").convert("RGB")) == []
    for background in ("black", "white"):
        placed = Image.new("RGB", (300, 300), background)
        placed.paste(skin((150, 150)), (75, 75))
        assert refused(placed) == []


def test_the_same_scene_measures_the_same_at_every_size() -> None:
    large = skin((1600, 1200))
    values = np.array([astuple(measure(large.resize(size))) for size in ((1600, 1200), (640, 480), (240, 180))])
    names = list(measure(large).__dataclass_fields__)
    for name in ("brightness", "highlights", "contrast", "sharpness"):
        column = values[:, names.index(name)]
        assert np.ptp(column) < 0.1 * column.mean(), name


@pytest.mark.parametrize(
    ("size", "found"), [((40, 300), [True]), ((63, 64), [True]), ((64, 64), [False]), ((127, 300), [False])]
)
def test_small_photos(size: tuple[int, int], found: list[bool]) -> None:
    quality = measure(skin())
    assert [flaw.unusable for flaw in flaws(quality, *size)] == found
    assert flaws(quality, 128, 128) == ()


@pytest.mark.parametrize("seed", range(6))
def test_the_numbers_are_those_of_numpy_s_own_statistics(seed: int) -> None:
    """Photos of the working size, which nothing resizes; every third is grey, where a level is exactly one."""
    image = paint(seed, (128, 128)) if seed % 3 else skin((128, 128), seed).convert("L").convert("RGB")
    found, pixels = measure(image), np.asarray(image)
    grey = np.floor(np.dot(pixels.astype(np.float64), (299, 587, 114)) / 1000 + 0.5)
    lines = [np.diff(grey, axis=axis) == 0 for axis in (0, 1)]
    coarse = np.unique(pixels.reshape(-1, 3) // 16, axis=0, return_counts=True)[1]
    expected = {
        "brightness": grey.mean(),
        "shadows": np.percentile(grey, 2),
        "highlights": np.percentile(grey, 98),
        "dark": (grey < 16).mean(),
        "blown": (pixels > 250).all(-1).mean(),
        "contrast": pixels.reshape(-1, 3).std(0).max(),
        "flat": (lines[0][:, :-1] & lines[1][:-1]).mean(),
        "few_colours": np.sort(coarse)[-8:].sum() / coarse.sum(),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (20, 400), (3000, 150)])
def test_any_size_can_be_measured(size: tuple[int, int]) -> None:
    assert np.isfinite(astuple(measure(paint(1, size)))).all()
