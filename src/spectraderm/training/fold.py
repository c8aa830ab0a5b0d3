"""One fold: head first, layers then, and where the recipe asks for it a head in closed form at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spectraderm.core import artifacts
from spectraderm.core.progress import Track, no_track
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import lda as discriminant
from spectraderm.training import loop
from spectraderm.training.augmentation import AUGMENTATIONS
from spectraderm.training.checkpoint import saved
from spectraderm.training.dataset import Floats, Inputs, epoch_order, in_batches
from spectraderm.training.distributed import Team
from spectraderm.training.features import Features
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.network import Augment, Normalise, SkinResNet
from spectraderm.training.optimising import dtype_of
from spectraderm.training.recipe import Recipe
from spectraderm.training.weights import save_weights

KINDS = tuple((copy, coarse) for coarse in (False, True) for copy in AUGMENTATIONS)
"""The copies that a `discriminant` head is fitted on, each as it is and coarse."""
HEAD = "head"
"""The folder in a fold's folder where the head's first training keeps its state, and trained layers what they see."""


@dataclass(frozen=True)
class Answers:
    """What a trained network says of all photos: `logits float32[n, classes]`, `features float32[n, width]`.

    `frozen` are its layers as they were trained.
    """

    logits: Floats
    features: Floats
    frozen: Frozen


@dataclass(frozen=True)
class Trainer:
    """What all folds share: the recipe; of all photos pixels, SHA-256, features (where used), class numbers, groups.

    `copies` are the features of `augmented_rows`, where the backbone is frozen and the head is a `discriminant`;
    `frozen` are a frozen backbone's layers. Only the team's first process needs features, copies and frozen layers.
    """

    recipe: Recipe
    pixels: Inputs
    photos: Sequence[str]
    features: Floats | None
    copies: Floats | None
    frozen: Frozen | None
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    preprocessing: Preprocessing
    normalise: Normalise
    team: Team
    track: Track

    def train(self, network: SkinResNet, sides: Sequence[str], seed: int, folder: Path) -> Answers | None:
        """Train a fresh network by the recipe on the photos whose side is `train`, and write its weights.

        Layers are trained by all processes of the team, the rest by the first one alone. The others have no answers.
        """
        train, val = (np.array([i for i, side in enumerate(sides) if side == name]) for name in ("train", "val"))
        about = loop.Photos(self.targets, self.groups, train, val)
        closed = self.recipe.head == "discriminant"
        if self.recipe.train_backbone:
            if self.team.first and not saved(folder):
                self._train_head(network, about, self.recipe.head_first(), seed, folder / HEAD)
            self.team.wait()
            task = self.layers_of(network, about)
            loop.fit(task, self.recipe, seed, folder, self.team, self.track, self._log(folder))
            if not self.team.first:
                return None
        elif not closed:
            self._train_head(network, about, self.recipe, seed, folder)
        frozen = self.frozen or freeze(network)
        seen = self._seen(network, frozen, folder / HEAD) if self.recipe.train_backbone else None
        if closed:
            self._fit_discriminant(network, seen, train)
        features = seen.averaged(self.recipe.test_transforms) if seen else self.features
        assert features is not None
        logits = in_batches(features, lambda batch: network.classifier(batch.to(self.team.device)))
        if closed and not self.recipe.train_backbone:
            self._write_history(folder, logits, about)
        save_weights(folder / artifacts.CHECKPOINT, network if self.recipe.train_backbone else network.classifier)
        return Answers(logits, features, frozen)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.targets.max()) + 1

    def evidence_of(self, network: SkinResNet, frozen: Frozen, rows: npt.NDArray[np.int64]) -> Floats:
        """Class activation maps of some photos by a network with these layers, `float32[m, classes, h, w]`."""
        if not len(rows):
            return np.empty((0, self.classes, 1, 1), np.float32)

        def evidence(batch: Tensor) -> Tensor:
            return network.evidence(frozen.maps(network, self.normalise(batch)))

        return in_batches(self.pixels[rows], evidence, frozen.batch)

    def _train_head(self, network: SkinResNet, about: loop.Photos, recipe: Recipe, seed: int, folder: Path) -> None:
        if self.features is None:
            return
        head = network.classifier

        def plain(batch: Tensor) -> Tensor:
            return cast("Tensor", head(batch.to(self.team.device)))

        task = loop.Task(head, [self._head(network)], self.features, head, plain, about)
        track, report = (no_track, lambda _: None) if folder.name == HEAD else (self.track, self._log(folder))
        loop.fit(task, recipe, seed, folder, self.team.alone(), track, report)

    def layers_of(self, network: SkinResNet, about: loop.Photos) -> loop.Task:
        """What is trained where all but the first layers of a network are."""
        recipe = self.recipe
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        seen = _Seen(network, self.normalise)
        parts = [network.resnet.embedder, *network.resnet.encoder.stages]
        for part in parts[: recipe.frozen_stages]:
            part.requires_grad_(False)
        rate = recipe.backbone_learning_rate or recipe.learning_rate
        layers = {"params": [p for part in parts[recipe.frozen_stages :] for p in part.parameters()], "lr": rate}
        change = Augment(recipe.augment, recipe.train_size or recipe.image_size)
        return loop.Task(
            network, [layers, self._head(network)], self.pixels, seen, seen.forward, about,
            change if recipe.augment else lambda pixels, *_: pixels,
            dtype_of(recipe.precision, self.team.device), recipe.compile,
        )  # fmt: skip

    def _seen(self, network: SkinResNet, frozen: Frozen, folder: Path) -> Features:
        """What layers that were just trained see of all photos; kept in the folder for a training that goes on."""
        about = (self.pixels, self.photos, self.preprocessing, self.normalise)
        return Features(network, frozen, *about, slice(None), folder, self.track)

    def _fit_discriminant(self, network: SkinResNet, seen: Features | None, train: loop.Integers) -> None:
        """Fit the last layer on twelve copies of one photo of every photo group, another one for each copy."""
        rows = augmented_rows(self.groups)
        kept = [np.flatnonzero(np.isin(own, train)) for own in rows]
        chosen = [own[places] for own, places in zip(rows, kept, strict=True)]
        if seen:
            features = seen.copies(KINDS, chosen)
        else:
            assert self.copies is not None
            starts = np.cumsum([0, *(len(own) for own in rows[:-1])])
            features = self.copies[np.concatenate([start + own for start, own in zip(starts, kept, strict=True)])]
        photos = np.concatenate(chosen)
        found = discriminant.fit(
            features, self.targets[photos], self.groups[photos], self.classes,
            self.recipe.shrinkage, self.recipe.invariance,
        )  # fmt: skip
        layer = cast("nn.Linear", network.classifier[-1])
        with torch.no_grad():
            for parameter, values in zip((layer.weight, layer.bias), found, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def _head(self, network: SkinResNet) -> dict[str, Any]:
        return {"params": list(network.classifier.parameters()), "lr": self.recipe.learning_rate}

    def _log(self, folder: Path) -> loop.Report:
        def log(row: dict[str, float]) -> None:
            values = {f"{folder.name}/{name}": value for name, value in row.items()}
            self.team.accelerator.log(values, step=int(row["epoch"]))

        return log

    def _write_history(self, folder: Path, logits: Floats, about: loop.Photos) -> None:
        """One line, for a head that was fitted at once."""
        loss_of, sides = nn.CrossEntropyLoss(), (about.train, about.val)
        train, val = (loop.scores(logits[rows], self.targets[rows], loss_of) for rows in sides)
        own = {"train_loss": train["val_loss"], "train_accuracy": train["val_accuracy"]}
        row = {"epoch": 1, **own, **val, "learning_rate": 0.0, "seconds": 0.0}
        artifacts.write_csv(folder / artifacts.HISTORY, loop.HISTORY_COLUMNS, [row])


def augmented_rows(groups: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Of which photos each of `KINDS` is made: one at random of every photo group, for each kind anew."""
    return [epoch_order(groups, True, 0, number) for number in range(len(KINDS))]


class _Seen(nn.Module):
    """Pixels `[n, s, s, 3]` -> what a network says of them, `float[n, classes]`."""

    def __init__(self, network: SkinResNet, normalise: Normalise) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, batch: Tensor) -> Tensor:
        network = self.network
        return cast("Tensor", network.classifier(network.pooled(network.feature_maps(self.normalise(batch)))))
