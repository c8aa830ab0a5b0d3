"""Every copy and every view does to painted photos what it is named for, and nothing else."""

import io
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import encode, paint
from PIL import Image

from spectraderm.images.preprocessing import Pixels
from spectraderm.training.augmentation import Augment, _Coarsen, transformed
from spectraderm.training.photo_augmentation import (
    AUGMENTATIONS,
    CENTRED,
    WIDEST_BORDER,
    ZOOMED,
    Augmentation,
    Transform,
    augmented,
)

SIDE = 160  # at which no share of it cuts through a pixel
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)
Reals = npt.NDArray[np.float64]


def painted(seed: int = 0, side: int = SIDE) -> Pixels:
    return np.asarray(paint(seed, (side, side)))


def board(side: int) -> Pixels:
    """Black and white pixels in turns: the finest grain that there is."""
    return np.tile((np.indices((side, side)).sum(0) % 2 * 255).astype(np.uint8)[..., None], (1, 1, 3))


def enlarged(photo: npt.NDArray[np.generic], side: int, edge: float) -> Reals:
    """A square's middle, without `edge` pixels at either end, at `side` pixels: by NumPy's interpolation in lines."""
    own = len(photo)
    places = edge + (np.arange(side) + 0.5) * (own - 2 * edge) / side - 0.5
    for axis in (0, 1):
        photo = np.apply_along_axis(lambda line: np.interp(places, np.arange(own), line), axis, photo)
    return photo.astype(np.float64)


def looked(photos: list[Pixels], *views: Transform) -> npt.NDArray[np.float32]:
    """Views of photos, back in the layout of pixels."""
    stacked = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float()
    return np.asarray(transformed(stacked, views).permute(0, 2, 3, 1))


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("copy", AUGMENTATIONS)
def test_a_copy_is_as_large_and_leaves_the_photo_alone(copy: Augmentation, coarse: bool) -> None:
    photo, before = painted(), painted()
    changed = augmented(photo, copy, coarse)
    assert (changed.shape, changed.dtype) == (photo.shape, photo.dtype)
    assert np.array_equal(photo, before)
    assert np.array_equal(changed, photo) == ((copy, coarse) == ("whole", False))
    assert np.array_equal(augmented(photo, copy, coarse), changed)
    if not coarse and copy in ("mirrored", "turned"):
        assert np.array_equal(changed, photo[:, ::-1] if copy == "mirrored" else np.rot90(photo))


@pytest.mark.parametrize(("copy", "share"), [("centred", CENTRED), ("zoomed", ZOOMED)])
def test_cut_copies_show_the_middle_enlarged(copy: Augmentation, share: float) -> None:
    photo = painted()
    changed = augmented(photo, copy, False)
    expected = enlarged(photo, SIDE, round(SIDE * (1 - share) / 2))
    assert np.abs(changed - expected).max() <= 1.5  # rounded twice, once for each direction
    assert np.abs(changed - photo.astype(float)).mean() > 4  # that they agree says something


@pytest.mark.parametrize("seen_as_copy", ["whole", "mirrored", "zoomed"])
def test_views_show_what_copies_show(seen_as_copy: Literal["whole", "mirrored", "zoomed"]) -> None:
    photo = painted(1, 224)
    (seen,), copy = looked([photo], seen_as_copy), augmented(photo, seen_as_copy, False).astype(float)
    if seen_as_copy != "zoomed":
        assert np.array_equal(seen, copy)
    assert np.abs(seen - copy).mean() < 1.5  # a view cuts between pixels, a copy wherever it comes to lie
    assert np.abs(seen - copy)[4:-4, 4:-4].max() < 12
    assert np.array_equal(looked([photo], "zoomed mirrored"), looked([photo], "zoomed")[:, :, ::-1])


def test_views_come_one_after_the_other_each_of_all_photos() -> None:
    photos = [painted(seed, 64) for seed in range(3)]
    seen = looked(photos, *TRANSFORMS)
    assert seen.shape == (3 * len(TRANSFORMS), 64, 64, 3)
    for number, view in enumerate(TRANSFORMS):
        for row, photo in enumerate(photos):
            assert np.array_equal(seen[3 * number + row], looked([photo], view)[0])
    assert np.array_equal(looked(photos, "zoomed", "whole")[3:], np.stack(photos))


def test_a_coarse_copy_loses_what_is_fine_and_keeps_what_is_not() -> None:
    fine, smooth = board(224), painted(2, 224)
    assert augmented(fine, "whole", True).std() < 0.1 * fine.std()
    assert np.abs(augmented(smooth, "whole", True) - smooth.astype(float)).mean() < 8
    small = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    through_jpeg = Image.open(io.BytesIO(encode(Image.fromarray(small), quality=60)))
    assert np.array_equal(augmented(small, "whole", True), np.asarray(through_jpeg))


def test_a_bordered_copy_keeps_the_middle_in_a_frame_that_the_pixels_decide() -> None:
    widths, colours = [], set()
    for seed in range(40):
        photo = painted(seed)
        changed = augmented(photo, "bordered", False)
        inner = np.flatnonzero((changed != changed[0, 0]).any((1, 2)))
        width = int(inner[0])
        assert int(inner[-1]) == SIDE - 1 - width
        expected = np.full_like(photo, changed[0, 0])
        expected[width:-width, width:-width] = photo[width:-width, width:-width]
        assert np.array_equal(changed, expected)
        widths.append(width)
        colours.add(tuple(changed[0, 0]))
    assert 1 <= min(widths) <= 4
    assert 20 <= max(widths) <= WIDEST_BORDER * SIDE + 1
    assert len(colours) == 40


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_augmenting_keeps_the_range_and_follows_the_seed_for_every_photo_in_its_own_way(strength: float) -> None:
    pixels = torch.tensor(np.asarray(paint(1, (64, 64)))).expand(16, 64, 64, 3)
    change = Augment(strength, 48)
    torch.manual_seed(0)
    first, second = change(pixels), change(pixels)
    assert first.shape == (16, 48, 48, 3)
    assert 0 <= first.min() <= first.max() <= 255.01
    assert first.max() > 128
    assert not torch.equal(first, second)
    assert not any(torch.allclose(first[0], other, atol=1) for other in first[1:])
    torch.manual_seed(0)
    assert torch.equal(Augment(strength, 48)(pixels), first)


def test_coarsening_takes_detail_from_a_share_of_the_photos_and_leaves_the_others() -> None:
    board = (torch.arange(48)[:, None] + torch.arange(48)) % 2
    photos = board.float().expand(200, 3, 48, 48)
    torch.manual_seed(0)
    assert torch.equal(_Coarsen(0)(photos), photos)
    for _ in range(5):
        changed = _Coarsen(0.3)(photos)
        assert changed.shape == photos.shape
        same = (changed == photos).flatten(1).all(1)
        assert 0.15 < 1 - same.float().mean() < 0.45
        assert changed[~same].std((1, 2, 3)).max() < 0.9 * photos[0].std()
        assert torch.allclose(changed.mean((1, 2, 3)), photos.mean((1, 2, 3)), atol=0.02)


def test_augmenting_coarsens_and_at_no_strength_it_does_not() -> None:
    shares = [part.share for strength in (0, 1) for part in Augment(strength, 48).change if hasattr(part, "share")]
    assert shares == [0, pytest.approx(0.6)]
