"""Split + recipe + backbone -> a run folder's checkpoints, histories, and the logits of every photo in every fold.

A fold: the head first, on features of the frozen backbone; then the layers, where the recipe trains them; and where it
asks for one, an LDA head in closed form at the end.
"""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import read_json, sha256, write_array, write_csv, write_json
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import (
    AUDIT,
    CACHE,
    CHECKPOINT,
    CONFIG,
    ENVIRONMENT,
    FEATURES,
    FINAL,
    HEATMAPS,
    HISTORY,
    LOGITS,
    MANIFEST,
    SPLIT,
    STATE,
    Run,
)
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import distributed, feature_cache, lda, loop
from spectraderm.training.augmentation import AUGMENTATIONS, Augment
from spectraderm.training.backbones import Backbone
from spectraderm.training.checkpoint import load_weights, save_weights, surest_errors, write_heatmaps, write_logits
from spectraderm.training.dataset import Decoded, Floats, Inputs, epoch_order, in_batches
from spectraderm.training.distributed import dtype_of
from spectraderm.training.features import Features, of_backbone
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.network import Normalise, SkinResNet, build
from spectraderm.training.recipe import Recipe

KINDS = tuple((augmentation, coarse) for coarse in (False, True) for augmentation in AUGMENTATIONS)
"""The augmentations that an LDA head is fitted on, each as it is and coarse."""


def train(
    run: Path,
    recipe: Recipe,
    backbone: Backbone,
    resume: bool = False,
    device: str = "auto",
    log: str | None = None,
    track: Track = no_track,
    shared: bool = True,
) -> None:
    """Train every fold of a run folder's `split.csv`.

    Several processes that a launcher started train the layers of each fold together; only the main one writes, and the
    others leave the program at the end.

    Args:
        run: a folder with `manifest.csv`, `audit.json` and `split.csv`.
        recipe: how to train.
        backbone: the pretrained network to start from.
        resume: go on with what an earlier, interrupted call left; the result is that of an unbroken one.
        device: `auto` (a GPU where there is one) or `cpu`.
        log: also log to `tensorboard` or `mlflow`.
        track: how progress is shown.
        shared: take features of frozen layers that other runs have computed, and keep new ones for them, in the user's
            cache folder; else, or where that can't be written to, they are kept in the run folder alone.

    Raises:
        RunFolderError: the folder was trained before and `resume` is not given, or with other settings.
        DatasetError: a photo that has to be read vanished or changed since the audit.
    """
    distributed.keep_freed_memory()
    accelerator = distributed.start(run, device, log)
    with distributed.one_voice(accelerator):
        rows = manifest.read(run / MANIFEST)
        split = splits.read(run / SPLIT, rows)
        root = read_json(run / AUDIT, "Run `spectraderm audit PHOTOS --out RUN` first")["root"]
        done = {fold.name for fold in split.folds if _logits(run, fold.name).is_file()}
        if accelerator.is_main_process:
            _claim(run, _config(run, recipe, backbone, rows, split, root), resume)
            write_json(run / ENVIRONMENT, distributed.environment(accelerator, recipe))
            for name in done:  # a fold that was killed when it was done
                _tidy(run, name)
        accelerator.wait_for_everyone()
        if len(done) < len(split.folds):
            kept = (feature_cache.shared_folder() if shared else None) or run / CACHE
            trainer = Trainer(run, recipe, backbone, rows, Path(root), kept, accelerator, track)
            for fold in split.folds:
                if fold.name not in done:
                    trainer.train(fold)
        accelerator.wait_for_everyone()
    distributed.end(accelerator)


