"""The stages from photos to a model folder, and all of them in one go."""

from pathlib import Path
from typing import Any

from spectraderm.api.given import AnyPath, AnyRun, Photos, all_photos, folder_of, path_of, several, stages
from spectraderm.api.options import options_of
from spectraderm.core import DEFAULT_BACKBONE, DEFAULT_RECIPE, Device, Log, Protocol
from spectraderm.core.arguments import checked
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import Run

__all__ = ["audit", "export", "run", "split", "train"]


@checked
def run(
    photos: Photos,
    out: AnyPath | None = None,
    *,
    recipe: AnyPath = DEFAULT_RECIPE,
    backbone: AnyPath = DEFAULT_BACKBONE,
    split: Protocol = "grouped",
    folds: int = 0,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    device: Device = "auto",
    resume: bool = False,
    log: Log | None = None,
    crops: bool | None = None,
    other: AnyPath | None = None,
    track: Track = no_track,
) -> Run:
    """Do all of it: audit, split, train, calibrate, evaluate, export. The model is then in `out/model`.

    Args:
        photos: a folder of `<split>/<class>/*` or `<class>/*`; of several each is a source. Nothing in it is changed.
        out: the run folder; by default `runs/<photos>-<recipe>-<split>`.
        recipe: `discriminant`, `notebook`, `finetune`, or a TOML file.
        backbone: a Hub id, a local folder in Hub layout, or `open-nsfw-thin`, which needs no network.
        split: `grouped`: copies never cross. `original`: the folders as they came, copies and all. `deduplicated`: the
            given test folder, training folders without copies of it. `by-source`: each source is left out once.
        folds: of `grouped` how many, or 1 for one held-out test set; of `original` how many draws of validation; 0 is 5
            of `grouped`, else 1.
        seed: of everything random.
        epochs: instead of the recipe's.
        batch_size: instead of the recipe's.
        lr: the learning rate of the head, instead of the recipe's.
        patience: how many epochs without gain end a training, instead of the recipe's.
        device: where training runs.
        resume: go on with what was interrupted.
        log: also log curves, settings and scores, to `tensorboard`, `mlflow` or `wandb`, into `out/log`.
        crops: look for crops and zooms of photos, which is slow; by default of up to 5,000 photos.
        other: a folder of photos of none of the classes, to be refused.
        track: how progress is shown, as `with spectraderm.progress() as track`; by default not at all.

    Returns:
        The run folder: its `evaluation` has the scores, its `figures` the pictures.

    Raises:
        SpectraDermError: of any stage; what was done before it stays, and `resume` goes on from there.
    """
    folder = Path(out) if out else default_run_folder(photos, recipe, split)
    how: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "resume": resume}
    how |= {"split": split, "folds": folds, "seed": seed, "device": device, "log": log, "crops": crops}
    settings = options_of(recipe=recipe, backbone=backbone, **how)
    stages().run(all_photos(photos, other), folder, settings, track)
    return Run(folder)


@checked
def audit(
    photos: Photos,
    out: AnyPath,
    *,
    fix: bool = False,
    crops: bool | None = None,
    other: AnyPath | None = None,
    track: Track = no_track,
) -> Run:
    """Read every photo; find copies, leaks, shortcuts and flaws.

    Args:
        photos: as `run` takes them.
        out: the run folder to write manifest, findings, copies and gallery into.
        fix: also write `split.csv`, as `split(out, split="deduplicated")` does. Photos stay untouched.
        crops: look for crops and zooms of photos, which is slow; by default of up to 5,000 photos.
        other: a folder of photos of none of the classes.
        track: how progress is shown.

    Returns:
        The run folder: its `audit` has the findings, its `manifest` a row per photo.

    Raises:
        DatasetError: there is nothing to train on: no folder, no classes, no readable photo in a class.
    """
    pipeline, folder = stages(), Path(out)
    pipeline.audit(all_photos(photos, other), folder, track, look_for_crops=crops)
    if fix:
        pipeline.split(folder, "deduplicated", 0, 0)
    return Run(folder)


@checked
def split(run: AnyRun, split: Protocol = "grouped", folds: int = 0, seed: int = 0) -> Run:
    """Split an audited run folder, and prove that the split holds.

    Args:
        run: the run folder.
        split: how, as `run` takes it.
        folds: how many, as `run` takes it.
        seed: of everything random.

    Returns:
        The run folder.

    Raises:
        SplitError: the photos can't be split so.
        RunFolderError: it was not audited.
    """
    stages().split(folder_of(run), split, folds, seed)
    return Run(folder_of(run))


@checked
def train(
    run: AnyRun,
    *,
    recipe: AnyPath = DEFAULT_RECIPE,
    backbone: AnyPath = DEFAULT_BACKBONE,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    patience: int | None = None,
    device: Device = "auto",
    resume: bool = False,
    log: Log | None = None,
    track: Track = no_track,
) -> Run:
    """Train every fold of a split run folder.

    Args:
        run: the run folder.
        recipe: as `run` takes it, and so are all that follow.
        backbone: what the head is trained on.
        epochs: instead of the recipe's.
        batch_size: instead of the recipe's.
        lr: the learning rate of the head, instead of the recipe's.
        patience: how many epochs without gain end a training, instead of the recipe's.
        device: where training runs.
        resume: go on with what was interrupted.
        log: also log the training.
        track: how progress is shown.

    Returns:
        The run folder.

    Raises:
        RecipeError: a recipe, or one of its settings, is wrong.
        BackboneError: the pretrained weights can't be loaded.
        RunFolderError: it was not split, or was trained in before.
    """
    how: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "resume": resume}
    settings = options_of(recipe=recipe, backbone=backbone, device=device, log=log, **how)
    stages().train(folder_of(run), settings, track)
    return Run(folder_of(run))


@checked
def export(
    run: AnyRun,
    out: AnyPath | None = None,
    *,
    onnx_only: bool = False,
    notes: AnyPath | None = None,
    int8: bool = False,
    track: Track = no_track,
) -> dict[str, Any]:
    """Write the model folder, after measuring that it gives training's logits.

    Args:
        run: an evaluated run folder.
        out: the model folder; by default `run/model`, or `run/model-int8`.
        onnx_only: leave `model.safetensors` out.
        notes: a Markdown file to put at the end of the model card.
        int8: write another model folder, which computes in 8-bit integers.
        track: how progress is shown.

    Returns:
        What was measured: `parity`, and with `int8` the `loss` against floats.

    Raises:
        ParityError: the exported model does not give the logits that training gave.
        RunFolderError: the run is not evaluated.
    """
    measured: dict[str, Any] = stages().export(folder_of(run), path_of(out), onnx_only, path_of(notes), int8, track)
    return measured


def default_run_folder(photos: Photos, recipe: AnyPath, split: str) -> Path:
    """Where `run` writes to, where nobody says so."""
    names = "-".join(Path(each).resolve().name for each in several(photos))
    return Path("runs") / f"{names}-{Path(recipe).stem}-{split}"
