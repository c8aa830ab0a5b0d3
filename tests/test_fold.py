"""What the head in closed form is fitted on: twelve changed copies of one photo of every photo group."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from accelerate import Accelerator
from tinynet import noise, write_tiny
from torch import Tensor

from spectraderm.preprocessing import Preprocessing
from spectraderm.progress import no_track
from spectraderm.training import config, discriminant, fold
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.features import of_copies
from spectraderm.training.fold import Answers, Trainer
from spectraderm.training.frozen import freeze
from spectraderm.training.model import Normalise, SkinResNet, load_backbone
from spectraderm.training.views import COPIES, Copy, changed_copy

GROUPS = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
TARGETS = np.array([0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1])
SIDES = [*["train"] * 8, "val", "val", "val", "test"]
KINDS: list[tuple[Copy, bool]] = [(copy, coarse) for coarse in (False, True) for copy in COPIES]

Fit = tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]
Train = Callable[..., tuple[Fit, Answers]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SkinResNet:
    backbone = load_backbone(str(write_tiny(tmp_path_factory.mktemp("fold") / "net")))
    torch.manual_seed(0)
    return fold.fresh(backbone, config.load("discriminant", {"image_size": 64}), ["a", "b"], Accelerator(cpu=True))


@pytest.fixture
def train(network: SkinResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train, with copies given or made; what the head was fitted on, and what the network then says."""
    normalise, plain = Normalise(Preprocessing(64)), discriminant.fit
    pixels, seen = noise(12), []

    def noted(features: Floats, targets: npt.NDArray[np.int64], *about: Any) -> Any:  # noqa: ANN401
        seen.append((features, targets, about[0]))
        return plain(features, targets, *about)

    def look(batch: Tensor) -> Tensor:
        return network.pooled(network.feature_maps(normalise(batch)))

    def train(given: bool, shrinkage: float = 0.2) -> tuple[Fit, Answers]:
        recipe = config.load("discriminant", {"image_size": 64, "shrinkage": shrinkage})
        features = in_batches(pixels, lambda batch: network.features(normalise(batch)))
        copies = of_copies(pixels, KINDS, fold.copied_rows(GROUPS), look, no_track) if given else None
        about = (freeze(network) if given else None, TARGETS, GROUPS, normalise, Accelerator(cpu=True), no_track)
        answers = Trainer(recipe, pixels, features, copies, *about).train(network, SIDES, 0, tmp_path)
        return seen.pop(), answers

    monkeypatch.setattr(discriminant, "fit", noted)
    return train


def of_all_copies(network: SkinResNet) -> Floats:
    """Features of every training photo's every copy, `float[kinds, photos, width]`."""
    normalise, pixels = Normalise(Preprocessing(64)), noise(12)[:8]
    copies = np.stack([changed_copy(photo, *kind) for kind in KINDS for photo in pixels])
    found = in_batches(copies, lambda batch: network.pooled(network.feature_maps(normalise(batch))))
    return found.reshape(len(KINDS), 8, -1)


@pytest.mark.parametrize("given", [True, False])
def test_it_sees_each_copy_of_one_training_photo_of_every_group(given: bool, network: SkinResNet, train: Train) -> None:
    (features, targets, photos), _ = train(given)
    expected, groups = of_all_copies(network), len(set(GROUPS[:8]))
    assert features.shape == (12 * groups, 112)
    chosen: set[int] = set()
    for number, copies in enumerate(features.reshape(12, groups, 112)):
        distances = np.abs(copies[:, None] - expected[number]).max(2)
        rows = distances.argmin(1)
        assert distances.min(1).max() < 1e-3
        assert sorted(GROUPS[rows]) == sorted(set(GROUPS[:8]))
        assert photos.reshape(12, groups)[number].tolist() == GROUPS[rows].tolist()
        assert targets.reshape(12, groups)[number].tolist() == TARGETS[rows].tolist()
        chosen |= set(rows.tolist())
    assert chosen == set(range(8))  # another photo of a group has its turn in another copy


def test_the_network_answers_with_the_head_that_was_fitted(train: Train) -> None:
    (features, targets, photos), answers = train(True, 0.5)
    invariance = config.load("discriminant").invariance
    weights, bias = discriminant.fit(features, targets, photos, 2, 0.5, invariance)
    assert np.allclose(answers.logits, answers.features @ weights.T + bias, atol=1e-3)
    assert not np.allclose(train(True)[1].logits, answers.logits, atol=1e-2)


def test_answers_are_rows_of_all_photos(train: Train) -> None:
    _, answers = train(False)
    assert answers.logits.shape == (12, 2)
    assert answers.features.shape == (12, 112)