class Trainer:
    """Trains the folds of a run: layers by all processes, the rest by the main one alone.

    Args:
        run: the run folder.
        recipe: how to train.
        backbone: what every fold starts from.
        rows: of the manifest.
        root: where the photos are.
        kept: the folder of features of frozen layers.
        accelerator: the processes.
        track: how progress is shown.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        backbone: Backbone,
        rows: list[manifest.Row],
        root: Path,
        kept: Path,
        accelerator: Accelerator,
        track: Track = no_track,
    ) -> None:
        self._run, self._recipe, self._backbone, self._rows, self._accelerator = (
            run,
            recipe,
            backbone,
            rows,
            accelerator,
        )
        self._main = accelerator.is_main_process
        self._track = track if self._main else no_track
        self._labels = sorted({row.label for row in rows})
        self._targets = np.array([self._labels.index(row.label) for row in rows])
        self._groups = np.array([row.photo_group for row in rows])
        preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
        self._pixels = Decoded(root, rows, preprocessing, run / CACHE)
        self._normalise = Normalise(preprocessing).to(accelerator.device)
        self._about = (self._pixels, [row.sha256 for row in rows], preprocessing, self._normalise)
        self._of_backbone: Features | None = None
        self._features: Floats | None = None
        if recipe.train_backbone:
            with accelerator.main_process_first():  # the others find the file
                self._pixels.store(self._track)
        if self._main and (recipe.head_epochs or not recipe.train_backbone):
            self._of_backbone = of_backbone(backbone, recipe, *self._about, kept, track)
            self._features = self._of_backbone.averaged(recipe.test_transforms)
        if self._features is not None and not recipe.train_backbone:
            write_array(run / FEATURES, self._features.astype(np.float16))

    def train(self, fold: splits.Fold) -> None:
        """Train one fold, and write its weights, history, features and heatmaps, and its logits last."""
        recipe, device = self._recipe, self._accelerator.device
        folder = Run(self._run).fold(fold.name).folder
        sides = np.array([fold.splits[row.path] for row in self._rows])
        photos = loop.Photos(self._targets, self._groups, *(np.flatnonzero(sides == s) for s in ("train", "val")))
        torch.manual_seed(fold.seed)
        network = build(self._backbone, recipe, self._labels)
        network.train(False)  # its norms keep their statistics, for a few hundred photos would blur them
        nn.Module.to(network, device)
        self._train_by_gradient(network, photos, fold.seed, folder)
        if not self._main:
            return
        if recipe.train_backbone:
            cache = self._run / CACHE / fold.name
            computed = Features(network, freeze(network), *self._about, slice(None), cache, self._track)
            features = computed.averaged(recipe.test_transforms)
            write_array(folder / FEATURES, features.astype(np.float16))
        else:
            assert self._of_backbone is not None
            assert self._features is not None
            computed, features = self._of_backbone, self._features
        if recipe.head == "discriminant":
            self._fit_lda(network, computed, photos.train)
        logits = in_batches(features, lambda batch: network.classifier(batch.to(device)))
        if recipe.head == "discriminant" and not recipe.train_backbone:
            _write_history(folder, logits, photos)
        save_weights(folder / CHECKPOINT, network if recipe.train_backbone else network.classifier)
        wrong = surest_errors(logits, self._targets, sides == "test")
        evidence = self._evidence(network, computed.frozen, wrong)
        write_heatmaps(folder / HEATMAPS, wrong, logits, evidence)
        write_logits(folder / LOGITS, self._rows, sides.tolist(), self._labels, logits)
        _tidy(self._run, fold.name)

    def _train_by_gradient(self, network: SkinResNet, photos: loop.Photos, seed: int, folder: Path) -> None:
        """Train the head on features of the frozen backbone, then the layers, where the recipe asks for either."""
        recipe, accelerator, head = self._recipe, self._accelerator, network.classifier

        def log(row: dict[str, float]) -> None:
            accelerator.log({f"{folder.name}/{name}": value for name, value in row.items()}, step=int(row["epoch"]))

        if self._features is not None and (recipe.train_backbone or recipe.head != "discriminant"):
            parameters = [{"params": list(head.parameters()), "lr": recipe.learning_rate}]
            task = loop.Task(head, parameters, self._features, head, photos)
            if not recipe.train_backbone:
                loop.fit(task, recipe, seed, folder, accelerator, self._track, log)
            elif not (folder / STATE).is_file():
                loop.fit(task, recipe.head_first(), seed, folder, accelerator, resumable=False)
        accelerator.wait_for_everyone()
        if recipe.train_backbone:
            task = layers_task(network, recipe, self._pixels, self._normalise, photos)
            loop.fit(task, recipe, seed, folder, accelerator, self._track, log)

    def _fit_lda(self, network: SkinResNet, computed: Features, train: npt.NDArray[np.int64]) -> None:
        """Fit the last layer on `KINDS`, each of one training photo of every photo group, for each kind anew."""
        orders = (epoch_order(self._groups, True, 0, number) for number in range(len(KINDS)))
        chosen = [rows[np.isin(rows, train)] for rows in orders]
        features, rows = computed.augmented(KINDS, chosen), np.concatenate(chosen)
        about = (self._targets[rows], self._groups[rows], len(self._labels))
        found = lda.fit(features, *about, self._recipe.shrinkage, self._recipe.invariance)
        layer = cast("nn.Linear", network.classifier[-1])
        with torch.no_grad():
            for parameter, values in zip((layer.weight, layer.bias), found, strict=True):
                parameter.copy_(torch.from_numpy(values))

    def _evidence(self, network: SkinResNet, frozen: Frozen, rows: npt.NDArray[np.int64]) -> Floats:
        """Class activation maps of some photos, `float32[m, classes, h, w]`."""
        if not len(rows):
            return np.empty((0, len(self._labels), 1, 1), np.float32)

        def evidence(batch: Tensor) -> Tensor:
            return network.evidence(frozen.maps(network, self._normalise(batch)))

        return in_batches(self._pixels, evidence, frozen.batch, rows)


def layers_task(
    network: SkinResNet, recipe: Recipe, pixels: Inputs, normalise: Normalise, photos: loop.Photos
) -> loop.Task:
    """The training of all but the first layers of a network, and of its head, on augmented photos."""
    nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = [network.resnet.embedder, *network.resnet.encoder.stages]
    for part in parts[: recipe.frozen_stages]:
        part.requires_grad_(False)
    rate = recipe.backbone_learning_rate or recipe.learning_rate
    layers = {"params": [p for part in parts[recipe.frozen_stages :] for p in part.parameters()], "lr": rate}
    head = {"params": list(network.classifier.parameters()), "lr": recipe.learning_rate}
    augment = Augment(recipe.augment, recipe.train_size or recipe.image_size) if recipe.augment else None
    forward, dtype = _FromPixels(network, normalise), dtype_of(recipe, normalise.mean.device)
    return loop.Task(network, [layers, head], pixels, forward, photos, augment, dtype, shared=True)


class _FromPixels(nn.Module):
    """Pixels `[n, s, s, 3]` -> a network's logits `float[n, classes]`."""

    def __init__(self, network: SkinResNet, normalise: Normalise) -> None:
        super().__init__()
        self.network, self.normalise = network, normalise

    def forward(self, batch: Tensor) -> Tensor:
        network = self.network
        return cast("Tensor", network.classifier(network.pooled(network.feature_maps(self.normalise(batch)))))


