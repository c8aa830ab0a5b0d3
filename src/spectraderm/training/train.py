"""Split + recipe + backbone -> a run folder's checkpoints, histories, and the logits of every photo in every fold.

A fold: the head first, on features of the frozen backbone; then the layers, where the recipe trains them; and where it
asks for one, an LDA head in closed form at the end.
"""

import math
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from spectraderm.core import OTHER
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import sha256, write_array, write_bytes, write_csv, write_json
from spectraderm.core.fold import Fold
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import CACHE, CONFIG, ENVIRONMENT, FEATURES, FINAL, LOGITS, MANIFEST, SPLIT, Run, measuring
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.images.decoding import reuse_memory
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import distributed, feature_cache, lda, learning_curve, loop
from spectraderm.training.augmentation import Augment
from spectraderm.training.backbones import Backbone
from spectraderm.training.checkpoint import load_weights, save_weights, surest_errors, write_heatmaps, write_logits
from spectraderm.training.dataset import Decoded, Floats, Integers, epoch_order, in_batches
from spectraderm.training.features import Features, of_backbone
from spectraderm.training.network import FromPixels, Normalise, build
from spectraderm.training.photo_augmentation import KINDS
from spectraderm.training.pooling import SkinNetwork
from spectraderm.training.recipe import Recipe
from spectraderm.training.trackers import NOTHING, Tracker, check_log, tracking

_NEVER = -1e3  # logit of a class that a fold has no training photos of


