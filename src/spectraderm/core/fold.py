"""One fold of a run folder: where its files are, and the logits of its model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Fold:
    """Where the files of one fold are, below its folder.

    The history is a line per epoch, curves a picture of it; the state is of a training that is not done, the checkpoint
    its weights. Logits are written last: a fold that has them is done. Features are there where the backbone was
    trained, too; heatmaps are of the surest errors. A head in closed form leaves its statistics in the final fold, and
    a learning curve over the number of photos in folds that measure.
    """

    folder: Path
    history: Path
    curves: Path
    state: Path
    checkpoint: Path
    logits: Path
    features: Path
    heatmaps: Path
    statistics: Path
    learning_curve: Path


@dataclass(frozen=True)
class Logits:
    """`logits.csv` of one fold, n photos in the manifest's order.

    Attributes:
        paths, splits, labels: `str[n]`; `splits` are this fold's, `labels` the true classes.
        groups: photo groups, `int64[n]`.
        classes: the classes, in the order of the model's outputs.
        values: `float64[n, classes]`.
    """

    paths: npt.NDArray[np.str_]
    groups: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    labels: npt.NDArray[np.str_]
    classes: list[str]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """The true classes' numbers, `int64[n]`."""
        number = {label: place for place, label in enumerate(self.classes)}
        return np.array([number[label] for label in self.labels.tolist()], np.int64)
