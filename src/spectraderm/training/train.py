"""Split + recipe + backbone -> a run folder's checkpoints, histories, and the logits of every photo in every fold."""

import ctypes
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from spectraderm import artifacts
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.errors import MissingExtra, RunFolderError
from spectraderm.preprocessing import Pixels, Preprocessing
from spectraderm.progress import Track, no_track
from spectraderm.training import dataset, loop, outputs
from spectraderm.training.config import Recipe
from spectraderm.training.dataset import Floats, in_batches
from spectraderm.training.model import Augment, Backbone, Normalise, SkinResNet, build, feature_width

_HEAD = "head"
_PACKAGES = ("spectraderm", "torch", "transformers", "accelerate", "kornia", "numpy", "pillow", "scikit-learn")


def train(
    run: Path,
    recipe: Recipe,
    backbone: Backbone,
    resume: bool = False,
    device: str = "auto",
    log: str | None = None,
    track: Track = no_track,
) -> None:
    """Train every fold of a run folder's `split.csv`.

    Args:
        run: a folder with `manifest.csv`, `audit.json` and `split.csv`.
        recipe: how to train.
        backbone: the pretrained network to start from.
        resume: go on with what an earlier, interrupted call left; the result is that of an unbroken one.
        device: `auto` (a GPU where there is one) or `cpu`.
        log: also log to `tensorboard` or `mlflow`.
        track: how progress is shown.

    Raises:
        RunFolderError: the folder was trained before and `resume` is not given, or with other settings.
        DatasetError: a photo vanished or changed since the audit.
    """
    _keep_freed_memory()
    rows = manifest.read(run / artifacts.MANIFEST)
    split = splits.read(run / artifacts.SPLIT, rows)
    facts = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit PHOTOS --out RUN` first")
    labels = sorted({row.label for row in rows})
    preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
    config = {
        "spectraderm": metadata.version("spectraderm"),
        "recipe": recipe.model_dump(),
        "backbone": backbone.source,
        "backbone_name": backbone.name,
        "backbone_license": backbone.license,
        "labels": labels,
        "display_names": {label: manifest.display_name(label) for label in labels},
        "preprocessing": preprocessing.to_hub(),
        "protocol": split.protocol,
        "folds": [{"fold": fold.name, "seed": fold.seed} for fold in split.folds],
        "split_sha256": artifacts.sha256((run / artifacts.SPLIT).read_bytes()),
        "photos": facts["root"],
    }
    _claim(run, config, resume)
    accelerator = _accelerator(run, device, log)
    artifacts.write_json(run / artifacts.ENVIRONMENT, _environment(accelerator))

    cache = run / artifacts.CACHE
    pixels = dataset.read_pixels(Path(facts["root"]), rows, preprocessing, cache, track)
    network = _fresh(backbone, recipe, labels, accelerator)
    normalise = Normalise(preprocessing).to(accelerator.device)
    features = None
    if not recipe.train_backbone or recipe.head_epochs:
        key = dataset.digest([row.sha256 for row in rows] + [backbone.source], preprocessing)
        width = feature_width(network.config)
        features = dataset.compute_features(pixels, key, width, lambda x: network.features(normalise(x)), cache, track)
    if features is not None and not recipe.train_backbone:
        artifacts.write_array(run / artifacts.FEATURES, features.astype(np.float16))
    targets = np.array([labels.index(row.label) for row in rows])
    groups = np.array([row.photo_group for row in rows])
    trainer = _Trainer(recipe, pixels, features, targets, groups, normalise, accelerator, track)
    for fold in split.folds:
        folder = artifacts.fold_folder(run, fold.name)
        if (folder / artifacts.LOGITS).is_file():
            continue
        torch.manual_seed(fold.seed)
        network = _fresh(backbone, recipe, labels, accelerator)
        sides = [fold.splits[row.path] for row in rows]
        logits = trainer.train(network, sides, fold.seed, folder)
        if recipe.train_backbone:
            artifacts.write_array(folder / artifacts.FEATURES, trainer.features_of(network).astype(np.float16))
        wrong = outputs.surest_errors(logits, targets, np.array(sides) == "test")
        outputs.write_heatmaps(folder / artifacts.HEATMAPS, wrong, logits, trainer.evidence_of(network, wrong))
        outputs.write_logits(folder / artifacts.LOGITS, rows, sides, labels, logits)
        (folder / artifacts.STATE).unlink(missing_ok=True)
        shutil.rmtree(folder / _HEAD, ignore_errors=True)
    accelerator.end_training()


def restore(run: Path, backbone: Backbone) -> tuple[SkinResNet, Preprocessing]:
    """The final model of a trained run folder, in eval mode on the CPU, and its preprocessing."""
    config = read_config(run)
    recipe = Recipe.model_validate(config["recipe"])
    network = build(backbone, recipe.head, config["labels"])
    network.train(False)
    trained = network if recipe.train_backbone else network.classifier
    loop.load_weights(artifacts.fold_folder(run, artifacts.FINAL) / artifacts.CHECKPOINT, trained)
    return network, Preprocessing.from_hub(config["preprocessing"])


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a trained run folder."""
    return artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")


@dataclass(frozen=True)
class _Trainer:
    """What all folds share: the recipe, and of all photos pixels, features (where used), class numbers and groups."""

    recipe: Recipe
    pixels: Pixels
    features: Floats | None
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    normalise: Normalise
    accelerator: Accelerator
    track: Track

    def train(self, network: SkinResNet, sides: Sequence[str], seed: int, folder: Path) -> Floats:
        """Train the head on features, or all layers on pixels after that; the logits of all photos."""

        def on_features(batch: Tensor) -> Tensor:
            return cast("Tensor", network.classifier(batch.to(self.accelerator.device)))

        def on_pixels(batch: Tensor) -> Tensor:
            return cast("Tensor", network.classifier(network.features(self.normalise(batch))))

        def on_changed_pixels(batch: Tensor) -> Tensor:
            return on_pixels(change(batch.to(self.accelerator.device)))

        def log(row: dict[str, float]) -> None:
            values = {f"{folder.name}/{name}": value for name, value in row.items()}
            self.accelerator.log(values, step=int(row["epoch"]))

        recipe = self.recipe
        train, val = (np.array([i for i, side in enumerate(sides) if side == name]) for name in ("train", "val"))
        about = loop.Photos(self.targets, self.groups, train, val)
        head = {"params": list(network.classifier.parameters()), "lr": recipe.learning_rate}
        if self.features is not None:
            task = loop.Task(network.classifier, [head], self.features, on_features, on_features, about)
            if not recipe.train_backbone:
                loop.fit(task, recipe, seed, folder, self.accelerator, self.track, log)
                return task.logits()
            if not (folder / artifacts.STATE).is_file():
                loop.fit(task, recipe.head_first(), seed, folder / _HEAD, self.accelerator, no_track, _keep_quiet)
        nn.Module.to(network, memory_format=torch.channels_last)  # type: ignore[call-overload]
        change = Augment(recipe.augment, recipe.train_size or recipe.image_size)
        forward = on_changed_pixels if recipe.augment else on_pixels
        rate = recipe.backbone_learning_rate or recipe.learning_rate
        layers = {"params": list(network.resnet.parameters()), "lr": rate}
        task = loop.Task(network, [layers, head], self.pixels, forward, on_pixels, about)
        loop.fit(task, recipe, seed, folder, self.accelerator, self.track, log)
        return task.logits()

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.targets.max()) + 1

    def features_of(self, network: SkinResNet) -> Floats:
        """Features of all photos by a network whose layers were trained."""
        return in_batches(self.pixels, lambda batch: network.features(self.normalise(batch)))

    def evidence_of(self, network: SkinResNet, rows: npt.NDArray[np.int64]) -> Floats:
        """Class activation maps of some photos, `float32[m, classes, h, w]`."""
        if not len(rows):
            return np.empty((0, self.classes, 1, 1), np.float32)
        return in_batches(
            self.pixels[rows], lambda batch: network.evidence(network.feature_maps(self.normalise(batch)))
        )


def _fresh(backbone: Backbone, recipe: Recipe, labels: list[str], accelerator: Accelerator) -> SkinResNet:
    """A network with a new head; its norms keep their statistics, for a few hundred photos would blur them."""
    network = build(backbone, recipe.head, labels)
    network.train(False)
    nn.Module.to(network, accelerator.device)
    return network


def _keep_quiet(row: dict[str, float]) -> None:
    """The head's first training is not logged."""


def _claim(run: Path, config: dict[str, Any], resume: bool) -> None:
    """Write the run's config, or make sure that the one that is there says the same."""
    path = run / artifacts.CONFIG
    if not path.is_file():
        artifacts.write_json(path, config)
        return
    if not resume:
        raise RunFolderError(f"{run} was trained in before", "Add --resume to go on, or give another --out")
    before = read_config(run)
    changed = [key for key in config if before.get(key) != config[key]]
    if changed:
        raise RunFolderError(f"{run} was trained with another {', '.join(changed)}", "Give another --out")


def _accelerator(run: Path, device: str, log: str | None) -> Accelerator:
    try:
        accelerator = Accelerator(cpu=device == "cpu", log_with=log, project_dir=run / "log" if log else None)
        if log:
            accelerator.init_trackers(run.name)
    except (ValueError, ImportError) as error:
        raise MissingExtra(f"the log {log!r} ({error})", "track") from error
    return accelerator


def _environment(accelerator: Accelerator) -> dict[str, Any]:
    return {
        "command": " ".join(["spectraderm", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(accelerator.device),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them after every layer: 1.6 times the speed on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD
        libc.mallopt(-2, 1 << 26)  # M_TOP_PAD
    except (OSError, AttributeError):
        pass  # another C library: nothing is lost but time
