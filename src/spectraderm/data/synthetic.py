"""Paints a small data set of skin-like photos in eight classes and plants flaws in it, to try every stage on.

These are paintings, noise and blots of colour, not medical images: what is learnt from them says nothing of skin.
Knows nothing of hashes or models, nor of how the flaws it plants are found.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from spectraderm.core import files
from spectraderm.core.errors import DatasetError

Field = npt.NDArray[np.float32]
GIVEN_AWAY = "FU-nail-fungus"
_BROKEN = "BA-impetigo"
_RED = np.array((0.98, 0.62, 0.6), np.float32)
_SHADOW = np.array((0.6, 0.42, 0.4), np.float32)
_TONES = np.frombuffer(bytes.fromhex("f7dbc7 ebc2a3 cc9975 a37052 784f38 54382b"), np.uint8).reshape(-1, 3) / 255
# per class: width and fading of the red halo, its factor; opacity and colour of the core; how raised and how rough
_LOOKS = {
    "BA- cellulitis": (1.2, 0.7, (1.0, 0.6, 0.58), 0.0, (0.0, 0.0, 0.0), 0.04, 0.0),
    "BA-impetigo": (1.7, 0.5, (1.0, 0.66, 0.6), 0.85, (0.8, 0.56, 0.22), 0.05, 0.012),
    "FU-athlete-foot": (1.4, 0.6, (1.0, 0.72, 0.7), 0.65, (0.92, 0.88, 0.81), 0.02, 0.004),
    GIVEN_AWAY: (1.2, 0.12, (0.66, 0.5, 0.46), 0.9, (0.78, 0.64, 0.38), 0.07, 0.008),
    "FU-ringworm": (1.9, 1.2, (0.98, 0.5, 0.5), 0.25, (0.86, 0.7, 0.64), 0.03, 0.01),
    "PA-cutaneous-larva-migrans": (2.3, 1.4, (0.98, 0.55, 0.5), 0.35, (0.74, 0.3, 0.26), 0.03, 0.0),
    "VI-chickenpox": (1.8, 0.8, (0.98, 0.5, 0.48), 0.5, (0.93, 0.78, 0.7), 0.03, 0.0),
    "VI-shingles": (1.8, 0.8, (0.98, 0.58, 0.56), 0.55, (0.94, 0.82, 0.66), 0.03, 0.0),
}


@dataclass(frozen=True)
class Planted:
    """What was painted and which flaws were planted; paths are relative to the root, with forward slashes.

    `classes` are the class folders. `copies` tells of each leaked test photo which training photo it is, turned or
    mirrored and encoded anew; the few such copies inside the training set are not listed. `unreadable` are the files
    cut off in the middle, `given_away` is the class whose photos alone have all one size, and `photo_groups` counts
    the distinct readable photos.
    """

    classes: tuple[str, ...]
    copies: dict[str, str]
    unreadable: tuple[str, ...]
    given_away: str
    photo_groups: int


def paint(root: Path, seed: int = 0, per_class: int = 24) -> Planted:
    """Paint `per_class` (4 or more) distinct photos a class under `root/train_set` and `root/test_set`: all, or none.

    The same seed gives the same bytes with the same Pillow. Raises `DatasetError` where `root` is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DatasetError(f"{root} is not empty", "Give another folder")
    photos: dict[str, bytes] = {}
    copies: dict[str, str] = {}
    for number, label in enumerate(_LOOKS):
        leaks = (number % 4 != 3) * max(1, per_class // 12)
        copies |= _paint_class(photos, label, [seed, number], per_class, leaks)
    broken = f"train_set/{_BROKEN}/{2 * per_class:03d}.jpg"
    photo = paint_photo(_BROKEN, np.random.default_rng([seed, len(_LOOKS)]), (180, 160))
    photos[broken] = _encoded(photo)[:2500]
    photos |= {f"train_set/{_BROKEN}/{name}": bytes(64) for name in (".DS_Store", "Thumbs.db")}
    files.write_folder(root, photos)
    return Planted(tuple(_LOOKS), copies, (broken,), GIVEN_AWAY, per_class * len(_LOOKS))


def paint_photo(label: str, random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Paint one photo of a class, RGB, `size` being (width, height). Raises `KeyError` on an unknown class."""
    halo, fading, red, opacity, colour, raised, rough = _LOOKS[label]
    skin = _Skin(random, size)
    depth = _depth(label, skin)
    clarity = random.uniform(0.2, 1)
    skin.lay(clarity * _soft(halo - depth, fading), skin.colour * np.array(red, np.float32))
    core = _soft(1 - depth, fading)
    hue = np.array(colour * random.uniform(0.9, 1.1, 3), np.float32)
    skin.lay(opacity * clarity * core, hue * (1 + 0.1 * skin.noise(8) + 0.06 * skin.noise(25))[..., None])
    skin.height += clarity * core * (raised + rough * skin.noise(40))
    return skin.photograph()


def paint_nonsense(root: Path, seed: int = 0) -> list[str]:
    """Paint two pictures that no skin classifier should name: coloured blocks, and a photo in the dark; their names."""
    random = np.random.default_rng([seed, len(_LOOKS) + 1])
    blocks = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    grain = random.normal(0, 12, (240, 320, 3))
    pixels = np.clip(np.kron(blocks, np.ones((40, 40, 1))) + grain, 0, 255).astype(np.uint8)
    night = paint_photo(_BROKEN, random, (320, 240)).point([level // 30 for level in range(256)] * 3)
    photos = {"blocks.jpg": _encoded(Image.fromarray(pixels)), "night.jpg": _encoded(night)}
    files.write_folder(root, photos)
    return list(photos)


def _paint_class(photos: dict[str, bytes], label: str, seed: list[int], count: int, leaks: int) -> dict[str, str]:
    """Add one class, a sixth of it as test photos, and copies of its last training photos; returns the leaks."""
    random, kept = np.random.default_rng(seed), count - max(1, count // 6)
    copies: dict[str, str] = {}
    for index in range(count):
        width, height = (128, 128) if label == GIVEN_AWAY else random.integers(140, 221, 2).tolist()
        photo = paint_photo(label, np.random.default_rng([*seed, index + 1]), (width, height))
        kind, suffix = ("PNG", "png") if random.random() < 0.06 else ("JPEG", "jpg")
        path = f"{'train_set' if index < kept else 'test_set'}/{label}/{index:03d}.{suffix}"
        photos[path] = _encoded(photo, kind)
        if kept - leaks - (leaks != 1) <= index < kept:
            leaked = index >= kept - leaks
            copy = f"{'test_set' if leaked else 'train_set'}/{label}/{count + index:03d}.jpg"
            turn = Image.Transpose(int(random.integers(5)))  # the flips and quarter turns
            photos[copy] = _encoded(photo.transpose(turn), quality=int(random.integers(60, 85)))
            copies |= {copy: path} if leaked else {}
    return copies


def _encoded(photo: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, kind, quality=quality)
    return stream.getvalue()


class _Skin:
    """Skin being painted: `colour` float32[h, w, 3] in 0..1, `height` float32[h, w]; `u`, `v` are the lesion's axes."""

    def __init__(self, random: np.random.Generator, size: tuple[int, int]) -> None:
        self.random, self.size = random, size
        rows, columns = np.indices(size[::-1], np.float32)
        self.x, self.y = (2 * columns - size[0]) / min(size), (2 * rows - size[1]) / min(size)
        angle, zoom, tone = random.uniform((0, 0.8, 0), (2 * np.pi, 1.9, len(_TONES) - 1)).tolist()
        x, y = (zoom * (axis - random.uniform(-0.3, 0.3)) + 0.04 * self.noise(5) for axis in (self.x, self.y))
        self.u: Field = x * np.cos(angle) + y * np.sin(angle)
        self.v: Field = y * np.cos(angle) - x * np.sin(angle)
        base = [np.interp(tone, range(len(_TONES)), channel) for channel in _TONES.T]
        self.colour = np.array(base, np.float32) * (1 + 0.04 * self.noise(7) + 0.03 * self.noise(50))[..., None]
        self.height = 0.0016 * self.noise(70) + 0.05 * self.noise(3)
        self.lay(_soft(self.noise(5), 1.5), self.colour * np.array((1, 0.88, 0.87), np.float32))

    def noise(self, cells: int) -> Field:
        """Smooth noise float32[h, w] of about unit variance with `cells` bumps a side."""
        coarse = Image.fromarray(self.random.standard_normal((cells, cells), np.float32))
        return np.asarray(coarse.resize(self.size, Image.Resampling.BICUBIC), np.float32)

    def spots(self, centres: npt.NDArray[np.float64], smallest: float, largest: float) -> Field:
        """Distance to the nearest spot, in its own radius: below 1 inside. `centres` float64[n, 2] in `u`, `v`."""
        nearest = np.full(self.u.shape, 999, np.float32)
        for (u, v), radius in zip(centres.tolist(), self.random.uniform(smallest, largest, len(centres)), strict=True):
            np.minimum(nearest, ((self.u - u) ** 2 + (self.v - v) ** 2) / float(radius**2), out=nearest)
        return np.sqrt(nearest)

    def lay(self, mask: Field, colour: Field) -> None:
        """Blend a colour, float32[3] or [h, w, 3], over where `mask` is 1."""
        self.colour += mask[..., None] * (colour - self.colour)

    def photograph(self) -> Image.Image:
        """Light the relief, hold cloth before the edges, expose, blur, and round to 8 bits."""
        random, (light, away) = self.random, self.random.uniform(0, 2 * np.pi, 2).tolist()
        down, right = np.gradient(self.height * min(self.size) / 2)
        slope = right * np.cos(light) + down * np.sin(light)
        falloff = 0.16 * (self.x * np.cos(away) + self.y * np.sin(away)) + 0.11 * self.noise(4) + 0.07 * self.noise(7)
        self.colour *= (1 + 0.7 * np.clip(slope, -0.5, 0.5) + falloff - 0.08 * (self.x**2 + self.y**2))[..., None]
        self.colour += np.clip(slope - 0.25, 0, 0.4)[..., None] * 0.4
        for _ in range(random.integers(0, 4)):
            angle, start, grey = random.uniform((0, 0.65, 0.1), (2 * np.pi, 1.05, 0.9)).tolist()
            depth = self.x * np.cos(angle) + self.y * np.sin(angle) - start + 0.06 * self.noise(4)
            self.lay(_soft(depth + 0.3, 0.4), self.colour * 0.75)
            cloth = np.array(grey * random.uniform(0.75, 1, 3), np.float32)
            self.lay(_soft(depth, 0.04), cloth * (1 + 0.1 * self.noise(9))[..., None])
        self.colour *= np.array(random.uniform(0.8, 1.12) * random.uniform(0.95, 1.05, 3), np.float32)
        self.colour += 0.012 * random.standard_normal(self.colour.shape, np.float32)
        pixels = (np.clip(self.colour, 0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(random.uniform(0.2, 1.8)))


def _soft(depth: Field, width: float) -> Field:
    """A mask: 0 where `depth` is below 0, 1 above `width`, smooth between."""
    share: Field = np.clip(depth / width, 0, 1)
    return share * share * (3 - 2 * share)


def _depth(label: str, skin: _Skin) -> Field:
    """Distance from the lesion in its own radius, float32[h, w]: below 1 inside. Shingles get their red band, too."""
    random = skin.random
    a, b = (float(share) for share in random.random(2))
    if label == "BA- cellulitis":
        radius: Field = np.hypot(skin.u, skin.v * (1 + 0.6 * a)) / (0.6 + 0.5 * b)
        return radius + 0.2 * skin.noise(5)
    if label == "BA-impetigo":
        return skin.spots(random.normal(0, 0.27, (6 + int(8 * a), 2)), 0.08, 0.2) + 0.15 * skin.noise(20)
    if label == "PA-cutaneous-larva-migrans":
        turns = np.convolve(random.normal(0, 0.12, 110), np.hanning(11), "valid")
        path = np.cumsum(0.035 * np.exp(1j * np.cumsum(turns)))
        path -= path.mean()
        return skin.spots(np.stack([path.real, path.imag], 1), 0.035, 0.045)
    if label == "VI-chickenpox":
        return skin.spots(random.uniform(-1.4, 1.4, (35 + int(40 * a), 2)), 0.03, 0.075)
    if label == "VI-shingles":
        line = random.uniform(-1.2, 1.2, (5 + int(4 * a), 1, 2)) * (1, 0.08)
        band = _soft(2.8 - skin.spots(line[:, 0], 0.09, 0.14) + 0.3 * skin.noise(8), 1.6)
        skin.lay(0.8 * band, skin.colour * _RED)
        return skin.spots((line + random.normal(0, 0.1, (len(line), 9, 2))).reshape(-1, 2), 0.03, 0.065)
    return _fungus(label, skin)


def _fungus(label: str, skin: _Skin) -> Field:
    """`_depth` of the three fungi, painting toes, the finger around a nail, and the pink inside of a ring."""
    u, v = skin.u, skin.v
    depth: Field = np.abs(u)
    a, b, c = (float(share) for share in skin.random.random(3))
    if label == "FU-athlete-foot":
        across: Field = np.abs((u / (0.7 + 0.4 * a) + b) % 1 * 2 - 1)
        skin.height += 0.2 * np.sqrt(1.05 - across * across)
        skin.lay(_soft(across - 0.85, 0.15), skin.colour * _SHADOW)
        ends = _soft(np.abs(v + c - 0.5) - 0.4, 0.5)
        depth = 1.9 - 1.3 * across + ends + 0.45 * skin.noise(12) + 0.3 * skin.noise(28)
    elif label == GIVEN_AWAY:
        skin.height += 0.4 * np.sqrt(np.clip(1 - u * u, 0.05, None))
        skin.lay(_soft(depth - 0.75, 0.08), np.full(3, 0.15, np.float32))
        depth = (np.abs(u / (0.4 + 0.2 * a)) ** 2.6 + np.abs(v / (0.45 + 0.3 * b)) ** 2.6) ** (1 / 2.6)
    else:
        radius = np.hypot(u, v * (1 + 0.25 * a)) / (0.4 + 0.35 * b) + 0.06 * skin.noise(8)
        skin.lay(0.3 * _soft(1 - radius, 0.2), skin.colour * _RED)
        depth = np.abs(radius - 1) / (0.13 + 0.08 * c)
    return depth