def train(
    run: Run,
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
        log: also log to `tensorboard`, `mlflow` or `wandb`; see `trackers`.
        track: how progress is shown.
        shared: take features of frozen layers that other runs have computed, and keep new ones for them, in the user's
            cache folder; else, or where that can't be written to, they are kept in the run folder alone.

    Raises:
        RunFolderError: the folder was trained before and `resume` is not given, or with other settings.
        DatasetError: a photo that has to be read vanished or changed since the audit.
    """
    check_log(log)
    reuse_memory("everything")
    accelerator = distributed.start(device)
    with distributed.one_voice(accelerator):
        rows = manifest.read(run.path(MANIFEST))
        split = splits.read(run.path(SPLIT), rows)
        config = _config(run, recipe, backbone, rows, split)
        done = {fold.name for fold in split.folds if run.fold(fold.name).logits.is_file()}
        if accelerator.is_main_process:
            _claim(run, config, resume)
            write_json(run.path(ENVIRONMENT), distributed.environment(accelerator, recipe))
            for name in done:  # a fold that was killed when it was done
                _tidy(run, name)
        accelerator.wait_for_everyone()
        if len(done) < len(split.folds):
            kept = (feature_cache.shared_folder() if shared else None) or run.path(CACHE)
            measured = measuring(split.protocol, [fold.name for fold in split.folds])
            trainer = Trainer(run, recipe, backbone, rows, kept, accelerator, track, measured)
            settings = {name: value for name, value in config.items() if name != "photos"}  # where they lie is no one's
            with tracking(log if accelerator.is_main_process else None, run.folder, settings) as tracker:
                left = [fold for fold in split.folds if fold.name not in done]
                for fold in track(left, "Training", len(left)) if accelerator.is_main_process else left:
                    trainer.train(fold, tracker)
        accelerator.wait_for_everyone()
    accelerator.end_training()
    if not accelerator.is_main_process:
        raise SystemExit(0)  # what follows is not for it to do


class Trainer:
    """Trains the folds of a run: layers by all processes, the rest by the main one alone.

    Features of frozen layers are in the folder `kept`. Where other folds, `measured`, measure the final one, and its
    head is fitted in closed form, its validation photos choose nothing: it is trained on them, too.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        backbone: Backbone,
        rows: list[manifest.Row],
        kept: Path,
        accelerator: Accelerator,
        track: Track = no_track,
        measured: Sequence[str] = (),
    ) -> None:
        self._run, self._recipe, self._backbone, self._rows = run, recipe, backbone, rows
        self._closed_form = recipe.head == "discriminant" and not recipe.train_backbone
        self._measured, self._draws = measured, learning_curve.draws(measured or [FINAL]) if self._closed_form else {}
        self._accelerator, self._main = accelerator, accelerator.is_main_process
        self._track = track if self._main else no_track
        self._labels = sorted({row.label for row in rows})
        self._targets = np.array([self._labels.index(row.label) for row in rows])
        self._groups = np.array([row.photo_group for row in rows])
        self._is_other = np.array([row.label == OTHER for row in rows])
        self._head = recipe.invariance, recipe.shrinkage, recipe.normalisation
        preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
        self._pixels = Decoded(run.photos, rows, preprocessing, run.path(CACHE), often=self._closed_form)
        self._normalise = Normalise(preprocessing).to(accelerator.device)
        self._about = (self._pixels, [row.sha256 for row in rows], preprocessing, self._normalise)
        self._of_backbone: Features | None = None
        self._features: Floats | None = None  # of the frozen backbone
        if recipe.train_backbone:
            with accelerator.main_process_first():  # the others find the file
                self._pixels.store(self._track)
        if self._main and (recipe.head_epochs or not recipe.train_backbone):
            self._of_backbone = of_backbone(backbone, recipe, *self._about, kept, track)
            self._features = self._of_backbone.averaged(recipe.test_transforms)
            if not recipe.train_backbone:
                write_array(run.path(FEATURES), self._features.astype(np.float16))

    def train(self, fold: splits.Fold, tracker: Tracker = NOTHING) -> None:
        """Train one fold, and write its weights, history, features and heatmaps, and its logits last."""
        recipe, device, folder = self._recipe, self._accelerator.device, self._run.fold(fold.name)
        sides = np.array([fold.splits[row.path] for row in self._rows])
        if self._closed_form and self._measured and fold.name == FINAL:
            sides[sides == "val"] = "train"
        photos = loop.Photos(self._targets, self._groups, *(np.flatnonzero(sides == s) for s in ("train", "val")))
        torch.manual_seed(fold.seed)
        network = build(self._backbone, recipe, self._labels)
        network.train(False)  # its norms keep their statistics, for a few hundred photos would blur them
        nn.Module.to(network, device)
        self._train_by_gradient(network, photos, fold.seed, folder, tracker)
        if not self._main:
            return
        computed, features = self._of_backbone, self._features
        if recipe.train_backbone:
            cache = self._run.path(CACHE) / fold.name
            computed = Features(network, *self._about, cache, self._track)
            features = computed.averaged(recipe.test_transforms)
            write_array(folder.features, features.astype(np.float16))
        assert computed is not None
        assert features is not None
        if recipe.head == "discriminant":
            fitted_on, statistics = self._fit_lda(network, computed, photos.train)
            if fold.name == FINAL and self._closed_form and len(statistics.centres) == len(self._labels):
                write_bytes(folder.statistics, statistics.to_bytes())
        logits = in_batches(features, lambda batch: network.classifier(batch.to(device)))
        if fold.name in self._draws:
            test = np.flatnonzero((sides == "test") & ~self._is_other)
            tested = learning_curve.Photos(features[test], self._targets[test], self._groups[test])
            about = (logits[test].argmax(1), self._head, fold.seed, self._draws[fold.name])
            learning_curve.write(folder.learning_curve, fitted_on, tested, *about)
        if self._closed_form:  # one line, for a head that was fitted at once
            train, val = (loop.scores(logits[own], self._targets[own]) for own in (photos.train, photos.val))
            line = {"epoch": 1, "train_loss": train["val_loss"], "train_accuracy": train["val_accuracy"], **val}
            write_csv(folder.history, loop.HISTORY_COLUMNS, [{**line, "learning_rate": 0.0, "seconds": 0.0}])
            tracker.epoch(fold.name, {name: value for name, value in line.items() if math.isfinite(value)})
        save_weights(folder.checkpoint, network if recipe.train_backbone else network.classifier)
        wrong = surest_errors(logits, self._targets, sides == "test")
        maps = np.empty((0, len(self._labels), 1, 1), np.float32)
        if len(wrong):
            maps = computed.evidence(network, wrong)
        write_heatmaps(folder.heatmaps, wrong, logits, maps)
        write_logits(folder.logits, self._rows, sides.tolist(), self._labels, logits)
        for side in np.unique(sides[sides != splits.EXCLUDED]).tolist():
            reached = loop.scores(logits[sides == side], self._targets[sides == side])
            tracker.scores(
                {f"scores/{fold.name}/{name.replace('val', side, 1)}": value for name, value in reached.items()}
            )
        _tidy(self._run, fold.name)

    def _train_by_gradient(
        self, network: SkinNetwork, photos: loop.Photos, seed: int, fold: Fold, tracker: Tracker
    ) -> None:
        """Train the head on features of the frozen backbone, then the layers, where the recipe asks for either."""
        recipe, accelerator, head = self._recipe, self._accelerator, network.classifier

        def log(row: dict[str, float]) -> None:
            tracker.epoch(fold.folder.name, row)

        group = {"params": list(head.parameters()), "lr": recipe.learning_rate}
        if self._features is not None and (recipe.train_backbone or recipe.head != "discriminant"):
            task = loop.Task(head, [group], self._features, head, photos)
            with distributed.one_thread():
                if not recipe.train_backbone:
                    loop.fit(task, recipe, seed, fold, accelerator, self._track, log)
                elif not fold.state.is_file():
                    loop.fit(task, recipe.head_first(), seed, fold, accelerator, resumable=False)
        accelerator.wait_for_everyone()
        if recipe.train_backbone:
            nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
            parts = [network.layers.embedder, *network.layers.encoder.stages]
            for part in parts[: recipe.frozen_stages]:
                part.requires_grad_(False)
            weights = [weight for part in parts[recipe.frozen_stages :] for weight in part.parameters()]
            groups = [{"params": weights, "lr": recipe.backbone_learning_rate or recipe.learning_rate}, group]
            augment = Augment(recipe.augment, recipe.train_size or recipe.image_size) if recipe.augment else None
            forward, dtype = FromPixels(network, self._normalise), distributed.dtype_of(recipe, accelerator.device)
            task = loop.Task(network, groups, self._pixels, forward, photos, augment, dtype, shared=True)
            loop.fit(task, recipe, seed, fold, accelerator, self._track, log)

    def _fit_lda(
        self, network: SkinNetwork, computed: Features, train: Integers
    ) -> tuple[learning_curve.Photos, lda.Statistics]:
        """Fit the last layer on `KINDS`, each of one training photo of every photo group, for each kind anew.

        A class without training photos, as where a source is left out, is never guessed.
        """
        orders = (epoch_order(self._groups, True, 0, number) for number in range(len(KINDS)))
        chosen = [rows[np.isin(rows, train)] for rows in orders]
        features, rows = computed.augmented(KINDS, chosen), np.concatenate(chosen)
        photos = learning_curve.Photos(features, self._targets[rows], self._groups[rows])
        statistics, present, fitted = photos.fit(*self._head)
        layer = cast("nn.Linear", network.classifier[-1])
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(_NEVER)
            for parameter, values in zip((layer.weight, layer.bias), fitted, strict=True):
                parameter[torch.from_numpy(present)] = torch.from_numpy(values).to(parameter)
        return photos, statistics


