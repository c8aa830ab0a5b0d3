"""The network in 8-bit integers: a model folder of its own, with its own calibration and what it loses."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tinynet import Exported, noise

import spectraderm
from spectraderm import pipeline
from spectraderm.core.files import read_csv
from spectraderm.core.run import LOGIT_COLUMNS
from spectraderm.inference import model_folder

Written = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def written(exports: dict[str, Exported], tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run folder that was exported in integers, too, and what was measured."""
    run = Path(shutil.copytree(exports["discriminant"].run, tmp_path_factory.mktemp("int8") / "run"))
    return run, pipeline.export(run, int8=True)["loss"]


def test_its_weights_fit_into_seven_bits_and_its_answers_are_near_those_in_floats(
    written: Written, exports: dict[str, Exported]
) -> None:
    graph = (written[0] / "model-int8/onnx/model.onnx").read_bytes()
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(graph).graph.initializer}
    weights = [own for name, own in stored.items() if name.endswith("weight_quantized")]
    assert len(weights) == 16
    assert {own.dtype for own in weights} == {np.dtype(np.int8)}
    assert max(int(np.abs(own.astype(int)).max()) for own in weights) == 64
    pixels = noise(6, seed=3)
    ours, floats = exports["discriminant"].engine(graph)(pixels), exports["discriminant"].engine()(pixels)
    lengths = np.linalg.norm(ours.features, axis=1) * np.linalg.norm(floats.features, axis=1)
    assert ((ours.features * floats.features).sum(1) / lengths).min() > 0.9
    assert 0 < np.abs(ours.logits - floats.logits).max() < 0.25 * np.ptp(floats.logits)


def test_a_folder_holds_one_network_with_its_own_calibration(written: Written, photos: Path) -> None:
    run, loss = written
    ours, floats = (model_folder.read_model_folder(run / name) for name in ("model-int8", "model"))
    assert (ours.facts["precision"], floats.facts["precision"]) == ("int8", "float16")
    assert set(ours.files) == set(floats.files) - {
        "model.safetensors",
        "modeling_spectraderm.py",
        "head_statistics.npz",
    }
    assert ours.facts["calibration"] != floats.facts["calibration"]
    assert ours.files["novelty.npy"] != floats.files["novelty.npy"]
    assert ours.facts["loss"] == loss
    assert "parity" not in ours.facts
    assert "## In 8-bit integers" in ours.card
    assert "## In 8-bit integers" not in floats.card
    assert not (run / "int8").exists()
    photo = next(photos.rglob("*.jpg"))
    said = [spectraderm.load_model(run / name).predict(photo) for name in ("model-int8", "model")]
    assert said[0].probabilities != said[1].probabilities
    assert said[0].model_id != said[1].model_id
    assert said[0].in_training == said[1].in_training


def test_what_it_loses_is_measured_on_held_out_photos(written: Written, photos: Path) -> None:
    run, loss = written
    model = spectraderm.load_model(run / "model-int8")
    rows = read_csv(run / "folds/final/logits.csv", LOGIT_COLUMNS, "")
    held = [row for row in rows if row["split"] == "val"]
    said = np.concatenate([model.engine(model.pixels(photos / row["path"])[None]).logits for row in held]).argmax(1)
    before = np.array([[float(row[f"logit:{label}"]) for label in model.labels] for row in held]).argmax(1)
    truth = np.array([model.labels.index(row["label"]) for row in held])
    assert loss["photos"] == len(held) == 6
    assert loss["changed_top1"] == (said != before).mean()
    found = loss["accuracy_difference"]
    assert found["value"] == pytest.approx((said == truth).mean() - (before == truth).mean())
    assert found["low"] <= found["value"] <= found["high"]
