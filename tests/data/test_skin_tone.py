import io

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode
from PIL import Image

from spectraderm.data.skin_tone import GROUPS, estimate, group_of, to_lab

Colour = tuple[float, float, float]
TONES = [(85.0, 6.0, 14.0), (72.0, 10.0, 17.0), (64.0, 11.0, 18.0), (58.0, 12.0, 20.0), (42.0, 12.0, 18.0)]
TONES += [(30.0, 10.0, 13.0)]


def from_lab(lab: Colour) -> npt.NDArray[np.float64]:
    """sRGB in 0..255 of CIELAB, by the textbook's inverse."""
    y = (lab[0] + 16) / 116
    ratios = np.array([y + lab[1] / 500, y, y - lab[2] / 200]) ** 3  # all above the linear part
    linear = np.linalg.solve(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], ratios * [0.9505, 1, 1.089]
    )
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055) * 255


def skin(colour: npt.ArrayLike, size: tuple[int, int] = (200, 150), grain: float = 3) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, grain, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(colour) + noise, 0, 255).round().astype(np.uint8))


def ita(image: Image.Image) -> float:
    tone = estimate(image)
    assert tone
    return tone.ita


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.59, 0, 0)),
        ((5, 5, 5), (1.37, 0, 0)),
    ],
)
def test_published_lab_values(rgb: Colour, lab: Colour) -> None:
    assert to_lab(np.array(rgb)) / 1e6 == pytest.approx(lab, abs=0.03)


@pytest.mark.parametrize("lab", TONES)
def test_painted_skin_gives_its_angle(lab: Colour) -> None:
    expected = np.degrees(np.arctan((lab[0] - 50) / lab[2]))
    photo = skin(from_lab(lab))
    assert ita(photo) == pytest.approx(expected, abs=2)
    tone = estimate(photo)
    assert tone
    assert tone.group == group_of(expected)
    assert ita(Image.open(io.BytesIO(encode(photo, quality=60))).convert("RGB")) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("lab", TONES)
def test_a_lesion_redness_and_a_background_change_little(lab: Colour) -> None:
    before = ita(skin(from_lab(lab)))
    for lesion in ((45.0, 45.0, 25.0), (25.0, 12.0, 10.0)):
        photo = skin(from_lab(lab))
        photo.paste(skin(from_lab(lesion), (80, 80)), (60, 30))
        photo.paste((20, 60, 160), (0, 0, 40, 150))
        assert ita(photo) == pytest.approx(before, abs=5)
    red = skin(from_lab(lab))
    red.paste(skin(from_lab((lab[0] - 12, lab[1] + 12, lab[2]))), (90, 0))  # 55 % of it
    assert ita(red) == pytest.approx(before, abs=8)
    dark = skin((32, 18, 12), (200, 150), grain=1)
    dark.paste(skin(from_lab(lab), (90, 100)), (0, 0))
    assert ita(dark) == pytest.approx(before, abs=5)


def test_a_turned_or_smaller_photo_gives_the_same() -> None:
    photo = skin(from_lab(TONES[2]), (640, 480))
    assert ita(photo.rotate(90, expand=True)) == pytest.approx(ita(photo), abs=0.5)
    assert ita(photo.resize((128, 128))) == pytest.approx(ita(photo), abs=0.5)


def test_other_colours_and_too_little_over_exposed_red_and_uneven_skin_is_refused() -> None:
    for colour in ((30, 60, 200), (40, 160, 60), (128, 128, 128), (0, 0, 0), (255, 255, 255)):
        assert estimate(skin(colour)) is None
    photo = skin((128, 128, 128))
    photo.paste(skin(from_lab(TONES[1]), (50, 50)), (0, 0))  # 8 % of it
    assert estimate(photo) is None
    photo.paste(skin(from_lab(TONES[1]), (100, 50)), (0, 0))
    assert ita(photo) > 28
    assert estimate(skin((254, 215, 195), grain=0)) is None
    assert estimate(skin((249, 215, 195), grain=0))
    assert estimate(skin(from_lab((62, 30, 14)))) is None
    assert estimate(skin(from_lab((62, 14, 14))))
    lightness = np.linspace(25, 85, 200)
    uneven = np.stack([from_lab((float(value), 10, 14)) for value in lightness])[None].repeat(150, 0)
    assert estimate(Image.fromarray(np.clip(uneven, 0, 255).astype(np.uint8))) is None


def test_groups_are_bounded_as_published() -> None:
    groups = ["very light", "light", "intermediate", "tan", "brown", "dark", "dark"]
    assert [group_of(angle) for angle in (55.1, 54.9, 40.9, 27.9, 9.9, -30.1, -90)] == groups
    assert list(GROUPS.values()) == sorted(GROUPS.values(), reverse=True)
