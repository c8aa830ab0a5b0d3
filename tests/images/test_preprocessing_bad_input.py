"""Bytes that are no photo, or only pretend to be one."""

import io
import struct
import sys
import time

import numpy as np
import pytest
from conftest import encode, jpeg_of_size, paint, png
from PIL import Image, ImageFile

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto
from spectraderm.images import decoding
from spectraderm.images.decoding import FORMATS, decode
from spectraderm.images.headers import MAX_SCANS

PHOTO = paint(1)
SCAN = b"\xff\xda"


def header_only(size: tuple[int, int]) -> bytes:
    return struct.pack("<2sIIIIiiHHIIIIII", b"BM", 54, 0, 54, 40, *size, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding pixels is an error that no caller may swallow."""

    def load(self: ImageFile.ImageFile) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg_of_size(30_000, 30_000), "64 megapixels"),
        (jpeg_of_size(9_000, 8_000), "64 megapixels"),
        (png(13_000, 13_000, 1, 0, bytes(1625)), "64 megapixels"),
        (jpeg_of_size(65_500, 1), "too small"),
        (jpeg_of_size(16 * 20 + 1, 16), "a strip"),
        (png(1, 1, 8, 0, b"\0"), "too small"),
        (png(15, 400, 8, 0, bytes(15)), "too small"),
        (header_only((60_000, 60_000)), "64 megapixels"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.usefixtures("no_pixels")
def test_odd_sizes_are_refused_from_the_header(data: bytes, reason: str) -> None:
    start = time.perf_counter()
    with pytest.raises(UnreadablePhoto, match=f"^bomb.x: .*{reason}"):
        decode(data, "bomb.x")
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize("size", [(16, 16), (16, 320), (320, 16)])
def test_the_smallest_and_longest_photos_are_taken(size: tuple[int, int]) -> None:
    assert decode(encode(paint(1, size), "PNG")).image.size == size


def test_a_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(PHOTO)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data))
    decode(data)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data) - 1)
    with pytest.raises(UnreadablePhoto, match="MB is more than"):
        decode(data)


def progressive(scans: int) -> bytes:
    data = encode(PHOTO, progressive=True)
    last = data[data.rindex(SCAN) : -2]
    return data[:-2] + last * (scans - data.count(SCAN)) + data[-2:]


def test_progressive_jpeg_of_many_scans_is_refused() -> None:
    decode(progressive(MAX_SCANS))
    with pytest.raises(UnreadablePhoto, match="scans"):
        decode(progressive(MAX_SCANS + 1))


def test_scan_markers_behind_a_baseline_jpeg_do_not_count() -> None:
    decode(encode(PHOTO) + SCAN * (MAX_SCANS + 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"just words", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"II*\0", b"GIF89a", b"BM"]
    + [encode(PHOTO, kind)[:-200] for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")]
    + [encode(PHOTO, kind)[:100] for kind in FORMATS]
    + [b"\0\0\0\x18ftypheic", b"\0\0\0\x18ftypmif1" + bytes(64)],
)
@pytest.mark.filterwarnings("ignore:Truncated File")
def test_incomplete_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(UnreadablePhoto, match=r"^a b/ü\.jpg: \w+") as caught:
        decode(data, "a b/ü.jpg")
    assert caught.value.remedy


def foreign() -> dict[str, bytes]:
    psd = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 32, 32, 8, 3) + bytes(12) + b"\0\0" + bytes(3 * 32 * 32)
    saved = {kind: encode(PHOTO, kind) for kind in ("EPS", "PDF", "PPM", "TGA", "ICO", "PCX", "JPEG2000", "SGI")}
    return saved | {"PSD": psd, "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"/>'}


@pytest.mark.parametrize("kind", sorted(foreign()))
def test_other_formats_are_never_opened(kind: str) -> None:
    data = foreign()[kind]
    if kind not in ("PDF", "SVG"):
        assert Image.open(io.BytesIO(data)).format == kind  # Pillow would open it
    with pytest.raises(UnreadablePhoto, match="not a photo in a known format"):
        decode(data)


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_without_its_extra_names_it(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"^a\.heic .*spectraderm\[heic\]"):
        decode(b"\0\0\0\x18ftyp" + brand + bytes(64), "a.heic")


def test_heic_decodes_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    stored = PHOTO.transpose(Image.Transpose.ROTATE_90)
    pillow_heif.from_pillow(stored).save(stream, quality=95, exif=exif.tobytes())
    photo = decode(stream.getvalue())
    assert (photo.format, photo.image.mode, photo.image.size) == ("HEIF", "RGB", PHOTO.size)
    assert np.abs(np.asarray(photo.image).astype(int) - np.asarray(PHOTO).astype(int)).mean() < 12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*FORMATS, "PROGRESSIVE", "EXIF"])
def test_mutated_bytes_raise_nothing_else(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    options: dict[str, dict[str, object]] = {
        "EXIF": {"exif": exif},
        "PROGRESSIVE": {"progressive": True},
        "TIFF": {"compression": "tiff_lzw"},
    }
    data = encode(paint(1, (40, 30)), kind if kind in FORMATS else "JPEG", **options.get(kind, {}))
    random = np.random.default_rng(7)
    refused = 0
    for _ in range(80):
        mutated = bytearray(data)
        for place in random.integers(0, min(len(data), random.choice([64, len(data)])), random.integers(1, 12)):
            mutated[place] = random.integers(256)
        try:
            decode(bytes(mutated[: random.integers(len(data) // 2, 2 * len(data))]))
        except SpectraDermError:
            refused += 1
    assert refused > 0  # else nothing was damaged
