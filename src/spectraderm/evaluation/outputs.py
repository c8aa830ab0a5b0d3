"""What models make of photos: of all photos of a run, by fold, or of photos from elsewhere or one's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from spectraderm.core import other_of
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import Run, measuring
from spectraderm.evaluation.bootstrap import Booleans, Integers, Judged, Labelled, Reals, Scored, group_weights
from spectraderm.inference import calibration
from spectraderm.inference.calibration import Calibration, softmax


@dataclass(frozen=True)
class Outputs(Labelled):
    """What a model makes of n photos.

    Attributes:
        logits: `float64[n, classes]`.
        novelty: `float64[n]`, against the photos that it was trained on; NaN for those themselves.
        usable: which photos the quality gate lets pass, `bool[n]`, or True; of others the model is not asked, and
            logits and novelty are anything.
        sources: who took each photo, `str[n]`, where every source counts alike; None where photo groups do.
    """

    logits: Reals
    novelty: Reals
    usable: Booleans | np.bool_ = np.True_
    sources: npt.NDArray[np.str_] | None = None

    @property
    def one_each(self) -> Self:
        """The first photo of every photo group: as independent of each other as a test wants them."""
        return self.take(np.sort(np.unique(self.groups, return_index=True)[1]))

    def judged(self, fitted: Calibration) -> Judged:
        """What these settings make of the photos."""
        found = fitted.judge(self.logits, self.novelty, self.other)
        scored = (self.labels, self.groups, found.probabilities)
        return Judged(*scored, other=self.other, sets=found.sets, verdicts=found.verdicts)

    @property
    def rows_of_sources(self) -> dict[str, Booleans]:
        """Which photos are of each source, `bool[n]`, by its name."""
        sources = self.sources
        return {} if sources is None else {name: sources == name for name in dict.fromkeys(sources.tolist())}

    @property
    def weights(self) -> Reals:
        """How much each photo counts, `float64[n]`: photo groups alike and, where there are sources, these alike."""
        result = group_weights(self.groups)
        for rows in self.rows_of_sources.values():
            once = group_weights(self.groups[rows])
            result[rows] = once / once.sum()
        return result


@dataclass(frozen=True, kw_only=True)
class FoldOutputs(Outputs):
    """What one fold's model makes of the photos of a run, in the manifest's order.

    Attributes:
        fold: its name; `seed` is its seed.
        paths: relative to the folder of photos.
        splits: `train`, `val`, `calibration`, `test` or `excluded`, for this fold.
    """

    fold: str
    seed: int
    paths: npt.NDArray[np.str_]
    splits: npt.NDArray[np.str_]

    def of(self, split: str) -> Self:
        """The photos of one split."""
        return self.take(self.splits == split)

    def scored(self) -> Scored:
        """Labels, probabilities before calibration, and groups of the photos of the classes."""
        own = self.own
        return Scored(own.labels, own.groups, softmax(own.logits), other=self.other)


def pool(folds: Sequence[FoldOutputs], split: str = "test") -> FoldOutputs:
    """The photos of a split of several folds as one, under the first one's name."""
    return FoldOutputs.joined([fold.of(split) for fold in folds])


def read_outputs(run: Run) -> tuple[list[FoldOutputs], list[FoldOutputs]]:
    """The outputs of every fold, the final one first; and those whose test photos are the score, see `crossing`.

    Raises:
        RunFolderError: a fold has none yet, or they are damaged or of other photos than the first one's.
    """
    config = run.config
    folds: list[FoldOutputs] = []
    for entry in config["folds"]:
        name, logits = entry["fold"], run.logits(entry["fold"])
        if folds and not np.array_equal(logits.paths, folds[0].paths):
            raise RunFolderError(f"{run.fold(name).logits} is of other photos than fold {folds[0].fold}", "Train again")
        features, new = run.features(name), logits.splits != "train"
        if len(features) != len(logits):
            counts = f"{len(features)} photos and logits of {len(logits)}"
            raise RunFolderError(f"{run.folder} has features of {counts}", "Train again")
        novelties = np.full(len(logits), np.nan)
        novelties[new] = calibration.novelty(features[new], features[references(logits.splits, logits.groups)])
        arrays, other = (logits.targets, logits.groups, logits.values, novelties), other_of(logits.classes)
        about = {"fold": name, "seed": entry["seed"], "other": other}
        folds.append(FoldOutputs(*arrays, paths=logits.paths, splits=logits.splits, **about))
    return folds, crossing(config["protocol"], folds)


def references(splits: npt.NDArray[np.str_], groups: Integers) -> Integers:
    """The training photos that novelty is measured against, `int64[m]`: the first of every photo group."""
    trained = np.flatnonzero(splits == "train")
    _, first = np.unique(groups[trained], return_index=True)
    return trained[np.sort(first)].astype(np.int64)


def crossing(protocol: str, folds: Sequence[FoldOutputs]) -> list[FoldOutputs]:
    """The folds whose test photos are the score: the k folds by photo group or source, or else the final one alone."""
    measured = measuring(protocol, [fold.fold for fold in folds])
    return [fold for fold in folds if fold.fold in measured] or list(folds[:1])
