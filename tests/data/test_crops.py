import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import encode
from PIL import Image, ImageDraw

from spectraderm.data import crops
from spectraderm.data.crops import GreyOf, candidates, crop_pairs, describe, find_crops, placement
from spectraderm.data.measurements import Grey, Store, grey
from spectraderm.data.synthetic import paint_photo

LABELS = ("VI-chickenpox", "FU-athlete-foot", "PA-cutaneous-larva-migrans", "FU-ringworm")
FLIP = Image.Transpose.FLIP_LEFT_RIGHT
NONE: list[list[int]] = []


def painted(seed: int, size: tuple[int, int] = (300, 260)) -> Image.Image:
    return paint_photo(LABELS[seed % len(LABELS)], np.random.default_rng([7, seed]), size)


def zoomed(photo: Image.Image, seed: int, mirror: bool = False) -> Image.Image:
    """A window of 50 to 80 % of both sides, rescaled and encoded anew."""
    random = np.random.default_rng(seed)
    share, scale = random.uniform((0.5, 0.7), (0.8, 1.3)).tolist()
    width, height = round(photo.width * share), round(photo.height * share)
    left, top = random.integers(0, photo.width - width), random.integers(0, photo.height - height)
    window = photo.crop((left, top, left + width, top + height)).resize((round(width * scale), round(height * scale)))
    window = window.transpose(FLIP) if mirror else window
    return Image.open(io.BytesIO(encode(window, quality=70))).convert("RGB")


def all_pairs(count: int) -> npt.NDArray[np.int64]:
    return np.argwhere(np.triu(np.ones((count, count), bool), 1))


def reader(photos: list[Image.Image]) -> GreyOf:
    return lambda number: grey(photos[number])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_nine_of_ten_crops_are_found_mirrored_or_turned(store: Store) -> None:
    photos = [painted(seed) for seed in range(40)]
    windows = [zoomed(photo, seed, mirror=seed % 3 == 0) for seed, photo in enumerate(photos)]
    windows[1] = photos[1].rotate(33, Image.Resampling.BICUBIC).crop((60, 50, 240, 210))
    true = np.stack([np.arange(40), np.arange(40, 80)], axis=1)
    found = crop_pairs(reader(photos + windows), true, store)
    assert len(found) >= 36
    assert [1, 41] in found.tolist()
    assert {tuple(pair) for pair in found.tolist()} <= {tuple(pair) for pair in true.tolist()}


@pytest.mark.parametrize("side", [90, 150])
def test_a_mark_that_photos_share_does_not_join_them(side: int, store: Store) -> None:
    random = np.random.default_rng(0)
    mark = Image.fromarray(random.integers(0, 256, (side // 4, side // 2), dtype=np.uint8)).resize((side, side // 2), 0)
    photos = [painted(1), painted(5)]
    for photo in photos:
        photo.paste(mark, (10, 10))
        ImageDraw.Draw(photo).text((150, 240), "© DERMATOLOGY ATLAS 2020", fill="white")
    one, other = (describe(grey(photo)) for photo in photos)
    assert placement(one, other) is None
    assert crop_pairs(reader(photos), all_pairs(2), store).tolist() == NONE


def test_keypoints_alone_do_not_join_where_the_pixels_differ(store: Store) -> None:
    photo = painted(0)
    changed = photo.copy()
    changed.paste(painted(4).crop((0, 0, 100, 260)), (0, 0))
    one, other = (grey(image) for image in (photo, changed))
    placed = placement(describe(one), describe(other))
    assert placed is not None
    np.testing.assert_allclose(placed, [[1, 0, 0], [0, 1, 0]], atol=0.5)
    assert crop_pairs(reader([photo, changed]), all_pairs(2), store).tolist() == NONE


@pytest.mark.parametrize("mirror", [False, True])
def test_the_placement_is_where_the_window_was_cut(mirror: bool) -> None:
    photo = painted(0, (320, 320))
    window = photo.crop((100, 60, 260, 220))  # scaled to 320 again: half a pixel a pixel
    window = window.transpose(FLIP) if mirror else window
    one, other = (grey(image) for image in (photo, window))
    placed = placement(describe(one), describe(other))
    assert placed is not None
    expected = np.array([[-0.5, 0, 260], [0, 0.5, 60]] if mirror else [[0.5, 0, 100], [0, 0.5, 60]])
    np.testing.assert_allclose(placed[:, :2], expected[:, :2], atol=0.02)
    np.testing.assert_allclose(placed[:, 2], expected[:, 2], atol=2)


def test_distinct_photos_and_those_without_detail_are_not_joined(store: Store) -> None:
    photos = [painted(seed) for seed in range(10)] + [zoomed(painted(seed), seed) for seed in range(12, 20)]
    photos += [Image.new("RGB", size, (200, 160, 140)) for size in ((16, 16), (16, 300), (300, 260), (300, 260))]
    assert crop_pairs(reader(photos), all_pairs(len(photos)), store).tolist() == NONE


def test_candidates_are_the_nearest_by_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "NEIGHBOURS", 3)
    features = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    cosine = features @ features.T - 2 * np.eye(60)
    expected = {(min(a, b), max(a, b)) for a in range(60) for b in np.argsort(-cosine[a])[:3].tolist()}
    assert [tuple(pair) for pair in candidates(features).tolist()] == sorted(expected)
    for count in range(3):
        assert candidates(features[:count]).tolist() == [[0, 1]][: count // 2]
    monkeypatch.setattr(crops, "_EXACT", 50)  # a graph finds nearly the same
    assert len(expected & {tuple(pair) for pair in candidates(features).tolist()}) > 0.97 * len(expected)


def test_crops_are_found_among_photos_of_which_one_a_group_is_looked_at(store: Store) -> None:
    photos = [painted(seed) for seed in range(5)]
    photos = [*photos[:2], photos[0], *photos[2:], zoomed(photos[3], 3, mirror=True)]
    looked_at: set[int] = set()

    def read(number: int) -> Grey:
        looked_at.add(number)
        return grey(photos[number])

    features = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    assert find_crops(features, read, np.array([0, 1, 0, 2, 3, 4, 5]), store).tolist() == [[4, 6]]
    assert looked_at == {0, 1, 3, 4, 5, 6}


def test_keypoints_are_found_once_for_each_photo(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [painted(0), zoomed(painted(0), 0), Image.new("RGB", (16, 16)), painted(1)]
    made: list[crops.Keypoints] = []

    def described(photo: Grey) -> crops.Keypoints:
        made.append(describe(photo))
        return made[-1]

    monkeypatch.setattr(crops, "describe", described)
    monkeypatch.setattr(crops, "_CACHED", 0)
    monkeypatch.setattr(crops, "_THREADS", 1)
    assert crop_pairs(reader(photos), np.concatenate([all_pairs(4)] * 2), store).tolist() == [[0, 1]] * 2
    assert len(made) == 4
    for one in made:
        again = crops.Keypoints.from_bytes(one.to_bytes())
        assert (again.points.tolist(), again.size) == (one.points.tolist(), one.size)
        assert again.descriptors.tolist() == one.descriptors.tolist()
