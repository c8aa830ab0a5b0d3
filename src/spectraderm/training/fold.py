"""One fold: head first, layers then, and where the recipe asks for it a head in closed form at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from spectraderm import artifacts
from spectraderm.progress import Track, no_track
from spectraderm.training import discriminant, loop
from spectraderm.training.config import Recipe
from spectraderm.training.dataset import Floats, Inputs, epoch_order, in_batches
from spectraderm.training.features import of_copies
from spectraderm.training.frozen import Frozen, freeze
from spectraderm.training.model import Augment, Backbone, Normalise, SkinResNet, build
from spectraderm.training.views import COPIES, seen_as

KINDS = tuple((copy, coarse) for coarse in (False, True) for copy in COPIES)
"""The copies that a `discriminant` head is fitted on, each as it is and coarse."""
HEAD = "head"
"""The folder in a fold's folder where the head's first training keeps its state."""


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
    """What all folds share: the recipe, and of all photos pixels, features (where used), class numbers and groups.

    `copies` are the features of `copied_rows`, where the backbone is frozen and the head is a `discriminant`; `frozen`
    are a frozen backbone's layers.
    """

    recipe: Recipe
    pixels: Inputs
    features: Floats | None
    copies: Floats | None
    frozen: Frozen | None
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    normalise: Normalise
    accelerator: Accelerator
    track: Track

    def train(self, network: SkinResNet, sides: Sequence[str], seed: int, folder: Path) -> Answers:
        """Train a fresh network by the recipe on the photos whose side is `train`."""
        train, val = (np.array([i for i, side in enumerate(sides) if side == name]) for name in ("train", "val"))
        about = loop.Photos(self.targets, self.groups, train, val)
        closed = self.recipe.head == "discriminant"
        if self.recipe.train_backbone:
            if not (folder / artifacts.STATE).is_file():
                self._train_head(network, about, self.recipe.head_first(), seed, folder / HEAD)
            self._train_layers(network, about, seed, folder)
        elif not closed:
            self._train_head(network, about, self.recipe, seed, folder)
        frozen = self.frozen or freeze(network)
        if closed:
            self._fit_discriminant(network, frozen, train)
        answers = self._answers(network, frozen)
        if closed:
            trained = network if self.recipe.train_backbone else network.classifier
            loop.save_weights(folder / artifacts.CHECKPOINT, trained)
            if not self.recipe.train_backbone:
                self._write_history(folder, answers.logits, about)
        return answers

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

        def forward(batch: Tensor) -> Tensor:
            return cast("Tensor", network.classifier(batch.to(self.accelerator.device)))

        task = loop.Task(network.classifier, [self._head(network)], self.features, forward, forward, about)
        first = folder.name == HEAD
        loop.fit(
            task, recipe, seed, folder, self.accelerator, no_track if first else self.track,
            _keep_quiet if first else self._log(folder),
        )  # fmt: skip

    def _train_layers(self, network: SkinResNet, about: loop.Photos, seed: int, folder: Path) -> None:
        recipe = self.recipe
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        change = Augment(recipe.augment, recipe.train_size or recipe.image_size)

        def plain(batch: Tensor) -> Tensor:
            return cast("Tensor", network.classifier(network.pooled(network.feature_maps(self.normalise(batch)))))

        def changed(batch: Tensor) -> Tensor:
            return plain(change(batch.to(self.accelerator.device)))

        parts = [network.resnet.embedder, *network.resnet.encoder.stages]
        for part in parts[: recipe.frozen_stages]:
            part.requires_grad_(False)
        rate = recipe.backbone_learning_rate or recipe.learning_rate
        layers = {"params": [p for part in parts[recipe.frozen_stages :] for p in part.parameters()], "lr": rate}
        forward = changed if recipe.augment else plain
        task = loop.Task(network, [layers, self._head(network)], self.pixels, forward, plain, about)
        loop.fit(task, recipe, seed, folder, self.accelerator, self.track, self._log(folder))

    def _fit_discriminant(self, network: SkinResNet, frozen: Frozen, train: npt.NDArray[np.int64]) -> None:
        """Fit the last layer on twelve copies of one photo of every photo group, another one for each copy."""
        rows = copied_rows(self.groups)
        kept = [np.flatnonzero(np.isin(own, train)) for own in rows]
        if self.copies is None:
            own = [own[places] for own, places in zip(rows, kept, strict=True)]

            def look(batch: Tensor) -> Tensor:
                return frozen.pooled(network, self.normalise(batch))

            features = of_copies(self.pixels, KINDS, own, look, self.track)
        else:
            starts = np.cumsum([0, *(len(own) for own in rows[:-1])])
            features = self.copies[np.concatenate([start + own for start, own in zip(starts, kept, strict=True)])]
        chosen = np.concatenate([own[places] for own, places in zip(rows, kept, strict=True)])
        found = discriminant.fit(
            features, self.targets[chosen], self.groups[chosen], self.classes,
            self.recipe.shrinkage, self.recipe.invariance,
        )  # fmt: skip
        layer = cast("nn.Linear", network.classifier[-1])
        with torch.no_grad():
            for parameter, values in zip((layer.weight, layer.bias), found, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def _answers(self, network: SkinResNet, frozen: Frozen) -> Answers:
        features = self.features
        if features is None or self.recipe.train_backbone:

            def look(batch: Tensor) -> Tensor:
                seen = frozen.pooled(network, seen_as(self.normalise(batch), network.views))
                return seen.reshape(len(network.views), len(batch), -1).mean(0)

            features = in_batches(self.pixels, look, max(1, frozen.batch // len(network.views)))
        device = self.accelerator.device
        logits = in_batches(features, lambda batch: network.classifier(batch.to(device)))
        return Answers(logits, features, frozen)

    def _head(self, network: SkinResNet) -> dict[str, Any]:
        return {"params": list(network.classifier.parameters()), "lr": self.recipe.learning_rate}

    def _log(self, folder: Path) -> loop.Report:
        def log(row: dict[str, float]) -> None:
            values = {f"{folder.name}/{name}": value for name, value in row.items()}
            self.accelerator.log(values, step=int(row["epoch"]))

        return log

    def _write_history(self, folder: Path, logits: Floats, about: loop.Photos) -> None:
        """One line, for a head that was fitted at once."""
        row: dict[str, Any] = {"epoch": 1, "learning_rate": 0.0, "seconds": 0.0}
        for name, rows in (("train", about.train), ("val", about.val)):
            targets, guesses = self.targets[rows], logits[rows].argmax(1)
            row[f"{name}_loss"] = float(nn.functional.cross_entropy(torch.tensor(logits[rows]), torch.tensor(targets)))
            row[f"{name}_accuracy"] = float((targets == guesses).mean())
            row[f"{name}_balanced_accuracy"] = loop.balanced_accuracy(targets, guesses)
        artifacts.write_csv(
            folder / artifacts.HISTORY, loop.HISTORY_COLUMNS, [{name: row[name] for name in loop.HISTORY_COLUMNS}]
        )


def copied_rows(groups: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Of which photos each of `KINDS` is made: one at random of every photo group, for each kind anew."""
    return [epoch_order(groups, True, 0, number) for number in range(len(KINDS))]


def fresh(backbone: Backbone, recipe: Recipe, labels: list[str], accelerator: Accelerator) -> SkinResNet:
    """A network with a new head; its norms keep their statistics, for a few hundred photos would blur them."""
    network = build(backbone, recipe, labels)
    network.train(False)
    nn.Module.to(network, accelerator.device)
    return network


def _keep_quiet(row: dict[str, float]) -> None:
    """The head's first training is not logged."""