def _write_history(folder: Path, logits: Floats, photos: loop.Photos) -> None:
    """One line, for a head that was fitted at once."""
    sides = (photos.train, photos.val)
    train, val = (loop.scores(logits[rows], photos.targets[rows], nn.CrossEntropyLoss()) for rows in sides)
    own = {"train_loss": train["val_loss"], "train_accuracy": train["val_accuracy"]}
    row = {"epoch": 1, **own, **val, "learning_rate": 0.0, "seconds": 0.0}
    write_csv(folder / HISTORY, loop.HISTORY_COLUMNS, [row])


def _logits(run: Path, fold: str) -> Path:
    return Run(run).fold(fold).logits


def _tidy(run: Path, fold: str) -> None:
    """Delete what only a fold that is under way needs."""
    (Run(run).fold(fold).state).unlink(missing_ok=True)
    shutil.rmtree(run / CACHE / fold, ignore_errors=True)


def _config(
    run: Path, recipe: Recipe, backbone: Backbone, rows: list[manifest.Row], split: splits.Split, photos: str
) -> dict[str, Any]:
    """All that decides what a training gives."""
    labels = sorted({row.label for row in rows})
    return {
        "spectraderm": metadata.version("spectraderm"),
        "recipe": recipe.model_dump(mode="json"),
        "backbone": backbone.source,
        "backbone_name": backbone.name,
        "backbone_license": backbone.license,
        "labels": labels,
        "display_names": {label: manifest.display_name(label) for label in labels},
        "preprocessing": recipe.preprocessing(backbone.mean, backbone.std).to_hub(),
        "protocol": split.protocol,
        "folds": [{"fold": fold.name, "seed": fold.seed} for fold in split.folds],
        "split_sha256": sha256((run / SPLIT).read_bytes()),
        "photos": photos,
    }


def _claim(run: Path, config: dict[str, Any], resume: bool) -> None:
    """Write the run's config, or make sure that the one that is there says the same."""
    path = run / CONFIG
    if not path.is_file():
        write_json(path, config)
        return
    if not resume:
        raise RunFolderError(f"{run} was trained in before", "Add --resume to go on, or give another --out")
    before = read_config(run)
    changed = [key for key in config if before.get(key) != config[key]]
    if changed:
        raise RunFolderError(f"{run} was trained with another {', '.join(changed)}", "Give another --out")


def restore(run: Path, backbone: Backbone, fold: str = FINAL) -> tuple[SkinResNet, Preprocessing]:
    """The model of a fold of a trained run folder, in eval mode on the CPU, and its preprocessing."""
    config = read_config(run)
    recipe = Recipe.model_validate(config["recipe"])
    network = build(backbone, recipe, config["labels"])
    network.train(False)
    trained = network if recipe.train_backbone else network.classifier
    load_weights(Run(run).fold(fold).checkpoint, trained)
    return network, Preprocessing.from_hub(config["preprocessing"])


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a trained run folder."""
    return read_json(run / CONFIG, "Run `spectraderm train RUN` first")
