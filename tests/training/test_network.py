"""The network: its heads, its pooling, and how much each place of a photo counts."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from conftest import paint
from torch import nn
from transformers import ResNetForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import transformed
from spectraderm.training.backbones import load_backbone
from spectraderm.training.network import Normalise, SkinResNet, build, feature_width
from spectraderm.training.photo_augmentation import Transform
from spectraderm.training.recipe import Recipe

LABELS = ["A- a", "b", "c"]
TRANSFORMS: tuple[Transform, ...] = get_args(Transform)


def asking(head: str, pooling: str = "mean", transforms: tuple[Transform, ...] = ("whole",)) -> Recipe:
    return config.load("notebook", {"head": head, "pooling": pooling, "test_transforms": transforms})


def built(tiny: Path, recipe: Recipe) -> SkinResNet:
    network = build(load_backbone(str(tiny)), recipe, LABELS)
    assert isinstance(network, SkinResNet)
    network.train(False)
    return network


@pytest.mark.parametrize(
    ("head", "pooling", "shapes"),
    [
        ("linear", "mean", [(3, 32)]),
        ("mlp", "mean", [(512, 32), (3, 512)]),
        ("discriminant", "mean", [(3, 32)]),
        ("discriminant", "statistics", [(3, 112)]),
        ("mlp", "statistics", [(512, 112), (3, 512)]),
    ],
)
def test_a_head_has_its_layers_and_depends_on_the_seed_alone(
    head: str, pooling: str, shapes: list[tuple[int, int]], tiny: Path
) -> None:
    backbone = load_backbone(str(tiny))
    heads = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build(backbone, asking(head, pooling), LABELS)
        assert feature_width(network.config) == shapes[0][1]
        heads.append([layer.weight for layer in network.classifier if isinstance(layer, nn.Linear)])
        assert network.config.id2label == dict(enumerate(LABELS))
        assert network.classifier(network.features(torch.zeros(2, 3, 64, 64))).shape == (2, 3)
    assert [tuple(weight.shape) for weight in heads[0]] == shapes
    assert torch.equal(heads[0][0], heads[1][0])
    assert not torch.equal(heads[0][0], heads[2][0])


def test_the_linear_head_is_plain_transformers(tiny: Path) -> None:
    network = built(tiny, asking("linear"))
    plain = ResNetForImageClassification(network.config)
    plain.load_state_dict(network.state_dict())
    batch = torch.randn(3, 3, 96, 64)
    with torch.inference_mode():
        nn.Module.train(plain, False)
        ours = network.classifier(network.features(batch))
        assert torch.allclose(ours, plain(batch).logits, atol=1e-5)


def test_statistics_are_means_and_deviations_of_the_last_two_stages(tiny: Path) -> None:
    network, photos = built(tiny, asking("linear", "statistics")), torch.randn(3, 3, 64, 64)
    plain = load_backbone(str(tiny)).model
    nn.Module.train(plain, False)
    with torch.inference_mode():
        got = network.features(photos).numpy()
        *_, before, last = (maps.numpy() for maps in plain(photos, output_hidden_states=True).hidden_states)
        assert network.feature_maps(photos).shape == (3, 56, 4, 4)
    means, deviations = ([getattr(maps, name)((2, 3)) for maps in (before, last)] for name in ("mean", "std"))
    assert np.allclose(got, np.concatenate([*means, *deviations], 1), atol=1e-3)
    assert (got.shape, before.shape, last.shape) == ((3, 112), (3, 24, 4, 4), (3, 32, 2, 2))


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_features_are_averaged_over_transforms(pooling: str, tiny: Path) -> None:
    network, photos = built(tiny, asking("linear", pooling, TRANSFORMS)), torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        own = [network.pooled(network.feature_maps(transformed(photos, [view]))) for view in TRANSFORMS]
        got = network.features(photos)
    assert torch.allclose(got, torch.stack(own).mean(0), atol=1e-5)
    assert all((got - one).abs().max() > 1e-3 for one in own)


def test_normalising_is_that_of_the_hubs_own_processor() -> None:
    preprocessing = Preprocessing(size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    photos = [paint(seed, (80, 70)) for seed in range(3)]
    theirs = ViTImageProcessorPil(**preprocessing.to_hub())(photos, return_tensors="pt")["pixel_values"]
    pixels = torch.from_numpy(np.stack([preprocessing(photo) for photo in photos]))
    assert torch.equal(Normalise(preprocessing)(pixels), torch.from_numpy(preprocessing.normalised(pixels.numpy())))
    assert torch.allclose(Normalise(preprocessing)(pixels), theirs, atol=1e-5)
    assert torch.allclose(Normalise(preprocessing)(pixels.float()), theirs, atol=1e-5)


def biased(tiny: Path, head: str, pooling: str) -> SkinResNet:
    network = built(tiny, asking(head, pooling))
    nn.init.uniform_(list(network.classifier.parameters())[-1], -1, 1)
    return network


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_evidence_is_gradient_times_activation_and_adds_up_to_the_logits(head: str, tiny: Path) -> None:
    network = biased(tiny, head, "mean")
    maps = network.feature_maps(torch.randn(3, 3, 96, 64)).detach().requires_grad_()
    assert maps.shape[2:] == (3, 2)
    logits = network.classifier(maps.mean((2, 3)))
    got = network.evidence(maps)
    assert got.shape == (3, 3, 3, 2)
    for number in range(3):
        (gradient,) = torch.autograd.grad(logits[:, number].sum(), maps, retain_graph=True)
        torch.testing.assert_close(got[:, number], 6 * (gradient * maps).sum(1))
    if head == "linear":
        bias = dict(network.classifier.named_parameters())["1.bias"]
        torch.testing.assert_close(got.mean((2, 3)) + bias, logits)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_evidence_of_statistics_adds_up_to_the_logits_less_the_bias(head: str, tiny: Path) -> None:
    network = biased(tiny, head, "statistics")
    maps = network.feature_maps(torch.randn(3, 3, 96, 64)).detach()
    pooled = network.pooled(maps).requires_grad_()
    logits = network.classifier(pooled)
    got = network.evidence(maps)
    assert got.shape == (3, 3, 6, 4)
    for number in range(3):  # a head is linear around a photo: gradient times features, and a bias
        (gradient,) = torch.autograd.grad(logits[:, number].sum(), pooled, retain_graph=True)
        torch.testing.assert_close(got[:, number].mean((1, 2)), (gradient * pooled).sum(1), atol=2e-3, rtol=1e-3)
    if head == "linear":
        bias = dict(network.classifier.named_parameters())["1.bias"]
        torch.testing.assert_close(got.mean((2, 3)) + bias, logits, atol=2e-3, rtol=1e-3)


def test_a_places_share_of_a_deviation_is_its_squared_distance_from_the_mean(tiny: Path) -> None:
    network = biased(tiny, "linear", "statistics")
    maps = torch.rand(1, 56, 4, 4) * torch.arange(56)[:, None, None]  # the first channel is dead
    weights, place = dict(network.classifier.named_parameters())["1.weight"].detach().numpy(), (2, 1)
    means, deviations = maps[0].mean((1, 2)).numpy(), maps[0].numpy().std((1, 2)).clip(1e-8)
    own = maps[0, :, place[0], place[1]].numpy()
    expected = weights[:, :56] @ own + weights[:, 56:] @ ((own - means) ** 2 / deviations)
    got = network.evidence(maps)[0, :, place[0], place[1]].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)
