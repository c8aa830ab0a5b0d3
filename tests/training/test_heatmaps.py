from pathlib import Path

import numpy as np
import pytest
import torch
from handmade import LABELS
from torch import nn

from spectraderm.core.run import HEATMAPS, Run
from spectraderm.evaluation.calibrate import read_outputs
from spectraderm.inference.calibration import softmax
from spectraderm.training import recipe as config
from spectraderm.training.backbones import load_backbone
from spectraderm.training.checkpoint import HEATMAPS_KEPT, surest_errors, write_heatmaps
from spectraderm.training.network import SkinResNet, build


def built(tiny: Path, head: str, pooling: str) -> SkinResNet:
    recipe = config.load("notebook", {"head": head, "pooling": pooling})
    network = build(load_backbone(str(tiny)), recipe, list(LABELS))
    network.train(False)
    for layer in network.classifier:
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.bias, -1, 1)
    return network


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_evidence_is_gradient_times_activation_and_adds_up_to_the_logits(head: str, tiny: Path) -> None:
    network = built(tiny, head, "mean")
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
    network = built(tiny, head, "statistics")
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
    network = built(tiny, "linear", "statistics")
    maps = torch.rand(1, 56, 4, 4) * torch.arange(56)[:, None, None]  # the first channel is dead
    weights, place = dict(network.classifier.named_parameters())["1.weight"].detach().numpy(), (2, 1)
    means, deviations = maps[0].mean((1, 2)).numpy(), maps[0].numpy().std((1, 2)).clip(1e-8)
    own = maps[0, :, place[0], place[1]].numpy()
    expected = weights[:, :56] @ own + weights[:, 56:] @ ((own - means) ** 2 / deviations)
    got = network.evidence(maps)[0, :, place[0], place[1]].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_the_surest_errors_come_first_and_only_of_tested_photos() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (200, 4)).astype(np.float32)
    targets, tested = random.integers(0, 4, 200), random.random(200) < 0.5
    got = surest_errors(logits, targets, tested)
    sure = softmax(logits).max(1)
    wrong = [i for i in range(200) if tested[i] and logits[i].argmax() != targets[i]]
    assert got.tolist() == sorted(wrong, key=lambda i: -sure[i])[:HEATMAPS_KEPT]
    assert len(surest_errors(logits, logits.argmax(1), tested)) == 0


def test_the_map_kept_is_that_of_the_guess(tmp_path: Path) -> None:
    logits = np.array([[0, 1, 0], [2, 0, 0], [0, 0, 3]], np.float32)
    maps = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    path = tmp_path / HEATMAPS
    write_heatmaps(path, np.array([2, 0]), logits, maps)
    with np.load(path, allow_pickle=False) as stored:
        assert stored["rows"].tolist() == [2, 0]
        np.testing.assert_array_equal(stored["maps"], maps[[0, 1], [2, 1]])
    before = path.read_bytes()
    write_heatmaps(path, np.array([2, 0]), logits, maps)
    assert path.read_bytes() == before
    write_heatmaps(path, np.empty(0, np.int64), logits, np.empty((0, 3, 1, 1), np.float32))


def test_trained_runs_leave_maps_of_their_wrong_test_photos(runs: dict[str, Path]) -> None:
    for run in runs.values():
        (fold, *_), _ = read_outputs(Run(run))
        with np.load(Run(run).fold("final").heatmaps, allow_pickle=False) as stored:
            wrong = np.flatnonzero((fold.splits == "test") & (fold.logits.argmax(1) != fold.labels))
            assert sorted(stored["rows"]) == wrong.tolist()
            assert len(stored["maps"]) == len(wrong)
        assert len(Run(run).features("final")) == len(fold)
