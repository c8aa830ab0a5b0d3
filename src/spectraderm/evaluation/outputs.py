"""A trained run folder's logits and features, fold by fold, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals
from spectraderm.inference.calibration import novelty

_TRAIN_AGAIN = "Run `spectraderm train RUN --resume`"


@dataclass(frozen=True)
class Outputs:
    """What one fold's model says of n photos, in the manifest's order.

    Attributes:
        fold: its name; `seed` is its seed.
        paths: relative to the folder of photos.
        splits: `train`, `val`, `calibration`, `test` or `excluded`, for this fold.
        labels, groups: class numbers and photo groups, `int64[n]`.
        logits: `float64[n, classes]`.
        novelty: `float64[n]`, against the training photos of this fold; NaN for those themselves.
    """

    fold: str
    seed: int
    paths: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]
    labels: Integers
    groups: Integers
    logits: Reals
    novelty: Reals

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Booleans | Integers) -> "Outputs":
        """The same for some photos only."""
        own = (self.paths, self.splits, self.labels, self.groups, self.logits, self.novelty)
        return Outputs(self.fold, self.seed, *(array[rows] for array in own))  # type: ignore[arg-type]

    def of(self, split: str) -> "Outputs":
        """The photos of one split."""
        return self.take(self.splits == split)


def read(run: Path, config: Mapping[str, Any]) -> list[Outputs]:
    """The outputs of every fold, the final one first.

    Raises:
        RunFolderError: a fold has none yet, or they are damaged or of other photos than the first one's.
    """
    folds = [_read_fold(run, entry["fold"], entry["seed"], config["labels"]) for entry in config["folds"]]
    for fold in folds[1:]:
        if not np.array_equal(fold.paths, folds[0].paths):
            path = artifacts.fold_folder(run, fold.fold) / artifacts.LOGITS
            raise RunFolderError(f"{path} is of other photos than fold {folds[0].fold}", "Train again")
    return folds


def described(run: Path, paths: npt.NDArray[np.str_]) -> dict[str, dict[str, str]]:
    """The manifest's lines by path. Raises `RunFolderError` where it does not name these photos, in this order."""
    path = run / artifacts.MANIFEST
    rows = artifacts.read_csv(path, ("path",), "Run `spectraderm audit PHOTOS --out RUN` first")
    if [row["path"] for row in rows] != paths.tolist():
        raise RunFolderError(f"{path} is not of the photos that were trained on", "Train again, into a new run folder")
    return {row["path"]: row for row in rows}


def pool(parts: list[Outputs]) -> Outputs:
    """Several folds' photos as one, under the first one's name."""
    own = [(p.paths, p.splits, p.labels, p.groups, p.logits, p.novelty) for p in parts]
    return Outputs(parts[0].fold, parts[0].seed, *(np.concatenate(arrays) for arrays in zip(*own, strict=True)))


def references(splits: npt.NDArray[np.str_], groups: Integers) -> Integers:
    """The training photos that novelty is measured against, `int64[m]`: the first of every photo group."""
    trained = np.flatnonzero(splits == "train")
    _, first = np.unique(groups[trained], return_index=True)
    return trained[np.sort(first)].astype(np.int64)


def features(run: Path, fold: str) -> npt.NDArray[np.float16]:
    """Features `float16[n, channels]` of all photos: the fold's own, or those of the frozen backbone."""
    own = artifacts.fold_folder(run, fold) / artifacts.FEATURES
    path = own if own.is_file() else run / artifacts.FEATURES
    return artifacts.read_array(path, "Train again, into a new run folder")


def _read_fold(run: Path, fold: str, seed: int, labels: list[str]) -> Outputs:
    path = artifacts.fold_folder(run, fold) / artifacts.LOGITS
    names = [f"logit:{label}" for label in labels]
    number = {label: i for i, label in enumerate(labels)}
    records = artifacts.read_csv(path, [*artifacts.LOGIT_COLUMNS, *names], _TRAIN_AGAIN)
    if not records:
        raise RunFolderError(f"{path} is empty", "Train again")
    try:
        logits = np.array([[float(record[name]) for name in names] for record in records])
        true = np.array([number[record["label"]] for record in records])
        groups = np.array([int(record["photo_group"]) for record in records])
    except (KeyError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error!r})", "Train again") from error
    if not np.isfinite(logits).all():
        raise RunFolderError(f"{path} has logits that are no numbers: training diverged", "Lower the learning rate")
    splits = np.array([record["split"] for record in records])
    known = features(run, fold)
    if len(known) != len(records):
        raise RunFolderError(f"{run} has features of {len(known)} photos and logits of {len(records)}", "Train again")
    new = splits != "train"
    strange = np.full(len(records), np.nan)
    strange[new] = novelty(known[new], known[references(splits, groups)])
    paths = np.array([record["path"] for record in records])
    return Outputs(fold, seed, paths, splits, true, groups, logits, strange)
