"""Every measure that meets a threshold is the same to the bit on every kind of processor."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from conftest import paint
from PIL import Image

from spectraderm.data import crops, measurements, shortcuts, skin_tone
from spectraderm.data.synthetic import paint_photo
from spectraderm.images import quality
from spectraderm.images.perceptual_hash import turned_hashes
from spectraderm.inference.calibration import novelty

CORES = ("Prescott", "Haswell", "SkylakeX")
"""Kinds of processor, from old to new, by which OpenBLAS and so NumPy chooses how to add up."""


def measures(folder: Path) -> Iterator[tuple[str, object]]:
    """Name and value of every measure of the photos in a folder."""
    images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
    for number, image in enumerate(images):
        yield f"quality {number}", astuple(quality.measure(image))
        yield f"hashes {number}", turned_hashes(image).tolist()
        yield f"skin tone {number}", skin_tone.estimate(image)
        yield f"glance {number}", [values.tolist() for values in measurements.glance(image).values()]
    whole = measurements.grey(images[3])
    part = np.ascontiguousarray(whole[30:220, 40:290])
    placed = crops.placement(crops.describe(whole), crops.describe(part))
    assert placed is not None
    yield "crop", [placed.tolist(), crops.agree(whole, part, placed), crops._correlation(part, part[::-1])]
    random = np.random.default_rng(0)
    features = random.standard_normal((40, 2048)).astype(np.float32)
    yield "novelty", [novelty(features[:9], features[9:]).tolist(), novelty(features[:1], features[9:]).tolist()]
    labels, groups = np.repeat(np.arange(3), 30), np.arange(90) // 3  # of three copies each: weights of a third
    found = {"mean_colour": random.standard_normal((90, 3)).astype(np.float32)}
    yield "shortcuts", [astuple(one) for one in shortcuts.measure(found, labels, groups)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What each kind of processor makes of the same photos, by name."""
    folder = tmp_path_factory.mktemp("photos")
    for number, size in enumerate(((320, 240), (240, 320), (97, 131), (1300, 1100), (128, 128))):
        image = paint(number, size) if number % 2 else paint_photo("BA-impetigo", np.random.default_rng(number), size)
        image.save(folder / f"{number}.png")
    known = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    cores = [core for core in CORES if core != "SkylakeX" or any("V4" in one or "AVX512" in one for one in known)]
    started = {}
    for core in cores:
        # the oldest kind has none of the instructions that NumPy itself may choose, either
        disabled = {"NPY_DISABLE_CPU_FEATURES": " ".join(known)} if core == "Prescott" else {}
        environment = os.environ | {"OPENBLAS_CORETYPE": core, "PYTHONPATH": os.pathsep.join(sys.path)} | disabled
        command = [sys.executable, __file__, str(folder)]
        started[core] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    return {core: json.loads(process.communicate()[0]) for core, process in started.items()}


@pytest.mark.parametrize("core", CORES[1:])
def test_every_measure_is_the_same_to_the_bit(found: dict[str, dict[str, str]], core: str) -> None:
    if core not in found:
        pytest.skip("this processor does not know the instructions")
    assert len(found[core]) == 23
    assert found[core] == found["Prescott"]


def test_the_cosines_of_hashes_are_no_processor_s_matter() -> None:
    """No unit of the table is so near to a half that the last digit of a cosine would round it otherwise."""
    exact = 2**20 * np.cos(np.pi / 64 * np.arange(8)[:, None] * (2 * np.arange(32) + 1))
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-6


if __name__ == "__main__":
    lines = {name: hashlib.sha256(repr(value).encode()).hexdigest() for name, value in measures(Path(sys.argv[1]))}
    sys.stdout.write(json.dumps(lines))
