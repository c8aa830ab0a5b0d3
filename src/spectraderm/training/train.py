"""Split + recipe + backbone -> a run folder's checkpoints, histories, and the logits of every photo in every fold."""

import ctypes
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from spectraderm import artifacts
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.errors import MissingExtra, RunFolderError
from spectraderm.preprocessing import Preprocessing
from spectraderm.progress import Track, no_track
from spectraderm.training import dataset, loop, outputs, store
from spectraderm.training.config import Recipe
from spectraderm.training.features import of_backbone
from spectraderm.training.fold import HEAD, KINDS, Trainer, copied_rows, fresh
from spectraderm.training.model import Backbone, Normalise, SkinResNet, build

_PACKAGES = ("spectraderm", "torch", "transformers", "accelerate", "kornia", "numpy", "pillow", "scikit-learn")


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
    _keep_freed_memory()
    rows = manifest.read(run / artifacts.MANIFEST)
    split = splits.read(run / artifacts.SPLIT, rows)
    facts = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit PHOTOS --out RUN` first")
    labels = sorted({row.label for row in rows})
    preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
    config = {
        "spectraderm": metadata.version("spectraderm"),
        "recipe": recipe.model_dump(mode="json"),
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

    todo = [fold for fold in split.folds if not (artifacts.fold_folder(run, fold.name) / artifacts.LOGITS).is_file()]
    if todo:
        pixels = dataset.Decoded(Path(facts["root"]), rows, preprocessing, run / artifacts.CACHE)
        kept = (store.shared_folder() if shared else None) or run / artifacts.CACHE
        trainer = _prepare(recipe, backbone, rows, pixels, preprocessing, kept, accelerator, track)
        if trainer.features is not None and not recipe.train_backbone:
            artifacts.write_array(run / artifacts.FEATURES, trainer.features.astype(np.float16))
        for fold in todo:
            sides = [fold.splits[row.path] for row in rows]
            _train_fold(artifacts.fold_folder(run, fold.name), trainer, backbone, rows, sides, fold.seed)
        pixels.close()
    accelerator.end_training()


def _prepare(
    recipe: Recipe,
    backbone: Backbone,
    rows: list[manifest.Row],
    pixels: dataset.Decoded,
    preprocessing: Preprocessing,
    kept: Path,
    accelerator: Accelerator,
    track: Track,
) -> Trainer:
    """What all folds share, with the features of frozen layers, which are kept in the folder `kept`."""
    labels = sorted({row.label for row in rows})
    groups = np.array([row.photo_group for row in rows])
    targets = np.array([labels.index(row.label) for row in rows])
    normalise = Normalise(preprocessing).to(accelerator.device)
    if recipe.train_backbone and not recipe.head_epochs:
        return Trainer(recipe, pixels.all(track), None, None, None, targets, groups, normalise, accelerator, track)
    photos = [row.sha256 for row in rows]
    seen = of_backbone(backbone, recipe, pixels, photos, preprocessing, normalise, kept, track)
    features, copies = seen.averaged(recipe.views), None
    if recipe.train_backbone:
        return Trainer(recipe, pixels.all(track), features, None, None, targets, groups, normalise, accelerator, track)
    if recipe.head == "discriminant":
        copies = seen.copies(KINDS, copied_rows(groups))
    return Trainer(recipe, pixels, features, copies, seen.frozen, targets, groups, normalise, accelerator, track)


def _train_fold(
    folder: Path, trainer: Trainer, backbone: Backbone, rows: list[manifest.Row], sides: list[str], seed: int
) -> None:
    """Train one fold and write what it leaves, its logits last."""
    recipe, labels = trainer.recipe, sorted({row.label for row in rows})
    torch.manual_seed(seed)
    network = fresh(backbone, recipe, labels, trainer.accelerator)
    answers = trainer.train(network, sides, seed, folder)
    if recipe.train_backbone:
        artifacts.write_array(folder / artifacts.FEATURES, answers.features.astype(np.float16))
    wrong = outputs.surest_errors(answers.logits, trainer.targets, np.array(sides) == "test")
    evidence = trainer.evidence_of(network, answers.frozen, wrong)
    outputs.write_heatmaps(folder / artifacts.HEATMAPS, wrong, answers.logits, evidence)
    outputs.write_logits(folder / artifacts.LOGITS, rows, sides, labels, answers.logits)
    (folder / artifacts.STATE).unlink(missing_ok=True)
    shutil.rmtree(folder / HEAD, ignore_errors=True)


def restore(run: Path, backbone: Backbone, fold: str = artifacts.FINAL) -> tuple[SkinResNet, Preprocessing]:
    """The model of a fold of a trained run folder, in eval mode on the CPU, and its preprocessing."""
    config = read_config(run)
    recipe = Recipe.model_validate(config["recipe"])
    network = build(backbone, recipe, config["labels"])
    network.train(False)
    trained = network if recipe.train_backbone else network.classifier
    loop.load_weights(artifacts.fold_folder(run, fold) / artifacts.CHECKPOINT, trained)
    return network, Preprocessing.from_hub(config["preprocessing"])


def read_config(run: Path) -> dict[str, Any]:
    """The settings of a trained run folder."""
    return artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")


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
