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

from spectraderm.core.artifacts import sha256
from spectraderm.core.progress import no_track
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import fold
from spectraderm.training import lda as discriminant
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import AUGMENTATIONS, Augmentation, augmented
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.distributed import Team
from spectraderm.training.fold import Answers, Trainer
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.network import Normalise, SkinResNet, build, load_backbone

GROUPS = np.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7])
TARGETS = np.array([0, 0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1])
SIDES = [*["train"] * 8, "val", "val", "val", "test"]
KINDS: list[tuple[Augmentation, bool]] = [(copy, coarse) for coarse in (False, True) for copy in AUGMENTATIONS]
ROWS = fold.augmented_rows(GROUPS)

Fit = tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]
Train = Callable[..., tuple[Fit, Answers]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SkinResNet:
    backbone = load_backbone(str(write_tiny(tmp_path_factory.mktemp("fold") / "net")))
    torch.manual_seed(0)
    made = build(backbone, config.load("discriminant", {"image_size": 64}), ["a", "b"])
    made.train(False)
    return made


@pytest.fixture
def train(network: SkinResNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train, with the backbone frozen or trained; what the head was fitted on, and what the network then says."""
    normalise, plain = Normalise(Preprocessing(64)), discriminant.fit
    pixels, seen = noise(12), []
    photos = [sha256(photo.tobytes()) for photo in pixels]

    def noted(features: Floats, targets: npt.NDArray[np.int64], *about: Any) -> Any:  # noqa: ANN401
        seen.append((features, targets, about[0]))
        return plain(features, targets, *about)

    def train(is_frozen: bool, shrinkage: float = 0.2) -> tuple[Fit, Answers]:
        changes = {"image_size": 64, "shrinkage": shrinkage, "train_backbone": not is_frozen, "epochs": 1}
        recipe = config.load("discriminant", changes | {"learning_rate": 1e-60})
        features = copies = None
        if is_frozen:
            features = in_batches(pixels, lambda batch: network.features(normalise(batch)))
            copies = np.concatenate([of_kind(network, kind)[rows] for kind, rows in zip(KINDS, ROWS, strict=True)])
        about = (freeze(network) if is_frozen else None, TARGETS, GROUPS, Preprocessing(64), normalise)
        team = Team(Accelerator(cpu=True))
        trainer = Trainer(recipe, pixels, photos, features, copies, *about, team, no_track)
        answers = trainer.train(network, SIDES, 0, tmp_path)
        assert answers
        return seen.pop(), answers

    monkeypatch.setattr(discriminant, "fit", noted)
    return train


def of_kind(network: SkinResNet, kind: tuple[Augmentation, bool]) -> Floats:
    """Features of a copy of every photo."""
    normalise, copies = Normalise(Preprocessing(64)), np.stack([augmented(photo, *kind) for photo in noise(12)])
    return in_batches(copies, lambda batch: network.pooled(network.feature_maps(normalise(batch))))


def of_all_copies(network: SkinResNet) -> Floats:
    """Features of every training photo's every copy, `float[kinds, photos, width]`."""
    return np.stack([of_kind(network, kind)[:8] for kind in KINDS])


@pytest.mark.parametrize("is_frozen", [True, False])
def test_it_sees_each_copy_of_one_training_photo_of_every_group(
    is_frozen: bool, network: SkinResNet, train: Train
) -> None:
    (features, targets, photos), _ = train(is_frozen)
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


def test_what_trained_layers_saw_is_not_looked_at_again(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    plain = Frozen.pooled

    def counted(self: Frozen, network: SkinResNet, photos: Tensor) -> Tensor:
        counts.append(len(photos))
        return plain(self, network, photos)

    monkeypatch.setattr(Frozen, "pooled", counted)
    first, answers = train(False)
    assert sum(counts) == sum(len(set(GROUPS[:8])) for _ in KINDS) + 12 - len(set(GROUPS[:8]))  # `whole` is one of them
    again, others = train(False)  # as after a kill: the fold's folder is still there
    assert sum(counts) == 12 * len(set(GROUPS[:8])) + 12 - len(set(GROUPS[:8]))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(answers.logits, others.logits)
