"""What a TIFF's tags claim, before a decoder believes them: how its pixels are stored, and no more than its bytes hold.

Pillow reads many kinds of TIFF wrongly without a word: as noise, black or a negative. Those that it reads as tifffile
and libvips do (`benchmarks/pixels.py`) are listed here, and every other one is refused by what it is.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from spectraderm.core.errors import UnreadablePhoto

MAX_NUMBERS = 100_000
"""In the tags of a TIFF: two for each of its strips or tiles."""
MAX_TILE_PIXELS = 25_000_000

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_WHOLE = {1: "B", 3: "H", 4: "L", 16: "Q"}
_BYTES = frozenset({1, 2, 6, 7})
_TILE_SIDES = (322, 323)
_MAGIC = (b"*\0", b"\0*", b"+\0")
_GREY, _RGB, _PALETTE, _CMYK, _YCBCR = 1, 2, 3, 5, 6
_NAMES = {0: "white-is-zero grey", _GREY: "grey", _RGB: "RGB", _PALETTE: "palette", _CMYK: "CMYK", _YCBCR: "YCbCr"}
_NAMES |= {-1: "unstated", 4: "mask", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}
_NAMES |= dict.fromkeys((32803, 34892), "raw sensor")
_SAMPLES = {0: 1, _GREY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_BITS = {0: (1, 2, 4, 8), _GREY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _CMYK: (8, 16), _YCBCR: (8,)}
_EXTRAS = {(_GREY, 8): ((2,), 1), (_RGB, 8): ((0, 1, 2), 3), (_RGB, 16): ((0, 1, 2), 1), (_PALETTE, 8): ((0, 2), 1)}
_EXTRAS |= {(_CMYK, 8): ((0,), 2)}
"""By colours and bits: what the first sample beyond the colours may be (0 unstated, 1 alpha by which the colours are
multiplied, 2 alpha), and how many of them there may be."""
_FAX, _JPEG, _PREDICTED = (2, 3, 4), 7, (5, 8, 32946, 34925, 50000)
_RAW_PLANES = ((_GREY, ()), (_PALETTE, ()), (_RGB, ()), (_RGB, (2,)), (_CMYK, ()))
"""Colours and extra samples."""
_LOW_BIT_FIRST = ((0, 1), (_GREY, 1), (_GREY, 8), (_RGB, 8))
"""Colours and bits."""


class _Tag(NamedTuple):
    """`at` is where its values lie."""

    number: int
    kind: int
    values: int
    size: int
    at: int


class _Layout(NamedTuple):
    """How pixels are stored, by the names of the tags, with what counts where one is missing."""

    colours: int
    bits: tuple[int, ...]
    samples: int
    extras: tuple[int, ...]
    formats: tuple[int, ...]
    compression: int
    predictor: int
    planes: int
    fill_order: int
    palette: tuple[int, ...]
    inks: int
    subfile: int
    old_subfile: int

    @classmethod
    def of(cls, tags: Mapping[int, tuple[int, ...]]) -> "_Layout":
        def one(number: int, usual: int = 1) -> int:
            return (tags.get(number) or (usual,))[0]

        samples, extras = one(277), tags.get(338, ())
        if (one(262), samples, one(284), extras) == (_RGB, 4, 1, ()):
            extras = (2,)
        return cls(
            one(262, -1), tags.get(258) or (1,), samples, extras, tags.get(339) or (1,), one(259), one(317), one(284),
            one(266), tags.get(320, ()), one(332), one(254, 0), one(255),
        )  # fmt: skip

    def problem(self) -> str:
        """What of it Pillow would not read as it is meant; empty where nothing is."""
        if self.subfile & 5 or self.old_subfile == 2:
            return "that begins with a thumbnail or a mask"
        if self.colours not in _BITS:
            return f"in {_NAMES.get(self.colours, f'unknown ({self.colours})')} colours"
        if {*self.formats} != {1}:
            return "of signed, floating-point or undefined numbers"
        what = f"of {'-'.join(map(str, dict.fromkeys(self.bits)))}-bit {_NAMES[self.colours]}"
        if len({*self.bits}) > 1 or self.bits[0] not in _BITS[self.colours]:
            return what
        how = self._samples_problem() or self._values_problem() or self._order_problem()
        return f"{what} {how}" if how else ""

    def _samples_problem(self) -> str:
        kinds, most = _EXTRAS.get((self.colours, self.bits[0]), ((), 0))
        if self.samples != _SAMPLES[self.colours] + len(self.extras) or len(self.bits) not in (1, self.samples):
            return f"with {self.samples} samples a pixel"
        if self.extras and (self.extras[0] not in kinds or len(self.extras) > most or any(self.extras[1:])):
            return f"with extra samples of the kind{'s' * (len(self.extras) > 1)} {', '.join(map(str, self.extras))}"
        return ""

    def _values_problem(self) -> str:
        bits, jpeg = self.bits[0], self.compression == _JPEG
        fits = bits == 1 if self.compression in _FAX else bits == 8 if jpeg else self.colours != _YCBCR
        if self.compression not in (1, *_FAX, _JPEG, 32773, *_PREDICTED) or not fits:
            return f"in compression {self.compression}"
        if self.predictor != 1 and (self.predictor != 2 or bits < 8 or self.compression not in _PREDICTED):
            return f"with predictor {self.predictor} in compression {self.compression}"
        if self.colours == _CMYK and self.inks != 1:
            return "with other inks"
        if self.colours == _PALETTE and (len(self.palette) != 3 << bits or max(self.palette) < 256):
            return "without a palette of 16-bit levels"
        return ""

    def _order_problem(self) -> str:
        bits, raw = self.bits[0], self.compression == 1
        if self.fill_order != 1 and (self.fill_order != 2 or (self.colours, bits) not in _LOW_BIT_FIRST or self.extras):
            return "whose bytes begin with their lowest bit"
        if raw:
            fits = bits == 8 and (self.colours, self.extras) in _RAW_PLANES
        else:
            fits = self.samples == 1 or (self.colours in (_RGB, _CMYK) and len(self.extras) < 2)
        if self.planes != 1 and (self.planes != 2 or not fits or self.fill_order != 1):
            return "in separate planes"
        return ""


def _parts_problem(tags: Mapping[int, tuple[int, ...]], layout: _Layout) -> str:
    """Strips or tiles that are not as many, or not as long, as the pixels need: what is missing would be made up."""
    width, height = (max((tags.get(side) or (0,))[0], 1) for side in (256, 257))
    offsets, lengths, sides = (273, 279, (256, 278)) if 273 in tags else (324, 325, (322, 323))
    wide, high = (max((tags.get(side) or (height,))[0], 1) for side in sides)
    planes, together = (layout.samples, 1) if layout.planes == 2 else (1, layout.samples)
    parts = planes * -(-width // wide) * -(-height // high)
    size = -(-wide * together * layout.bits[0] // 8) * (planes * height if offsets == 273 else parts * high)
    if len(tags.get(offsets, ())) != parts:
        return f"of {len(tags.get(offsets, ()))} strips or tiles instead of {parts}"
    if layout.compression == 1 and lengths in tags and sum(tags[lengths]) < size:
        return f"of {sum(tags[lengths])} bytes of pixels instead of {size}"
    return ""


def check(data: bytes, name: str) -> None:
    """Look at the tags of a TIFF, before each of their numbers becomes an object, and each tile is held whole.

    Raises:
        UnreadablePhoto: they hold more than its bytes, or its pixels are stored in a way that isn't read; says which.
    """
    check_directory(data, name)
    tags = list(_tags(data))
    if sum(tag.values for tag in tags if tag.kind not in _BYTES) > MAX_NUMBERS:
        raise refusal(f"{name}: a TIFF of more than {MAX_NUMBERS} numbers in its tags")
    values = {tag.number: _numbers(data, tag) for tag in tags}
    width, height = (max(values.get(side, ()), default=1) for side in _TILE_SIDES)
    if width * height > MAX_TILE_PIXELS:
        raise refusal(f"{name}: a TIFF whose tiles are larger than {MAX_TILE_PIXELS // 1_000_000} megapixels")
    problem = "of the kind BigTIFF in big-endian order" if data[:4] == b"MM\0+" else ""
    if data[2:4] in _MAGIC and tags:
        layout = _Layout.of(values)
        problem = problem or layout.problem() or _parts_problem(values, layout)
    if problem:
        remedy = "Save it as PNG, or as an uncompressed TIFF of 8-bit RGB"
        raise UnreadablePhoto(f"{name}: a TIFF {problem} can't be read safely", remedy)


def check_directory(data: bytes, name: str) -> None:
    """Raise `UnreadablePhoto` for a TIFF or EXIF whose tags hold more than twice its bytes, one value many times."""
    held = 0
    for tag in _tags(data):
        if tag.size > 8 and tag.at + tag.size <= len(data):
            held += tag.size
        if held > 2 * len(data):
            raise refusal(f"{name}: its tags (EXIF or TIFF) hold more than its bytes")


def refusal(problem: str) -> UnreadablePhoto:
    """Of what no camera or program writes."""
    return UnreadablePhoto(problem, "Save it again with another program")


def _tags(data: bytes) -> Iterator[_Tag]:
    """The first directory of a TIFF or of EXIF, as far as it goes."""
    order, big = _order(data), data[2:3] == b"\x2b"
    if len(data) < 16:
        return
    start, number, entry = (
        (order + "Q", order + "Q", order + "HHQ") if big else (order + "L", order + "H", order + "HHL")
    )
    (at,) = struct.unpack_from(start, data, 8 if big else 4)
    if at + struct.calcsize(number) > len(data):
        return
    (count,) = struct.unpack_from(number, data, at)
    at += struct.calcsize(number)
    word = struct.calcsize(start)
    step = struct.calcsize(entry) + word
    for place in range(at, min(at + count * step, len(data) - step + 1), step):
        tag, kind, values = struct.unpack_from(entry, data, place)
        size = values * _SIZES.get(kind, 0)
        at = place + step - word
        yield _Tag(tag, kind, values, size, at if size <= word else struct.unpack_from(start, data, at)[0])


def _numbers(data: bytes, tag: _Tag) -> tuple[int, ...]:
    """The whole numbers that a tag holds; none where it holds others, or lies beyond the end."""
    if tag.kind not in _WHOLE or tag.at + tag.size > len(data):
        return ()
    return struct.unpack_from(f"{_order(data)}{tag.values}{_WHOLE[tag.kind]}", data, tag.at)


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"