def _tidy(run: Run, fold: str) -> None:
    """Delete what only a fold that is under way needs."""
    run.fold(fold).state.unlink(missing_ok=True)
    shutil.rmtree(run.path(CACHE) / fold, ignore_errors=True)


def _config(
    run: Run, recipe: Recipe, backbone: Backbone, rows: list[manifest.Row], split: splits.Split
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
        "display_names": manifest.display_names(labels),
        "preprocessing": recipe.preprocessing(backbone.mean, backbone.std).to_hub(),
        "protocol": split.protocol,
        "folds": [{"fold": fold.name, "seed": fold.seed} for fold in split.folds],
        "split_sha256": sha256(run.path(SPLIT).read_bytes()),
        "photos": run.audit["root"],
    }


def _claim(run: Run, config: dict[str, Any], resume: bool) -> None:
    """Write the run's config, or make sure that the one that is there says the same."""
    if not run.path(CONFIG).is_file():
        if done := sorted(run.folder.glob(f"folds/*/{LOGITS}")):  # by nobody knows what settings
            raise RunFolderError(f"{run.folder} has {done[0]}, and no {CONFIG}", f"Delete {run.folder / 'folds'}")
        write_json(run.path(CONFIG), config)
    elif not resume:
        raise RunFolderError(f"{run.folder} was trained in before", "Add --resume to go on, or give another --out")
    elif changed := [key for key, value in config.items() if run.config.get(key) != value]:
        raise RunFolderError(f"{run.folder} was trained with another {', '.join(changed)}", "Give another --out")


def restore(run: Run, backbone: Backbone, fold: str = FINAL) -> tuple[SkinNetwork, Preprocessing]:
    """The model of a fold of a trained run folder, in eval mode on the CPU, and its preprocessing."""
    config = run.config
    recipe = Recipe.model_validate(config["recipe"])
    network = build(backbone, recipe, config["labels"]).to("cpu")
    network.train(False)
    load_weights(run.fold(fold).checkpoint, network if recipe.train_backbone else network.classifier)
    return network, Preprocessing.from_hub(config["preprocessing"])
