"""Split + recipe + backbone -> a run folder's checkpoints, histories, and the logits of every photo in every fold."""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.core.progress import Track, no_track
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import checkpoint as state
from spectraderm.training import dataset, environment, outputs
from spectraderm.training import distributed as processes
from spectraderm.training import feature_cache as store
from spectraderm.training.distributed import Team
from spectraderm.training.features import of_backbone
from spectraderm.training.fold import HEAD, KINDS, Trainer, augmented_rows
from spectraderm.training.network import Backbone, Normalise, SkinResNet, build
from spectraderm.training.optimising import dtype_of
from spectraderm.training.recipe import Recipe
from spectraderm.training.weights import load_weights


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

    Several processes that a launcher started train the layers of each fold together; only the first one writes, and
    the others leave the program at the end.

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
    environment.keep_freed_memory()
    team = processes.start(run, device, log)
    with team.one_voice():
        rows = manifest.read(run / artifacts.MANIFEST)
        split = splits.read(run / artifacts.SPLIT, rows)
        facts = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit PHOTOS --out RUN` first")
        if team.first:
            _claim(run, _config(run, recipe, backbone, rows, split, facts["root"]), resume)
            artifacts.write_json(
                run / artifacts.ENVIRONMENT, environment.facts(team, dtype_of(recipe.precision, team.device))
            )
            for logits in run.glob(f"folds/*/{artifacts.LOGITS}"):  # of a fold that was killed when it was done
                _tidy(logits.parent)
        todo = [one for one in split.folds if not (artifacts.fold_folder(run, one.name) / artifacts.LOGITS).is_file()]
        team.wait()
        if todo:
            kept = (store.shared_folder() if shared else None) or run / artifacts.CACHE
            preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
            pixels = dataset.Decoded(Path(facts["root"]), rows, preprocessing, run / artifacts.CACHE, team.first)
            trainer = _prepare(recipe, backbone, rows, pixels, preprocessing, kept, team, track)
            _train_folds(run, trainer, backbone, rows, todo)
            pixels.close()
        team.wait()
    team.end()


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
        "split_sha256": artifacts.sha256((run / artifacts.SPLIT).read_bytes()),
        "photos": photos,
    }


def _prepare(
    recipe: Recipe,
    backbone: Backbone,
    rows: list[manifest.Row],
    pixels: dataset.Decoded,
    preprocessing: Preprocessing,
    kept: Path,
    team: Team,
    track: Track,
) -> Trainer:
    """What all folds share; in the first process with the features of frozen layers, kept in the folder `kept`."""
    labels = sorted({row.label for row in rows})
    groups = np.array([row.photo_group for row in rows])
    targets = np.array([labels.index(row.label) for row in rows])
    normalise = Normalise(preprocessing).to(team.device)
    photos = [row.sha256 for row in rows]
    features = copies = frozen = None
    if team.first and (recipe.head_epochs or not recipe.train_backbone):
        seen = of_backbone(backbone, recipe, pixels, photos, preprocessing, normalise, kept, track)
        features = seen.averaged(recipe.test_transforms)
        if not recipe.train_backbone:
            frozen = seen.frozen
            copies = seen.copies(KINDS, augmented_rows(groups)) if recipe.head == "discriminant" else None
    if team.first and recipe.train_backbone:
        pixels.all(track)
    team.wait()
    shown = track if team.first else no_track
    return Trainer(
        recipe, pixels, photos, features, copies, frozen, targets, groups, preprocessing, normalise, team, shown
    )


def _train_folds(
    run: Path, trainer: Trainer, backbone: Backbone, rows: list[manifest.Row], folds: list[splits.Fold]
) -> None:
    """Train the layers of these folds in all processes; heads on frozen layers in the first one, while others wait."""
    if not trainer.recipe.train_backbone:
        if not trainer.team.first:
            return
        assert trainer.features is not None
        artifacts.write_array(run / artifacts.FEATURES, trainer.features.astype(np.float16))
    for fold in folds:
        sides = [fold.splits[row.path] for row in rows]
        _train_fold(artifacts.fold_folder(run, fold.name), trainer, backbone, rows, sides, fold.seed)


def _train_fold(
    folder: Path, trainer: Trainer, backbone: Backbone, rows: list[manifest.Row], sides: list[str], seed: int
) -> None:
    """Train one fold and write what it leaves, its logits last."""
    recipe, labels = trainer.recipe, sorted({row.label for row in rows})
    torch.manual_seed(seed)
    network = build(backbone, recipe, labels)
    network.train(False)  # its norms keep their statistics, for a few hundred photos would blur them
    nn.Module.to(network, trainer.team.device)
    answers = trainer.train(network, sides, seed, folder)
    if answers is None:
        return
    if recipe.train_backbone:
        artifacts.write_array(folder / artifacts.FEATURES, answers.features.astype(np.float16))
    wrong = outputs.surest_errors(answers.logits, trainer.targets, np.array(sides) == "test")
    evidence = trainer.evidence_of(network, answers.frozen, wrong)
    outputs.write_heatmaps(folder / artifacts.HEATMAPS, wrong, answers.logits, evidence)
    outputs.write_logits(folder / artifacts.LOGITS, rows, sides, labels, answers.logits)
    _tidy(folder)


def _tidy(folder: Path) -> None:
    """Delete what only a fold that is under way needs."""
    state.forget(folder)
    shutil.rmtree(folder / HEAD, ignore_errors=True)


def restore(run: Path, backbone: Backbone, fold: str = artifacts.FINAL) -> tuple[SkinResNet, Preprocessing]:
    """The model of a fold of a trained run folder, in eval mode on the CPU, and its preprocessing."""
    config = read_config(run)
    recipe = Recipe.model_validate(config["recipe"])
    network = build(backbone, recipe, config["labels"])
    network.train(False)
    trained = network if recipe.train_backbone else network.classifier
    load_weights(artifacts.fold_folder(run, fold) / artifacts.CHECKPOINT, trained)
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
