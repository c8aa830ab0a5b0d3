"""The exported ONNX graph: what it takes and what it gives."""

import numpy as np
import onnx
import pytest
import torch
from tinynet import Exported, noise
from transformers import ResNetConfig, ResNetModel

from spectraderm.engine import Engine
from spectraderm.preprocessing import Preprocessing
from spectraderm.training import export, model
from spectraderm.training.dataset import in_batches
from spectraderm.training.graph import to_onnx
from spectraderm.training.model import Backbone, Normalise

BOTH = pytest.mark.parametrize("recipe", ["mission", "finetune"])


@BOTH
def test_logits_are_torchs_for_any_number_of_photos(recipe: str, exports: dict[str, Exported]) -> None:
    exported = exports[recipe]
    engine = Engine(exported.graph)
    for count in (1, 3, 17):
        pixels = noise(count, seed=count)
        answer = engine(pixels)
        assert answer.logits.shape == (count, 3)
        assert answer.features.shape == (count, 32)
        assert answer.maps.shape == (count, 3, 2, 2)
        assert np.abs(answer.logits - exported.logits(pixels)).max() < 1e-4


@BOTH
def test_the_graph_takes_bytes_and_nothing_else(recipe: str, exports: dict[str, Exported]) -> None:
    graph = onnx.load_from_string(exports[recipe].graph).graph
    (pixels,) = graph.input
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dimension.dim_value for dimension in pixels.type.tensor_type.shape.dim] == [0, 64, 64, 3]
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        Engine(exports[recipe].graph)(noise(1).astype(np.float32))


def test_maps_of_the_linear_head_add_up_to_the_logits(exports: dict[str, Exported]) -> None:
    exported = exports["finetune"]
    answer = Engine(exported.graph)(noise(5))
    bias = exported.network.state_dict()["classifier.1.bias"].numpy()
    assert np.allclose(answer.maps.mean((2, 3)) + bias, answer.logits, atol=1e-4)
    assert answer.maps.std((2, 3)).min() > 1e-3


def test_maps_of_the_mlp_head_are_hirescam(exports: dict[str, Exported]) -> None:
    exported = exports["mission"]
    pixels = noise(5)
    with torch.no_grad():
        spread = exported.network.feature_maps(exported.normalise(torch.from_numpy(pixels)))
    spread.requires_grad_()
    logits = exported.network.classifier(spread.mean((2, 3)))
    maps = Engine(exported.graph)(pixels).maps
    for number in range(3):
        (slope,) = torch.autograd.grad(logits[:, number].sum(), spread, retain_graph=True)
        theirs = (slope * spread).sum(1) * spread[0, 0].numel()  # ours average to the logit, theirs add up to it
        assert np.allclose(maps[:, number], theirs.detach().numpy(), atol=1e-4)


def test_half_is_half_as_large_and_guesses_alike() -> None:
    config = ResNetConfig(embedding_size=16, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1])
    config.pool_padding = "end"
    torch.manual_seed(0)
    backbone = Backbone("wide", ResNetModel(config), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "wide", "none")
    network = model.build(backbone, "mlp", ["a", "b", "c"])
    network.train(False)
    preprocessing = Preprocessing(64, mean=backbone.mean, std=backbone.std)
    graph = to_onnx(network, preprocessing, half=True)
    whole = sum(value.numel() for value in network.state_dict().values()) * 4
    assert 0.45 * whole < len(graph) < 0.6 * whole
    pixels, normalise = noise(24), Normalise(preprocessing)
    expected = in_batches(pixels, lambda batch: network.classifier(network.features(normalise(batch))))
    got = Engine(graph)(pixels).logits
    assert (got.argmax(1) == expected.argmax(1)).all()
    assert 0 < np.abs(got - expected).max() < export.PARITY_HALF
