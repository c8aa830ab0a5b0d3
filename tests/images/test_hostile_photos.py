"""What hostile photos meet, each in a child of its own: in time, in little memory, and by an error that says why."""

import re
import sys
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import encode, paint
from hostile_parts import exif_of, of_segments
from measured import MEGABYTES, SECONDS, Answer, answers_of
from PIL import Image

from spectraderm.core.errors import UnreadablePhoto
from spectraderm.images.decoding import decode
from spectraderm.images.preprocessing import SHORTEST_SIDE, Preprocessing

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import fuzz


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    return answers_of("hostile", tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", hostile.ATTACKS)
def test_every_hostile_photo_is_answered(name: str, answers: dict[str, Answer]) -> None:
    answer, expected = answers[name], hostile.ATTACKS[name].refused
    assert answer.kind == ("UnreadablePhoto" if expected else "ok"), answer
    assert re.search(expected, answer.words), answer
    assert answer.seconds < SECONDS
    assert answer.megabytes < MEGABYTES


@pytest.mark.parametrize("kind", fuzz.seeds())
def test_damaged_photos_give_a_photo_or_a_typed_error(kind: str) -> None:
    """A part of what `benchmarks/fuzz.py` tries; every format must come through at times, and fail at times."""
    found = fuzz.fuzz(fuzz.photos(kind, 125, seed=7), decode)
    assert not found.wrong
    assert found.taken > 3
    assert found.refused > 3
    assert found.seconds < SECONDS
    assert found.megabytes < MEGABYTES


def test_photos_of_cameras_and_programs_pass(tmp_path: Path) -> None:
    """What the limits on metadata must let through: a large profile, EXIF in two segments, maker notes, comments."""
    exif = exif_of(dict.fromkeys(range(1, 200), 7))
    segments = [(0xE1, exif), (0xE1, b"Exif\0\0" + bytes(60_000)), *[(0xE2, b"ICC_PROFILE\0" + bytes(60_000))] * 50]
    decode(of_segments(paint(1), segments + [(0xFE, b"a comment")] * 200))
    decode(encode(paint(1), progressive=True, quality=100, subsampling=0))
    decode(encode(paint(1, (600, 600)), "TIFF", compression="tiff_lzw", tiffinfo={270: "x" * 5000}))
    decode(encode(paint(1), "GIF", comment="x" * 50_000))


@pytest.mark.parametrize(
    ("size", "scale"),
    [((2 * SHORTEST_SIDE - 1, 2000), 1), ((2000, 2 * SHORTEST_SIDE), 2), ((3001, 2689), 4), ((6500, 5400), 8),
     ((20_000, 1001), 2)],
)  # fmt: skip
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(size: tuple[int, int], scale: int) -> None:
    photo = paint(2, size)
    found = decode(encode(photo, quality=95))
    expected = photo.reduce(scale)
    assert (found.width, found.height, found.image.size) == (*size, expected.size)
    assert np.abs(np.asarray(found.image, np.int16) - np.asarray(expected, np.int16)).mean() < 2


def test_a_larger_input_gets_more_of_a_large_jpeg() -> None:
    data = encode(paint(2, (2800, 2100)))
    assert decode(data).image.size == (1400, 1050)
    assert decode(data, shortest_side=Preprocessing(size=448).shortest_side).image.size == (2800, 2100)
    assert Preprocessing(size=224).shortest_side == Preprocessing(size=96).shortest_side == SHORTEST_SIDE


def test_other_formats_keep_their_size() -> None:
    assert decode(encode(paint(2, (1500, 1400)), "PNG", compress_level=1)).image.size == (1500, 1400)


def test_bands_leave_no_seam() -> None:
    """Conversion goes by bands of rows; every pixel must be what converting it alone gives."""
    photo = paint(3, (60, 1000)).convert("RGBA")
    photo.putalpha(paint(4, (60, 1000)).convert("L"))
    whole = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    np.testing.assert_array_equal(np.asarray(decode(encode(photo, "PNG")).image), np.asarray(whole))


def test_no_decoder_but_the_named_ones_is_ever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    Image.init()
    for kind, (factory, accept) in list(Image.OPEN.items()):
        watched = lambda *given, kind=kind, factory=factory: asked.append(kind) or factory(*given)  # type: ignore[func-returns-value] # noqa: E731
        monkeypatch.setitem(Image.OPEN, kind, (watched, accept))
    others = [encode(paint(1), kind) for kind in ("PPM", "TGA", "ICO", "PCX", "JPEG2000", "SGI")]
    for data in [*others, *(stranger.build() for stranger in hostile.STRANGERS.values())]:
        try:
            decode(data)
        except UnreadablePhoto:
            continue
    assert asked
    assert set(asked) <= {"JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"}
