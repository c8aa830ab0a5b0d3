"""Does every kind of photo file give the pixels that trusted readers see in it, or an error that names the kind?

    pip install tifffile imagecodecs pyvips-binary
    python benchmarks/pixels.py [--only WORDS] [--all]

Painted photos are written in every combination of TIFF's colours, bits, sample formats, planes, byte orders, strips,
tiles, compressions, predictors and extra samples, and in the kinds of PNG, JPEG, WEBP and GIF. A line of the table says
what ours made of one, and how far it is at most, and on average, from what tifffile with imagecodecs or libvips makes
of it, in levels of 0-255: `equal`, `refused` with the error, or `WRONG`, for which it exits with 1. Without `--all` a
kind that is refused or equal is only counted.
"""

import argparse
import io
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import encode, paint, png_chunk
from hostile_parts import jpeg_segment
from tiffs import Samples, packed, tiff

from spectraderm.core.errors import SpectraDermError
from spectraderm.images.decoding import decode
from spectraderm.images.rgb import turned

RGB = np.asarray(paint(1, (45, 38)))
GREY = np.asarray(paint(1, (45, 38)).convert("L"))[..., None]
ALPHA = np.asarray(paint(2, (45, 38)).convert("L"))[..., None]
CMYK = np.dstack([RGB, GREY // 2])
LEVELS = np.random.default_rng(1)
COLOURS = {"white is 0": (0, GREY), "black is 0": (1, GREY), "RGB": (2, RGB), "palette": (3, GREY), "CMYK": (5, CMYK)}
COLOURS |= {"mask": (4, GREY), "YCbCr": (6, RGB), "CIELab": (8, RGB), "ICCLab": (9, RGB), "ITULab": (10, RGB)}
COLOURS |= {"CFA": (32803, GREY), "LogL": (32844, GREY), "LogLuv": (32845, RGB), "LinearRaw": (34892, RGB)}
ODD: dict[str, Mapping[int, Any]] = {
    "no colours": {262: None}, "no bits": {258: None}, "no samples": {277: None}, "no planes": {284: None},
    "5-6-5 bits": {258: [5, 6, 5]}, "8-8-16 bits": {258: [8, 8, 16]}, "one number of bits": {258: [8]},
    "a thumbnail first": {254: [1]}, "a mask first": {254: [4]}, "a page": {254: [2]}, "an old thumbnail": {255: [2]},
    "other inks": {332: [2]}, "undefined numbers": {339: [4] * 3}, "complex numbers": {339: [6] * 3},
    "mixed formats": {339: [1, 1, 2]}, "one format": {339: [1]}, "predictor 2": {317: [2]}, "predictor 3": {317: [3]},
    "fill order 2": {266: [2]}, "fill order 3": {266: [3]}, "JPEG 2000": {259: [34712]}, "old JPEG": {259: [6]},
    "Thunderscan": {259: [32809]}, "SGILog": {259: [34676]}, "a 12-bit maximum": {281: [4095]},
}  # fmt: skip
ZIP: dict[str, Any] = {"compression": 8, "compress": zlib.compress}
LAYOUTS: dict[str, dict[str, Any]] = {"strip": {}, "strips": {"rows": 7}, "tiles": {"tile": (16, 32)}, "zip": ZIP}
LOW_BIT_FIRST = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


class Case(NamedTuple):
    """A file, who is trusted to read it, and by how much we may differ."""

    name: str
    data: bytes
    reader: Callable[[bytes], Samples | None]
    tolerance: int = 1


def at_bits(pixels: Samples, bits: int) -> Samples:
    """8-bit pixels at another depth; at 64 bits they are moved up."""
    if bits < 8:
        return pixels >> (8 - bits)
    kinds: dict[int, Any] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
    kind = kinds[next(size for size in kinds if size >= bits)]
    values: Samples = (pixels.astype(np.uint64) * (2 ** min(bits, 32) - 1) // 255).astype(kind)
    return values << (32 if bits == 64 else 0)


def by_tifffile(data: bytes) -> Samples | None:
    """The first page in RGB over white, upright; None where its numbers have no one scale, or it can't be read."""
    import tifffile  # noqa: PLC0415

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            tags = {tag.code: tag.value for tag in page.tags}
            return _in_rgb(np.asarray(page.asarray()), page, tags, data)
    except Exception:  # of any kind, on files that nobody reads
        return None


def _in_rgb(samples: Samples, page: Any, tags: Mapping[int, Any], data: bytes) -> Samples | None:  # noqa: ANN401
    colours, bits, extra = int(page.photometric), page.bitspersample, [int(kind) for kind in page.extrasamples]
    if colours == 6 or (colours == 2 and page.samplesperpixel == 4 and not extra):
        return by_vips(data)
    if samples.dtype.kind not in "bu" or bits > 16 or colours not in (0, 1, 2, 3, 5):
        return None
    if int(page.planarconfig) == 2 and page.samplesperpixel > 1:
        samples = np.moveaxis(samples, 0, 2)
    own = page.samplesperpixel - len(extra)
    samples = samples.reshape(*samples.shape[:2], -1)
    whole = (samples.astype(float) * (255 / (2**bits - 1)) if bits < 8 else samples >> (bits - 8)).astype(np.uint8)
    pixels = 255 - whole[..., :own] if colours == 0 else whole[..., :own]
    if colours == 3:
        levels = np.asarray(tags[320]).reshape(3, -1)
        pixels = (levels >> 8 * (levels.max() > 255)).T[samples[..., 0].astype(int)]
    elif colours == 5:
        pixels = over_black(255 - pixels)
    if extra[:1] in ([1], [2]):
        alpha = whole[..., own : own + 1] / 255
        pixels = np.clip(pixels * (alpha if extra[0] == 2 else 1) + 255 * (1 - alpha), 0, 255)
    image = Image.fromarray(np.broadcast_to(np.rint(pixels), (*samples.shape[:2], 3)).astype(np.uint8))
    return np.asarray(turned(image, tags.get(274, 1)))


def over_black(paper: Samples) -> Samples:
    """What is left of white paper beside each ink, in RGB."""
    return np.rint(paper[..., :3].astype(float) * paper[..., 3:] / 255).astype(np.uint8)


def by_inks(data: bytes) -> Samples:
    """A JPEG of four colours, which holds paper and not ink, as libjpeg decodes it."""
    import imagecodecs  # noqa: PLC0415

    return over_black(np.asarray(imagecodecs.jpeg8_decode(data, outcolorspace="CMYK")))


def by_vips(data: bytes) -> Samples | None:
    """In sRGB over white, upright; None where it can't be read."""
    import pyvips  # noqa: PLC0415

    try:
        image = pyvips.Image.new_from_buffer(data, "").autorot()
        image = image.icc_transform("srgb", embedded=True) if image.get_typeof("icc-profile-data") else image
        image = image.colourspace("srgb")
        image = (image.flatten(background=[255] * 3) if image.hasalpha() else image).cast("uchar")
        pixels = image.numpy().reshape(image.height, image.width, -1)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    except pyvips.Error:
        return None


def by_nobody(data: bytes) -> None:
    """No reader agrees with another on it."""


def palette(bits: int) -> dict[int, Any]:
    """A tag with random colours."""
    return {320: LEVELS.integers(0, 65536, 3 << bits).tolist()}


def tiffs() -> Iterator[Case]:
    """Every photometric interpretation at every depth, in every layout."""
    for (name, (colours, pixels)), bits in product(COLOURS.items(), (1, 2, 4, 8, 10, 12, 14, 16, 24, 32, 64)):
        tags: dict[int, Any] = palette(bits) if colours == 3 and bits <= 8 else {530: [1, 1]} if colours == 6 else {}
        samples = at_bits(pixels, bits)
        for planar, order, big, how in product((1, 2), "<>", (False, True), LAYOUTS):
            options = LAYOUTS[how]
            data = tiff(samples, colours, bits=bits, planar=planar, order=order, big=big, tags=tags, **options)
            yield Case(f"TIFF {name} {bits} bits planar {planar} {order}{' big' * big} {how}", data, by_tifffile)
    for name, kind, planar, order in product(COLOURS, ("i1", "i2", "i4", "f2", "f4", "f8"), (1, 2), "<>"):
        samples = COLOURS[name][1] // 2 if kind[0] == "i" else COLOURS[name][1] / 255
        data = tiff(samples.astype(kind), COLOURS[name][0], planar=planar, order=order)
        yield Case(f"TIFF {name} {kind} planar {planar} {order}", data, by_nobody)


def tiffs_of_more() -> Iterator[Case]:
    """Extra samples, orientation, fill order, and tags that are missing or odd."""
    layouts = list(product((8, 16), (1, 2), "<>", ({}, ZIP)))
    kinds = ((0,), (1,), (2,), (999,), (), (0, 0), (2, 0), (0, 2), (1, 0), (0, 0, 0), (2, 0, 0))
    for name, extra, (bits, planar, order, packing) in product(
        ("white is 0", "black is 0", "RGB", "palette", "CMYK"), kinds, layouts
    ):
        colours, pixels = COLOURS[name]
        shown = pixels.astype(int) * ALPHA // 255 if colours == 2 and extra[:1] == (1,) else pixels
        samples = at_bits(np.dstack([shown, *[ALPHA] * max(1, len(extra))]).astype(np.uint8), bits)
        tags = ({338: list(extra)} if extra else {}) | (palette(8) if colours == 3 else {})
        data = tiff(samples, colours, planar=planar, order=order, tags=tags, **packing)
        yield Case(f"TIFF {name} {bits} bits + {extra} planar {planar} {order} {len(packing)}", data, by_tifffile, 2)
    for name, bits, tag, packing in product(
        ("white is 0", "black is 0", "RGB", "palette", "CMYK"), (1, 2, 4, 8, 16), range(1, 10), ({}, ZIP)
    ):
        colours, pixels = COLOURS[name]
        tags = ({274: [tag]} if tag < 9 else {266: [2]}) | (palette(bits) if colours == 3 and bits <= 8 else {})
        pack = packing.get("compress", bytes)
        turn = {"compress": lambda data, pack=pack: pack(data).translate(LOW_BIT_FIRST)} if tag == 9 else {}
        data = tiff(at_bits(pixels, bits), colours, bits=bits, rows=11, tags=tags, **{**packing, **turn})
        yield Case(f"TIFF {name} {bits} bits turned {tag} {len(packing)}", data, by_tifffile)
    for (odd, tags), (name, (colours, pixels)), planar in product(ODD.items(), COLOURS.items(), (1, 2)):
        own = palette(8) if colours == 3 else {}
        yield Case(
            f"TIFF {name} {odd} planar {planar}",
            tiff(pixels, colours, planar=planar, tags={**own, **tags}),
            by_tifffile,
        )
    for bits in (1, 2, 4, 8):
        dark = {320: [number % 256 for number in range(3 << bits)]}
        yield Case(
            f"TIFF palette of 8-bit levels {bits}", tiff(at_bits(GREY, bits), 3, bits=bits, tags=dark), by_tifffile
        )


def tiffs_by_programs() -> Iterator[Case]:
    """Compressions, predictors and subsamplings as tifffile, Pillow and libvips write them."""
    import pyvips  # noqa: PLC0415
    import tifffile  # noqa: PLC0415

    def written(pixels: Samples, **options: Any) -> bytes:  # noqa: ANN401
        stream = io.BytesIO()
        try:
            tifffile.imwrite(stream, pixels, metadata=None, **options)
        except Exception:  # the writer has no such kind
            return b""
        return stream.getvalue()

    packings = (
        "lzw",
        "adobe_deflate",
        "deflate",
        "packbits",
        "lzma",
        "zstd",
        "webp",
        "jpeg",
        "jpeg2000",
        "jpegxl",
        "png",
        "lerc",
    )
    for pixels, bits, packing, predictor, order, tile, planar in product(
        (RGB, GREY), (8, 16), packings, (1, 2, 3), "<>", (None, (16, 32)), (1, 2)
    ):
        given = np.moveaxis(at_bits(pixels, bits), 2, 0) if planar == 2 else at_bits(pixels, bits)
        options: dict[str, Any] = {"photometric": "rgb", "planarconfig": planar} if pixels is RGB else {}
        options |= {"compression": packing, "predictor": predictor, "byteorder": order, "tile": tile}
        data = written(given if pixels is RGB else given.squeeze(), rowsperstrip=None if tile else 12, **options)
        if data:
            yield Case(
                f"TIFF {packing} predictor {predictor} {bits} bits x {pixels.shape[2]} {order} {tile} {planar}",
                data,
                by_tifffile,
                2,
            )
    for sub, tile in product(((1, 1), (2, 1), (2, 2), (1, 2), (4, 1), (4, 2)), (None, (32, 32))):
        options = {"photometric": "rgb", "compression": "jpeg", "subsampling": sub, "tile": tile}
        data = written(np.asarray(paint(1, (96, 64))), **options)
        if data:
            yield Case(f"TIFF JPEG of YCbCr {sub} {tile}", data, by_vips, 3)
    for packing in ("group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
        yield Case(f"TIFF 1 bit {packing}", encode(paint(1).convert("1"), "TIFF", compression=packing), by_tifffile)
    spaces = ("srgb", "b-w", "cmyk", "lab", "labs", "rgb16", "grey16", "scrgb", "xyz")
    for space, packing, tile, white in product(
        spaces, ("none", "jpeg", "deflate", "lzw", "zstd"), (False, True), (False, True)
    ):
        image = pyvips.Image.new_from_array(RGB).colourspace(space)
        try:
            data = image.tiffsave_buffer(compression=packing, tile=tile, miniswhite=white, keep="none")
        except pyvips.Error:
            continue
        reader = by_tifffile if space == "cmyk" else by_vips
        yield Case(f"TIFF {space} by libvips {packing} {tile} {white}", data, reader, 2)


def pngs() -> Iterator[Case]:
    """Every depth and colour, with and without a transparent colour, plain and interlaced."""
    import pyvips  # noqa: PLC0415

    whole = {0: GREY, 2: RGB, 3: GREY, 4: np.dstack([GREY, ALPHA]), 6: np.dstack([RGB, ALPHA])}
    for colour, depth in [*product((0, 3), (1, 2, 4, 8)), (0, 16), *product((2, 4, 6), (8, 16))]:
        pixels = at_bits(whole[colour], depth)
        some, channels = pixels[20, 20].astype(">u2"), pixels.shape[2]
        kinds: dict[str, list[tuple[bytes, bytes]]] = {"": []}
        if colour in (0, 2):
            kinds |= {" clear": [(b"tRNS", some.tobytes())], " clear beside": [(b"tRNS", (some ^ 1).tobytes())]}
        if colour == 3:
            kinds |= {
                " clear": [(b"tRNS", bytes(LEVELS.integers(0, 256, 1 << depth, np.uint8)))],
                " one": [(b"tRNS", b"\xff\0")],
            }
        kinds |= {" sBIT": [(b"sBIT", bytes([1] * (3 if colour == 3 else channels)))]}
        for name, chunks in kinds.items():
            own = [(b"PLTE", bytes(LEVELS.integers(0, 256, 3 << depth, np.uint8)))] if colour == 3 else []
            header = b"".join(side.to_bytes(4, "big") for side in (45, 38)) + bytes((depth, colour, 0, 0, 0))
            lines = b"".join(b"\0" + packed(line[None], depth, ">") for line in pixels)
            parts = [(b"IHDR", header), *own, *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
            data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)
            yield Case(f"PNG colour {colour} {depth} bits{name}", data, by_vips)
            if depth >= 8:
                again = pyvips.Image.new_from_buffer(data, "").pngsave_buffer(interlace=True)
                yield Case(f"PNG colour {colour} {depth} bits{name} interlaced", again, by_vips)


def jpegs() -> Iterator[Case]:
    """JPEG's modes, marks and depths."""
    import imagecodecs  # noqa: PLC0415

    photo = paint(1, (96, 72))
    for mode, progressive, sub in product(("L", "RGB", "CMYK"), (False, True), (0, 1, 2)):
        data = encode(photo.convert(mode), quality=95, progressive=progressive, subsampling=sub)
        yield Case(f"JPEG {mode} {progressive} {sub}", data, by_inks if mode == "CMYK" else by_vips, 3)
    yield Case("JPEG RGB without transform", encode(photo, quality=95, keep_rgb=True), by_vips, 3)
    marks = {transform: jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])) for transform in (0, 1, 2)}
    inks, plain = encode(photo.convert("CMYK"), quality=95), encode(photo, quality=95, subsampling=0)
    at, end = inks.index(b"\xff\xee"), 4 + int.from_bytes(plain[4:6], "big")
    for transform, mark in (marks | {None: b""}).items():
        yield Case(f"JPEG of four colours, Adobe {transform}", inks[:at] + mark + inks[at + 16 :], by_inks, 3)
        for name, head in (("with JFIF", plain[2:end]), ("alone", b"")):
            yield Case(
                f"JPEG of three colours, Adobe {transform} {name}", plain[:2] + head + mark + plain[end:], by_vips, 3
            )
    for bits, lossless, pixels in product((8, 10, 12, 16), (False, True), (RGB, GREY[..., 0])):
        if bits in (8, 12) or lossless:
            data = imagecodecs.jpeg8_encode(at_bits(pixels, bits), level=95, lossless=lossless, bitspersample=bits)
            yield Case(f"JPEG {bits} bits lossless {lossless}", data, by_vips, 3)


def others() -> Iterator[Case]:
    """WEBP, GIF, and several frames."""
    for pixels, lossless in product((RGB, np.dstack([RGB, ALPHA])), (False, True)):
        data = encode(Image.fromarray(pixels), "WEBP", lossless=lossless)
        yield Case(f"WEBP of {pixels.shape[2]} samples, lossless {lossless}", data, by_vips, 3)
    for mode, interlace in product(("1", "L", "P"), (0, 1)):
        data = encode(Image.fromarray(RGB).convert(mode), "GIF", interlace=interlace)
        yield Case(f"GIF {mode} {interlace}", data, by_vips)
    for kind in ("WEBP", "GIF", "PNG"):
        data = encode(Image.fromarray(RGB), kind, save_all=True, append_images=[paint(2, (45, 38))])
        yield Case(f"{kind} of frames", data, by_vips, 3)


def outcome(case: Case) -> tuple[str, str]:
    """Verdict, and why."""
    try:
        ours = np.asarray(decode(case.data, "x").image).astype(int)
    except SpectraDermError as error:
        return "refused", str(error)
    trusted = case.reader(case.data)
    if trusted is None or trusted.shape != ours.shape:
        return "WRONG", f"read, where the trusted reader has {None if trusted is None else trusted.shape}"
    far = np.abs(ours - trusted)
    return ("equal" if far.max() <= case.tolerance else "WRONG"), f"at most {far.max()}, on average {far.mean():.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="of a name")
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    for source in (tiffs, tiffs_of_more, tiffs_by_programs, pngs, jpegs, others):
        for case in source():
            if args.only in case.name:
                verdict, why = outcome(case)
                counts[verdict] += 1
                if args.all or verdict == "WRONG":
                    print(f"{verdict:7} | {case.name} | {why}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    sys.exit(counts["WRONG"] > 0)


if __name__ == "__main__":
    main()
