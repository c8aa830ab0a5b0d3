"""Painted photos, and rows of a manifest without any.

Photos are noise of few waves, so that no two seeds share a perceptual hash and every encoder keeps it.
"""

import gc
import io
import os
import re
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from spectraderm.data.manifest import Row
from spectraderm.data.synthetic import paint_photo

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tinynet import Exported

    from spectraderm import Classifier

T = TypeVar("T")
LONGEST = (
    *("test_notebook", "test_demo", "test_loop", "test_site", "test_distributed", "test_image_network"),
    *("test_pipeline", "test_cli_evaluate", "test_adaptation", "test_cli_stages", "test_bulk", "test_server"),
    *("test_faults", "test_sources", "test_other", "test_page", "test_benchmarks", "test_api", "test_export"),
)
"""Files that take longest, which begin first, so that no process has one left when the others are done."""

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch, imported later: on networks this small, threads only wait

MADE_BY: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> the turn of an upright photo that a camera stores together with it."""


def plain_id(value: object) -> str:
    """What names a value of a parameter in every process: no address in memory."""
    return re.sub(" at 0x[0-9a-f]+", "", str(value))


def paint(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """A photo that no other seed gives; `size` is (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def skin(size: tuple[int, int] = (224, 224), seed: int = 0) -> Image.Image:
    """A painted photo; larger ones are enlarged, which takes nothing away at the working size."""
    painted = paint_photo("BA-impetigo", np.random.default_rng(seed), (240, 180))
    return painted.resize(size, Image.Resampling.BICUBIC)


def page(size: tuple[int, int]) -> Image.Image:
    image, font = Image.new("RGB", size, "white"), ImageFont.load_default(size[1] // 20)
    for line in range(1, 18):
        words = "Take one tablet of it twice a day with food, and see a doctor. "
        ImageDraw.Draw(image).text((size[0] // 20, line * size[1] // 19), words[line:] + words, "black", font)
    return image


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, scanline: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of equal lines, written by hand; `colour` is 0 for grey and 2 for RGB, `chunks` come before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress((b"\0" + scanline) * height, 1)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header claims another size."""
    data = encode(paint(0, (64, 64)))
    size = data.index(b"\xff\xc0") + 5
    return data[:size] + struct.pack(">HH", height, width) + data[size + 4 :]


def write_photos(root: Path, folders: Mapping[str, int], first_seed: int = 0) -> list[str]:
    """Paint so many distinct photos into each folder below `root`; returns their relative paths, in order."""
    paths = []
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            paths.append(f"{folder}/{number:02d}.jpg")
            width = 96 + (first_seed + len(paths)) % 3
            (root / paths[-1]).write_bytes(encode(paint(first_seed + len(paths), (width, 72)), quality=90))
    return paths


def row(path: str, label: str, group: int, given: str = "") -> Row:
    return Row(path, label, given, "0" * 64, "JPEG", 96, 72, 1000, group)


def grouped(*groups_of_class: int) -> list[Row]:
    """One class per number, of so many photo groups; every third group holds three copies, not one."""
    rows: list[Row] = []
    for number, groups in enumerate(groups_of_class):
        for own in range(groups):
            copies = range(3 if own % 3 == 0 else 1)
            rows += [row(f"c{number}/{own}-{copy}.jpg", f"c{number}", 1000 * number + own) for copy in copies]
    return rows


def given(train: int, test: int, val: int = 0) -> list[Row]:
    """Two classes in given folders, every photo a group of its own, except one copy across train and test."""
    counts = {"train": train, "test": test, "val": val}
    paths = [(name, label, n) for name, count in counts.items() for label in ("a", "b") for n in range(count)]
    rows = [row(f"{s}/{label}/{n}.jpg", label, number, s) for number, (s, label, n) in enumerate(paths)]
    return [replace(r, photo_group=0) if r.path == "test/a/0.jpg" else r for r in rows]


TINTS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))


def write_tinted(
    root: Path,
    folders: Mapping[str, int],
    colours: Mapping[str, tuple[int, int, int]] | None = None,
    seed: int = 0,
    size: tuple[int, int] = (96, 72),
) -> Path:
    """Photos that no two share, each class (the folder's last part) in its colour: easy to learn.

    By default `TINTS` in the order of the classes' names; a class without a colour is grey. Seeds count up from `seed`.
    """
    labels = sorted({folder.rsplit("/", 1)[-1] for folder in folders})
    known = dict(zip(labels, TINTS, strict=False)) if colours is None else colours
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        tint = Image.new("RGB", size, known.get(folder.rsplit("/", 1)[-1], (128, 128, 128)))
        for number in range(count):
            photo = Image.blend(paint(seed, size), tint, 0.4)
            (root / folder / f"{number:02d}.jpg").write_bytes(encode(photo, quality=90))
            seed += 1
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their names in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def listening(server: HTTPServer) -> Iterator[str]:
    """The address of a server, which answers in a thread of its own meanwhile."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pytest_configure(config: pytest.Config) -> None:
    """Files in several processes: in our order, not xdist's, by how many tests they have."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    gc.freeze()  # all that was imported by now: every training collects garbage, and would go through it


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes what the user's own runs have kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECTRADERM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_trees() -> None:
    """Forests of shortcuts are small in all tests: most of them audit, and none of these asks how well trees guess."""
    from spectraderm.data import shortcuts

    shortcuts._TREES = 5


@pytest.fixture(scope="session", autouse=True)
def _traced_once() -> Iterator[None]:
    """Torch takes seconds to write a network as ONNX: once for all that differ in their linear heads alone."""
    if "spectraderm.training.onnx_graph" not in sys.modules:
        yield
        return
    from tinynet import traced_once

    with traced_once():
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 12 photos in given folders; don't write into it."""
    labels, counts = ("A- a", "b", "c"), {"train": 9, "test": 3}
    folders = {f"{split}/{label}": count for split, count in counts.items() for label in labels}
    return write_tinted(tmp_path_factory.mktemp("data") / "photos", folders)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random ResNet in Hub layout; don't write into it."""
    from tinynet import write_tiny  # here, for torch takes seconds to import, and most tests do without

    return write_tiny(tmp_path_factory.mktemp("hub") / "tiny-resnet")


class Made(dict[str, T]):
    """What is made for a recipe when a test first asks for it."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make

    def __missing__(self, recipe: str) -> T:
        self[recipe] = self._make(recipe)
        return self[recipe]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, photos: Path, tiny: Path) -> dict[str, Path]:
    """By recipe, a run folder of `photos` as given that was trained; don't write into them."""
    from tinynet import prepare, train_one

    root = tmp_path_factory.mktemp("runs")
    prepared = prepare(root / "prepared", photos)
    return Made(lambda recipe: train_one(Path(shutil.copytree(prepared, root / recipe)), recipe, tiny))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, Path], tiny: Path) -> "dict[str, Exported]":
    """By recipe, the same evaluated and exported; don't write into them."""
    from tinynet import export_one

    root = tmp_path_factory.mktemp("exports")
    return Made(lambda recipe: export_one(runs[recipe], root / recipe, tiny))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> "Classifier":
    """A model written by hand."""
    from handmade import write_model

    from spectraderm import load_model

    return load_model(write_model(tmp_path_factory.mktemp("by_hand") / "model"))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium, where it is installed."""
    from browser_site import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of model folders that transformers is told to trust is copied to here, and run from here."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(tmp_path / "modules")


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples, and no figures: `test_figures.py` looks at those."""
    from spectraderm.core import resampling
    from spectraderm.evaluation import figures

    monkeypatch.setattr(resampling, "RESAMPLES", 40)
    monkeypatch.setattr(figures, "_png", lambda _: b"drawn")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    """Write a painted photo under each name, another each."""
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(encode(paint(number)))
