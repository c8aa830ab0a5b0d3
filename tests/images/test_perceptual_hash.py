import imagehash
import numpy as np
import pytest
from conftest import paint
from PIL import Image

from spectraderm.images.perceptual_hash import TURNS, Hashes, nearest, nearest_of, turned_hashes

TURNED = (None, *Image.Transpose)


def bits(hashes: Hashes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.unpackbits(hashes, axis=-1)


def apart(photo: Hashes, known: Hashes) -> int:
    """The slow way: of every pair of a turn and a known hash, how many bits differ."""
    return min(int((bits(turn) != bits(other)).sum()) for turn in photo for other in known)


@pytest.mark.parametrize("size", [(96, 72), (31, 200), (8, 8), (640, 640)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_hash_is_that_of_the_library_bit_for_bit_in_every_turn(size: tuple[int, int], mode: str) -> None:
    for seed in range(5):
        photo = paint(seed, size).convert(mode)
        got = turned_hashes(photo)
        small = photo.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
        assert got.shape == (TURNS, 8) == (8, 8)
        assert (bits(got[0]) == imagehash.phash(photo).hash.reshape(-1)).all()
        for own, turn in zip(got, TURNED, strict=True):
            turned = small if turn is None else small.transpose(turn)
            assert (bits(own) == imagehash.phash(turned).hash.reshape(-1)).all()


@pytest.mark.parametrize("colour", [(128, 90, 70), (1, 2, 3), (255, 255, 255)])
def test_a_flat_photo_is_not_hashed_by_rounding_errors(colour: tuple[int, int, int]) -> None:
    flat = Image.new("RGB", (50, 40), colour)
    assert (bits(turned_hashes(flat)).sum(1) == 1).all()
    assert (bits(turned_hashes(flat)[0]) == imagehash.phash(flat).hash.reshape(-1)).all()


@pytest.mark.parametrize("size", [(1023, 1400), (1024, 1400), (2600, 1900)])
def test_a_large_photo_is_hashed_as_its_reduction_and_stays_its_own_copy(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(6).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    photo = Image.blend(paint(6, size), Image.fromarray(noise), 0.9)  # fine enough for a reduction to round elsewhere
    small = photo.reduce(max(min(size) // 512, 1))
    assert (turned_hashes(photo) == turned_hashes(small)).all()
    assert (bits(turned_hashes(photo)[0]) == imagehash.phash(small).hash.reshape(-1)).all()
    assert nearest(turned_hashes(photo), np.packbits(imagehash.phash(photo).hash)[None]) <= 4


def test_nearest_is_the_smallest_of_all_distances() -> None:
    random = np.random.default_rng(0)
    known = random.integers(0, 256, (40, 8), dtype=np.uint8)
    for _ in range(20):
        photo = random.integers(0, 256, (8, 8), dtype=np.uint8)
        assert nearest(photo, known) == apart(photo, known)
    photo[5] = known[17] ^ np.array([0, 0, 3, 0, 0, 0, 0, 1], np.uint8)
    assert nearest(photo, known) == 3
    assert nearest(photo, known[:0]) == 65


def test_nearest_of_names_the_photo_with_the_smallest_distance_and_of_equals_the_first() -> None:
    random = np.random.default_rng(1)
    known = random.integers(0, 256, (30, 8), dtype=np.uint8)
    known[20] = known[4]
    photos = random.integers(0, 256, (25, 8, 8), dtype=np.uint8)
    photos[0, 6] = known[20]
    want = [min(range(len(known)), key=lambda i: apart(photo, known[i : i + 1])) for photo in photos]
    assert nearest_of(photos, known).tolist() == want
    assert want[0] == 4
