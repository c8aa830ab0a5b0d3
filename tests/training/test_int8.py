"""The network in 8-bit integers: rounded so that little is lost, shipped only where it is as accurate."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tinynet import Exported, noise
from torch import Tensor

import spectraderm
from spectraderm import pipeline
from spectraderm.core import artifacts
from spectraderm.core.errors import ModelFolderError
from spectraderm.inference.engine import Engine
from spectraderm.training.equalising import equalise
from spectraderm.training.int8 import shifted
from spectraderm.training.network import SkinResNet
from spectraderm.training.rounding import LEVELS, folded, round_weights


@pytest.fixture
def network(exports: dict[str, Exported]) -> SkinResNet:
    return exports["discriminant"].network


@pytest.fixture
def seen(exports: dict[str, Exported]) -> Tensor:
    """Photos as the network sees them."""
    photos: Tensor = exports["discriminant"].normalise(torch.from_numpy(noise(12)))
    return photos


def features(network: SkinResNet, seen: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network.features(seen)
    return found


def blocks(network: SkinResNet) -> list[Any]:
    stages: Any = network.resnet.encoder.stages
    return [block for stage in stages for block in stage.layers]


def test_folding_and_equalising_leave_what_the_network_says(network: SkinResNet, seen: Tensor) -> None:
    before, changed = features(network, seen), folded(network)
    assert not [name for name, layer in changed.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(features(changed, seen), before, atol=1e-4, rtol=1e-4)
    weights = blocks(changed)[1].layer[0].convolution.weight.clone()
    equalise(changed, seen)
    assert (blocks(changed)[1].layer[0].convolution.weight != weights).any()
    torch.testing.assert_close(features(changed, seen), before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features(network, seen), before, atol=0, rtol=0)


def test_equalised_channels_are_more_alike(network: SkinResNet, seen: Tensor) -> None:
    changed = folded(network)
    before = spread(changed, seen)
    equalise(changed, seen)
    after = spread(changed, seen)
    assert np.median(after) < 0.8 * np.median(before)


def spread(network: SkinResNet, seen: Tensor) -> list[float]:
    """For each inner layer, how many times the peak of its largest channel is that of its median one."""
    found = []

    def note(_: object, __: object, output: Tensor) -> None:
        peaks = output.amax((0, 2, 3))
        found.append(float(peaks.max() / peaks.median().clamp(min=1e-3)))

    hooks = [block.layer[0].register_forward_hook(note) for block in blocks(network)]
    features(network, seen)
    for hook in hooks:
        hook.remove()
    return found


def test_rounding_that_makes_up_for_itself_loses_less_than_rounding(network: SkinResNet, seen: Tensor) -> None:
    plain, careful = folded(network), folded(network)
    before = features(plain, seen)
    steps = round_weights(careful, seen)
    convolutions = {name: layer for name, layer in plain.named_modules() if isinstance(layer, torch.nn.Conv2d)}
    assert steps.keys() == convolutions.keys()
    for name, layer in convolutions.items():
        step = steps[name][:, None, None, None]
        on_grid = dict(careful.named_modules())[name].weight.detach() / step
        torch.testing.assert_close(on_grid, on_grid.round(), atol=1e-4, rtol=0)
        assert on_grid.abs().max() <= LEVELS + 1e-4
        layer.weight.data = torch.round(layer.weight.detach() / step) * step
    errors = [float((features(each, seen) - before).square().mean()) for each in (careful, plain)]
    assert errors[0] < 0.7 * errors[1]


@pytest.fixture(scope="module")
def shipped(exports: dict[str, Exported], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A run folder that was exported with a network in integers, however much that costs, and what was measured."""
    run = Path(shutil.copytree(exports["discriminant"].run, tmp_path_factory.mktemp("int8") / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "INT8_LOSS", 2)
        measured = pipeline.export_model(run)
    return run, measured["int8"]


def test_its_weights_fit_into_seven_bits_and_its_answers_are_near_those_in_floats(
    shipped: tuple[Path, dict[str, object]], exports: dict[str, Exported]
) -> None:
    graph = (shipped[0] / "model/onnx/model_int8.onnx").read_bytes()
    stored = {one.name: one for one in onnx.load_from_string(graph).graph.initializer}
    integers = [numpy_helper.to_array(one) for name, one in stored.items() if name.endswith("weight_quantized")]
    assert len(integers) == 16
    assert {one.dtype for one in integers} == {np.dtype(np.int8)}
    assert max(int(np.abs(one.astype(int)).max()) for one in integers) == LEVELS
    pixels = noise(6, seed=3)
    ours, floats = Engine(graph)(pixels), Engine(exports["discriminant"].graph)(pixels)
    alike = (ours.features * floats.features).sum(1) / np.prod(
        [np.linalg.norm(x.features, axis=1) for x in (ours, floats)], 0
    )
    assert alike.min() > 0.95
    assert np.abs(ours.logits - floats.logits).max() < 0.2 * np.ptp(floats.logits)


def test_a_model_answers_in_integers_by_default_with_a_calibration_of_its_own(
    shipped: tuple[Path, dict[str, object]], photos: Path
) -> None:
    run, measured = shipped
    facts = json.loads((run / "model/spectraderm.json").read_bytes())
    own = json.loads((run / "int8/calibration.json").read_bytes())
    assert facts["int8"]["calibration"] == own != facts["calibration"]
    assert {key: facts["int8"][key] for key in measured} == measured
    assert "## In 8-bit integers" in (run / "model/README.md").read_text()
    auto, int8, floats = (spectraderm.load_model(run / "model", precision=each) for each in ("auto", "int8", "float"))
    photo = next(photos.rglob("*.jpg"))
    said = [model.predict(photo) for model in (auto, int8, floats)]
    assert said[0] == said[1]
    assert said[0].model_id == f"{said[2].model_id}-int8"
    assert said[0].probabilities != said[2].probabilities
    assert auto.calibration.temperature == own["temperature"]
    assert floats.calibration.temperature == facts["calibration"]["temperature"]


def test_it_knows_the_photos_it_learned_from(shipped: tuple[Path, dict[str, object]], photos: Path) -> None:
    run, _ = shipped
    model = spectraderm.load_model(run / "model")
    trained = [
        row["path"]
        for row in artifacts.read_csv(run / "int8/folds/final/logits.csv", ["path", "split"], "")
        if row["split"] == "train"
    ]
    novelties = [model.predict(photos / path).novelty for path in trained]
    assert sum(one is not None and one < 1e-3 for one in novelties) > 0.5 * len(trained)


def test_where_it_costs_too_much_it_is_not_shipped(
    exports: dict[str, Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(exports["notebook"].run, tmp_path / "run"))
    monkeypatch.setattr(pipeline, "INT8_LOSS", -2)
    measured = pipeline.export_model(run)["int8"]
    assert measured["shipped"] is False
    assert not (run / "model/onnx/model_int8.onnx").exists()
    assert "int8" not in json.loads((run / "model/spectraderm.json").read_bytes())
    with pytest.raises(ModelFolderError, match="no model in 8-bit integers"):
        spectraderm.load_model(run / "model", precision="int8")


def test_features_are_shifted_before_the_head_sees_them(exports: dict[str, Exported]) -> None:
    exported, pixels = exports["notebook"], noise(2)
    before = Engine(exported.graph)(pixels)
    shift = np.linspace(-1, 1, before.features.shape[1]).astype(np.float32)
    after = Engine(shifted(exported.graph, shift))(pixels)
    np.testing.assert_allclose(after.features, before.features + shift, atol=1e-5)
    with torch.inference_mode():
        logits = exported.network.classifier(torch.from_numpy(before.features + shift)).numpy()
    np.testing.assert_allclose(after.logits, logits, atol=1e-4)
