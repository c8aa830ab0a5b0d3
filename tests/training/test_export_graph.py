"""The exported ONNX graph: what it takes and what it gives."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from tinynet import CLOSED, Exported, noise
from torch import nn
from transformers import ResNetConfig, ResNetModel

from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import Engine
from spectraderm.training import export
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import Transform
from spectraderm.training.backbones import Backbone, load_backbone
from spectraderm.training.dataset import in_batches
from spectraderm.training.export import Deployable, halved, to_onnx
from spectraderm.training.network import Normalise, SkinResNet, build

ALL = pytest.mark.parametrize(("recipe", "width", "side"), [("notebook", 32, 2), *((n, 112, 4) for n in CLOSED)])
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


def built(tiny: Path, head: str, pooling: str, views: tuple[Transform, ...]) -> SkinResNet:
    """A random head on the small backbone, its bias too."""
    recipe = config.load("notebook", {"head": head, "pooling": pooling, "test_transforms": views})
    network = build(load_backbone(str(tiny)), recipe, ["a", "b", "c"])
    network.train(False)
    nn.init.uniform_(list(network.classifier.parameters())[-1], -1, 1)
    return network


def flat(*greys: int) -> Pixels:
    """Photos of one colour: features have no deviation but at the edges."""
    return np.stack([np.full((64, 64, 3), grey, np.uint8) for grey in greys])


@ALL
def test_logits_are_torchs_for_any_number_of_photos(
    recipe: str, width: int, side: int, exports: dict[str, Exported]
) -> None:
    exported = exports[recipe]
    engine = Engine(exported.graph)
    for count in (1, 3, 17):
        pixels = noise(count, seed=count)
        answer = engine(pixels)
        assert answer.logits.shape == (count, 3)
        assert answer.features.shape == (count, width)
        assert answer.maps.shape == (count, 3, side, side)
        expected = exported.logits(pixels)
        assert np.abs(answer.logits - expected).max() < 1e-4 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_all_that_is_said_of_statistics_over_all_views_is_what_torch_says(head: str, tiny: Path) -> None:
    network, preprocessing = built(tiny, head, "statistics", TRANSFORMS), Preprocessing(64)
    deployable, engine = Deployable(network, preprocessing), Engine(to_onnx(network, preprocessing))
    for pixels in (flat(0, 128, 255), noise(1), noise(2, seed=2), noise(5, seed=5)):
        with torch.inference_mode():
            expected = deployable(torch.from_numpy(pixels))
        answer = engine(pixels)
        for got, theirs in zip((answer.logits, answer.features, answer.maps), expected, strict=True):
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, theirs, atol=1e-3, rtol=1e-3)
    whole = built(tiny, head, "statistics", ("whole",))
    whole.load_state_dict(network.state_dict())
    with torch.inference_mode():
        logits, _, maps = Deployable(whole, preprocessing)(torch.from_numpy(pixels))
    assert np.abs(logits.numpy() - answer.logits).max() > 1e-2
    np.testing.assert_allclose(maps, answer.maps, atol=1e-3, rtol=1e-3)  # maps are the whole photo's


@pytest.mark.parametrize("recipe", ["notebook", *CLOSED])
def test_the_graph_takes_bytes_and_nothing_else(recipe: str, exports: dict[str, Exported]) -> None:
    graph = onnx.load_from_string(exports[recipe].graph).graph
    (pixels,) = graph.input
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dimension.dim_value for dimension in pixels.type.tensor_type.shape.dim] == [0, 64, 64, 3]
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        Engine(exports[recipe].graph)(noise(1).astype(np.float32))


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_maps_of_the_linear_head_add_up_to_the_logits(pooling: str, tiny: Path) -> None:
    network = built(tiny, "linear", pooling, ("whole",))
    answer = Engine(to_onnx(network, Preprocessing(64)))(noise(5))
    bias = network.state_dict()["classifier.1.bias"].numpy()
    assert np.allclose(answer.maps.mean((2, 3)) + bias, answer.logits, atol=2e-3)
    assert answer.maps.std((2, 3)).min() > 1e-3


def test_maps_of_the_mlp_head_are_hirescam(exports: dict[str, Exported]) -> None:
    exported = exports["notebook"]
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
    small = ResNetConfig(embedding_size=16, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1])
    small.pool_padding = "end"
    torch.manual_seed(0)
    backbone = Backbone("wide", ResNetModel(small), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), "wide", "none")
    network = build(backbone, config.load("notebook"), ["a", "b", "c"])
    network.train(False)
    preprocessing = Preprocessing(64, mean=backbone.mean, std=backbone.std)
    graph = halved(to_onnx(network, preprocessing))
    whole = sum(value.numel() for value in network.state_dict().values()) * 4
    assert 0.45 * whole < len(graph) < 0.6 * whole
    pixels, normalise = noise(24), Normalise(preprocessing)
    expected = in_batches(pixels, lambda batch: network.classifier(network.features(normalise(batch))))
    got = Engine(graph)(pixels).logits
    assert (got.argmax(1) == expected.argmax(1)).all()
    assert 0 < np.abs(got - expected).max() < export.PARITY_HALF
