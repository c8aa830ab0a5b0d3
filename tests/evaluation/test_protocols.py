from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import paint
from handmade import leaking_run
from PIL import Image

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import array_bytes, write_arrays
from spectraderm.core.run import MEASUREMENTS, Run
from spectraderm.evaluation.outputs import FoldOutputs
from spectraderm.evaluation.protocols import BASELINES, baselines, read_measurements
from spectraderm.images.perceptual_hash import turned_hashes


def fold(labels: list[int], splits: list[str], groups: list[int] | None = None) -> FoldOutputs:
    count = len(labels)
    own = np.arange(count) if groups is None else np.array(groups)
    arrays = (np.array(labels), own, np.zeros((count, 3)), np.zeros(count))
    return FoldOutputs(*arrays, fold="f", seed=0, paths=np.arange(count).astype(str), splits=np.array(splits))


def measured(count: int, **arrays: Any) -> dict[str, Any]:  # noqa: ANN401
    random = np.random.default_rng(0)
    noise = {
        "hashes": random.integers(0, 256, (count, 8, 8), dtype=np.uint8),
        "metadata": random.random((count, 4), np.float32),
        "pixels_8x8": random.random((count, 192), np.float32),
    }
    return noise | arrays


def accuracy(result: dict[str, Any], name: str) -> float:
    return float(result[name]["accuracy"]["value"])


def test_planted_copies_are_found_in_any_turn() -> None:
    """30 photos of three classes; the tests are turned and re-encoded copies of them, or new."""
    photos = [paint(seed) for seed in range(30)]
    copies = [photo.transpose(list(Image.Transpose)[i % 7]).convert("L") for i, photo in enumerate(photos)]
    hashes = np.stack([turned_hashes(one) for one in [*photos, *copies]])
    labels = [i % 3 for i in range(30)] * 2
    one = fold(labels, ["train"] * 30 + ["test"] * 30)
    result = baselines([one], measured(60, hashes=hashes), 0)
    assert accuracy(result, "hash_look_up") == 1
    assert accuracy(result, "pixels_8x8") < 0.7
    new = np.concatenate([hashes[:30], np.stack([turned_hashes(paint(seed)) for seed in range(100, 130)])])
    assert accuracy(baselines([one], measured(60, hashes=new), 0), "hash_look_up") < 0.7


@pytest.mark.parametrize("name", ["metadata", "pixels_8x8"])
def test_a_planted_size_or_colour_is_found(name: str) -> None:
    labels = [i % 3 for i in range(90)]
    planted = measured(90)[name]
    planted[:, 1] = np.array(labels) == 2
    one = fold(labels, ["train"] * 45 + ["test"] * 45)
    plain, found = (baselines([one], measured(90, **own), 0) for own in ({}, {name: planted}))
    assert found[name]["balanced_accuracy"]["value"] > plain[name]["balanced_accuracy"]["value"] + 0.15
    for other in set(BASELINES) - {name}:
        assert found[other] == plain[other]


def test_baselines_learn_from_validation_photos_too_but_from_no_others() -> None:
    """Nothing is tuned, so nothing needs holding back; calibration photos are kept from the model as well."""
    hashes = measured(4)["hashes"]
    hashes[2:] = hashes[:2]
    for side, right in (("train", 1), ("val", 1), ("calibration", 0.5), ("excluded", 0.5)):
        one = fold([0, 1, 0, 1], ["train", side, "test", "test"])
        assert accuracy(baselines([one], measured(4, hashes=hashes), 0), "hash_look_up") == right


def test_the_majority_is_that_of_each_folds_own_training_photos_and_copies_count_once_by_group() -> None:
    labels = [0, 0, 1, 1, 1, 2]
    first = fold(labels, ["test", "train", "train", "train", "val", "train"])  # guesses 1
    second = fold(labels, ["train", "train", "test", "test", "test", "train"])  # guesses 0
    assert accuracy(baselines([first, second], measured(6), 0), "majority_class") == 0
    one = fold([0, 0, 0, 0, 1, 0], ["train", "train", "test", "test", "test", "test"], [0, 1, 2, 2, 3, 2])
    got = baselines([one], measured(6), 0)["majority_class"]
    assert [got[name]["value"] for name in ("accuracy", "group_accuracy", "balanced_accuracy")] == [0.75, 0.5, 0.5]


def test_measurements_of_other_photos_or_damaged_ones_are_named(tmp_path: Path) -> None:
    run = Run(leaking_run(tmp_path))
    assert read_measurements(run, 6)["hashes"].shape == (6, 8, 8)
    with pytest.raises(RunFolderError, match=r"measurements\.npz is not of the 7 photos"):
        read_measurements(run, 7)
    for content in (b"", b"PK\x03\x04 cut short", b"no zip at all", array_bytes(np.zeros(6))):
        (tmp_path / MEASUREMENTS).write_bytes(content)
        with pytest.raises(RunFolderError, match=r"measurements\.npz can't be read.*spectraderm audit"):
            read_measurements(run, 6)
    write_arrays(tmp_path / MEASUREMENTS, hashes=np.zeros(6))
    with pytest.raises(RunFolderError, match=r"can't be read.*metadata"):
        read_measurements(run, 6)
