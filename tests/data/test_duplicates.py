import io

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode, paint
from PIL import Image

from spectraderm.data import duplicates
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.images.perceptual_hash import MAX_DISTANCE, turned_hashes

TURNS = [None, *Image.Transpose]
NO_PAIRS = np.empty((0, 2), np.int64)


def copy_of(photo: Image.Image, turn: Image.Transpose | None, scale: float, quality: int) -> Image.Image:
    turned = photo if turn is None else photo.transpose(turn)
    small = turned.resize((round(turned.width * scale), round(turned.height * scale)))
    return Image.open(io.BytesIO(encode(small, quality=quality))).convert("RGB")


def test_a_copy_in_any_turn_is_found_and_distinct_photos_are_none() -> None:
    photos = [paint(seed, (200, 150)) for seed in range(50)]
    half = paint(1, (60, 80))
    photos.append(Image.new("RGB", (120, 80)))  # symmetric, but not its own copy
    photos[50].paste(half, (0, 0))
    photos[50].paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (60, 0))
    photos += [copy_of(photos[number], turn, 0.5, 60) for number, turn in enumerate(TURNS)]
    pairs = near_pairs(np.stack([turned_hashes(photo) for photo in photos]))
    assert pairs.tolist() == [[number, 51 + number] for number in range(len(TURNS))]


def planted(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """Random hashes, many at 0 to 9 bits from a turn of an earlier one: on both sides of the threshold."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (count, 8, 64), dtype=np.uint8)
    for number in range(1, count):
        if random.random() < 0.6:
            other, turn = random.integers(number), random.integers(8)
            bits[number, turn] = bits[other, 0]
            bits[number, turn, random.permutation(64)[: random.integers(0, 10)]] ^= 1
    return np.packbits(bits, axis=2)


def brute_force(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    bits = np.unpackbits(hashes, axis=2).astype(np.int64)
    distance = (bits[:, :, None, :] != bits[None, None, :, 0, :]).sum(-1).min(1)
    return np.argwhere((distance <= MAX_DISTANCE) & ~np.eye(len(hashes), dtype=bool))


@pytest.mark.parametrize("seed", range(20))
def test_groups_equal_those_of_comparing_all_with_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed < 16:
        monkeypatch.setattr(duplicates, "_BLOCK", 1 + seed % 5)
        monkeypatch.setattr(duplicates, "_SHORT", seed % 3)
    hashes = planted(80, seed)
    pairs, every_pair = near_pairs(hashes), brute_force(hashes)
    assert {tuple(pair) for pair in pairs.tolist()} <= {(min(pair), max(pair)) for pair in every_pair.tolist()}
    groups = photo_groups(80, every_pair).tolist()
    assert 1 < len(set(groups)) < 80
    assert photo_groups(80, pairs).tolist() == groups


@pytest.fixture
def one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """All photos meet in one row of one table."""
    monkeypatch.setattr(duplicates, "_SHORT", 0)
    monkeypatch.setattr(duplicates, "combinations", lambda parts, count: [parts[:count]])
    monkeypatch.setattr(duplicates, "_rows", lambda chosen, _: np.zeros(chosen[0].shape, np.int64))


@pytest.mark.parametrize(("one", "other"), [(a, b) for a in range(4) for b in range(4) if a != b])
@pytest.mark.usefixtures("one_row")
def test_a_photo_meets_those_before_and_behind_it_in_a_row(one: int, other: int) -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    hashes[one, 5] = hashes[other, 0]
    assert near_pairs(hashes).tolist() == [sorted((one, other))]


def test_of_thousands_of_pairs_at_the_limit_none_is_missed() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2, (4000, 8, 64), dtype=np.uint8)
    turns, distances = random.integers(0, 8, 2000), np.where(np.arange(2000) % 10, MAX_DISTANCE, MAX_DISTANCE + 1)
    for pair, (turn, distance) in enumerate(zip(turns, distances, strict=True)):
        bits[2000 + pair, turn] = bits[pair, 0]
        bits[2000 + pair, turn, random.permutation(64)[:distance]] ^= 1
    near = np.flatnonzero(distances == MAX_DISTANCE)
    assert near_pairs(np.packbits(bits, axis=2)).tolist() == np.stack([near, near + 2000], axis=1).tolist()


def test_many_nearly_equal_photos_give_fewer_pairs_than_photos() -> None:
    random = np.random.default_rng(0)
    bits = np.zeros((3000, 8, 64), np.uint8)
    np.put_along_axis(bits, random.integers(0, 64, (3000, 8, 3)), 1, axis=2)
    pairs = near_pairs(np.packbits(bits, axis=2))
    assert len(pairs) == 2999
    assert set(photo_groups(3000, pairs).tolist()) == {0}


@pytest.mark.parametrize(
    ("pairs", "keys", "expected"),
    [
        ([], [], [0, 1, 2, 3, 4]),
        ([[3, 4], [0, 2]], [], [0, 1, 0, 2, 2]),
        ([[1, 2], [2, 4]], [], [0, 1, 1, 2, 1]),
        ([[1, 2]], [["p"], [], ["p"], [], []], [0, 0, 0, 1, 2]),
        ([], [["p", "q"], ["q", "r"], ["r"], ["s"], []], [0, 0, 0, 1, 2]),
        ([], [[("patient", "1")], [("lesion", "1")], [], [], []], [0, 1, 2, 3, 4]),
    ],
)
def test_groups_join_pairs_and_keys_in_order_of_appearance(
    pairs: list[list[int]], keys: list[list[str]], expected: list[int]
) -> None:
    assert photo_groups(5, np.array(pairs, np.int64).reshape(-1, 2), keys).tolist() == expected
