"""A head that takes another's place in an exported network."""

import copy
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from tinynet import Exported, agree, noise

from spectraderm.core.errors import ModelFolderError
from spectraderm.training.dataset import Floats
from spectraderm.training.onnx_head import FeatureLayout, put_head
from spectraderm.training.pooling import SkinNetwork


def other_head(classes: int, width: int, seed: int = 0) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    return random.normal(size=(classes, width)).astype(np.float32), random.normal(size=classes).astype(np.float32)


def with_head(network: SkinNetwork, weight: Floats, bias: Floats) -> SkinNetwork:
    layer = torch.nn.Linear(weight.shape[1], len(weight))
    layer.weight.data, layer.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
    network = copy.deepcopy(network)
    network.classifier = torch.nn.Sequential(torch.nn.Flatten(), layer)
    return network


@pytest.mark.parametrize("recipe", ["discriminant", "finetune"])
@pytest.mark.parametrize("classes", [2, 11])
def test_another_head_answers_as_torch_does(recipe: str, classes: int, exports: dict[str, Exported]) -> None:
    exported, pixels = exports[recipe], noise(5, seed=4)
    width = exported.engine()(pixels).features.shape[1]
    weight, bias = other_head(classes, width)
    engine = exported.engine(put_head(put_head(exported.graph, *other_head(3, width, 1)), weight, bias))
    network, photos = with_head(exported.network, weight, bias), exported.normalise(torch.from_numpy(pixels))
    agree(engine, network, photos, pixels, 1e-3)
    assert engine(pixels).maps.shape[1] == classes


def test_a_head_that_is_put_back_leaves_the_same_bytes(exports: dict[str, Exported]) -> None:
    graph = exports["discriminant"].graph
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(graph).graph.initializer}
    again = put_head(
        put_head(graph, *other_head(9, stored["head.weight"].shape[1])), stored["head.weight"], stored["head.bias"]
    )
    assert again == graph


def test_features_without_a_place_count_for_logits_and_not_for_maps(exports: dict[str, Exported]) -> None:
    exported, pixels = exports["finetune"], noise(3)
    before = exported.engine()(pixels)
    width = before.features.shape[1]
    weight, bias = other_head(4, width)
    half = FeatureLayout((0, width // 2))  # the deviations have none
    whole = exported.engine(put_head(exported.graph, weight, bias, half))(pixels)
    means = before.features[:, : width // 2] @ weight[:, : width // 2].T
    np.testing.assert_allclose(whole.maps.mean((2, 3)), means, atol=1e-3)
    np.testing.assert_allclose(whole.logits, before.features @ weight.T + bias, atol=1e-3)


def test_a_head_that_is_not_linear_stays(exports: dict[str, Exported]) -> None:
    with pytest.raises(ModelFolderError, match="can't be replaced"):
        put_head(exports["notebook"].graph, *other_head(3, 32))


def test_it_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import spectraderm.training.onnx_head, spectraderm.training.lda"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
