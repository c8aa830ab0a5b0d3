"""Frozen layers by ONNX Runtime against torch's own, and against themselves in other company."""

from typing import Any

import pytest
import torch
from tinynet import noise, photos_of
from torch import Tensor
from transformers import ResNetConfig, ResNetModel

from spectraderm.training import recipe as config
from spectraderm.training.backbones import Backbone
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.network import SkinResNet, build

KINDS: dict[str, dict[str, Any]] = {
    "bottleneck": {"layer_type": "bottleneck"},
    "basic": {"layer_type": "basic"},
    "early": {"layer_type": "bottleneck", "downsample_in_bottleneck": True},
    "first": {"layer_type": "bottleneck", "downsample_in_first_stage": True},
    "end": {"layer_type": "bottleneck", "pool_padding": "end"},
    "gelu": {"layer_type": "basic", "hidden_act": "gelu"},
}


def network(pooling: str = "statistics", seed: int = 0, **settings: Any) -> SkinResNet:  # noqa: ANN401
    """Random layers of two blocks a stage, with norms that have seen some noise."""
    torch.manual_seed(seed)
    about = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[2, 1, 2, 1], **settings)
    layers = ResNetModel(about)
    for _ in range(5):
        layers(torch.randn(8, 3, 64, 64))
    backbone = Backbone("net", layers, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3), "net", "none")
    built = build(backbone, config.load("discriminant", {"pooling": pooling}), ["a", "b"])
    assert isinstance(built, SkinResNet)
    built.train(False)
    return built


@pytest.mark.parametrize("size", [64, 80])  # 4 x 4 maps before 2 x 2 ones; and 5 x 5 before 3 x 3
@pytest.mark.parametrize("pooling", ["mean", "statistics"])
@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_features_are_those_of_torch(kind: str, pooling: str, size: int) -> None:
    net = network(pooling, **KINDS[kind])
    frozen, shown = freeze(net), photos_of(noise(3, size))
    with torch.inference_mode():
        maps = net.feature_maps(shown)
        found, pooled = frozen.maps(net, shown), frozen.pooled(net, shown)
    assert found.shape == maps.shape
    assert torch.allclose(found, maps, rtol=1e-4, atol=1e-5)
    assert torch.allclose(pooled, net.pooled(maps), rtol=1e-4, atol=1e-5)


def test_a_photo_has_the_same_features_alone_in_any_batch_and_by_any_number_of_threads() -> None:
    net, shown = network(), photos_of(noise(13))

    def pooled(frozen: Frozen, size: int) -> Tensor:
        with torch.inference_mode():
            return torch.cat([frozen.pooled(net, shown[start : start + size]) for start in range(0, 13, size)])

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        by_two = freeze(net)
    finally:
        torch.set_num_threads(before)
    expected = pooled(freeze(net), 8)
    for size in (1, 3, 13):
        assert torch.equal(pooled(freeze(net), size), expected)
        assert torch.equal(pooled(by_two, size), expected)


def test_frozen_layers_stay_as_they_were() -> None:
    net, shown = network(), photos_of(noise(2))
    frozen = freeze(net)
    with torch.inference_mode():
        before = frozen.maps(net, shown)
        net.resnet.embedder.embedder.convolution.weight.mul_(2)
        assert torch.equal(frozen.maps(net, shown), before)
        assert not torch.allclose(freeze(net).maps(net, shown), before)
    assert frozen.digest != freeze(net).digest


def test_its_digest_tells_weights_and_settings_whatever_head_stands_on_them() -> None:
    assert freeze(network()).digest == freeze(network("mean")).digest
    others = [network(seed=1), network(layer_type="basic"), network(pool_padding="end")]
    assert len({freeze(net).digest for net in [network(), *others]}) == 4
