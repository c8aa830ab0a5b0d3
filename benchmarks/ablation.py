"""What each ingredient of the recipe `discriminant` brings, at home and on other people's photos.

    python benchmarks/ablation.py RUN OUTSIDE

RUN was trained by photo with k folds from a frozen backbone; OUTSIDE is a folder of photos in folders named as RUN's
classes. Every row trains one head per fold on the fold's training photos: at home each is asked about its own test
photos, outside all are asked and their scores averaged. Photos of OUTSIDE that RUN has a copy of are left out. At home
every photo group counts once; brackets hold 95 % intervals, by photo group at home and by photo outside.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from spectraderm.core import artifacts
from spectraderm.core.resampling import interval
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.evaluation import bootstrap
from spectraderm.images.opening import open_photo
from spectraderm.images.perceptual_hash import MAX_DISTANCE, from_hex, nearest, turned_hashes
from spectraderm.images.preprocessing import Pixels
from spectraderm.inference.batch import find
from spectraderm.training import lda as discriminant
from spectraderm.training import network as model
from spectraderm.training import recipe as config
from spectraderm.training.augmentation import Transform, augmented
from spectraderm.training.dataset import Floats, epoch_order, in_batches, read_photo
from spectraderm.training.fold import KINDS
from spectraderm.training.network import Normalise, SkinResNet

SEED = 0
Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ways:
    """One row: which head, on which features, fitted on which copies, asked about which views."""

    name: str
    closed: bool = True
    statistics: bool = True
    copies: tuple[int, ...] = tuple(range(len(KINDS)))
    views: tuple[Transform, ...] = ("whole", "mirrored", "zoomed", "zoomed mirrored")


RECIPE = Ways("recipe `discriminant`")
PLAIN = Ways("logistic regression, means of the last stage, whole photos", False, False, (0,), ("whole",))
FINE = tuple(number for number, (_, coarse) in enumerate(KINDS) if not coarse)
ROWS = (
    PLAIN,
    replace(PLAIN, name="+ twelve copies", copies=RECIPE.copies),
    replace(PLAIN, name="+ closed form instead", copies=RECIPE.copies, closed=True),
    replace(PLAIN, name="+ statistics of two stages", copies=RECIPE.copies, closed=True, statistics=True),
    replace(RECIPE, name="+ four views = recipe `discriminant`"),
    replace(RECIPE, name="recipe without closed form", closed=False),
    replace(RECIPE, name="recipe without statistics", statistics=False),
    replace(RECIPE, name="recipe without copies", copies=(0,)),
    replace(RECIPE, name="recipe without coarse copies", copies=FINE),
    replace(RECIPE, name="recipe without views", views=("whole",)),
)


@dataclass(frozen=True)
class Photos:
    """Features of photos by copy `float32[copies, n, width]` and by view `float32[n, width]`, and their classes."""

    copies: Floats
    views: dict[Transform, Floats]
    targets: Integers
    groups: Integers


def main() -> None:
    """Compute the features once, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("outside", type=Path)
    given = parser.parse_args()
    settings = artifacts.read_json(given.run / artifacts.CONFIG, "Train first")
    rows = manifest.read(given.run / artifacts.MANIFEST)
    labels: list[str] = settings["labels"]
    backbone = model.load_backbone(settings["backbone_name"])
    recipe = config.load("discriminant", {"test_transforms": list(RECIPE.views)})
    network = model.build(backbone, recipe, labels)
    network.train(False)
    preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
    look = Look(network, Normalise(preprocessing))
    root = Path(artifacts.read_json(given.run / artifacts.AUDIT, "Audit first")["root"])
    pixels = np.stack([read_photo(root, row, preprocessing) for row in rows])
    targets = np.array([labels.index(row.label) for row in rows])
    home = look.at(pixels, targets, np.array([row.photo_group for row in rows]), with_copies=True)
    known = from_hex(row.phash for row in rows)
    images = [(open_photo(path), Path(path).parent.name) for path in find(str(given.outside))]
    images = [(image, name) for image, name in images if nearest(turned_hashes(image), known) > MAX_DISTANCE]
    strange = np.array([labels.index(name) for _, name in images])
    pixels = np.stack([preprocessing(image) for image, _ in images])
    outside = look.at(pixels, strange, np.arange(len(strange)), with_copies=False)
    folds = [fold for fold in splits.read(given.run / artifacts.SPLIT, rows).folds if fold.name.startswith("fold-")]
    sides = [np.array([fold.splits[row.path] for row in rows]) for fold in folds]
    table = Table("", "at home", "balanced", f"outside ({len(strange)} photos)", "balanced")
    for ways in ROWS:
        table.add_row(ways.name, *score(ways, home, outside, sides, len(labels)))
    Console(width=150).print(table)


@dataclass(frozen=True)
class Look:
    """A frozen network that computes features."""

    network: SkinResNet
    normalise: Normalise

    def at(self, pixels: Pixels, targets: Integers, groups: Integers, with_copies: bool) -> Photos:
        """Features of all copies, if asked for, and of all views."""
        kinds = KINDS if with_copies else ()
        copies = [self._features(np.stack([augmented(photo, *kind) for photo in pixels]), "whole") for kind in kinds]
        views = {view: self._features(pixels, view) for view in RECIPE.views}
        return Photos(np.stack(copies) if copies else np.empty((0, 0, 0), np.float32), views, targets, groups)

    def _features(self, pixels: Pixels, view: Transform) -> Floats:
        self.network.test_transforms = (view,)
        return in_batches(pixels, lambda batch: self.network.features(self.normalise(batch)))


def score(ways: Ways, home: Photos, outside: Photos, sides: Sequence[npt.NDArray[np.str_]], classes: int) -> list[str]:
    """Train and ask one head per fold: accuracy and balanced accuracy at home, then outside, with intervals."""
    width = home.copies.shape[2]
    last = width // 3  # of means and deviations of two stages, the second of which is twice as wide
    columns = np.arange(width) if ways.statistics else np.arange(width // 6, width // 6 + last)
    right, theirs = np.zeros(len(home.targets)), []
    for number, side in enumerate(sides):
        train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
        chosen = [train[epoch_order(home.groups[train], True, SEED + number, copy)] for copy in ways.copies]
        parts = zip(ways.copies, chosen, strict=True)
        features = np.concatenate([home.copies[copy][rows][:, columns] for copy, rows in parts])
        weights, bias = fit(ways.closed, features, home.targets[np.concatenate(chosen)], classes)
        seen = [np.mean([photos.views[view][:, columns] for view in ways.views], 0) for photos in (home, outside)]
        guesses = [(part @ weights.T + bias).argmax(1) for part in seen]
        right[test] = guesses[0][test] == home.targets[test]
        theirs.append(guesses[1] == outside.targets)
    return [*told(right, home), *told(np.mean(theirs, 0), outside)]


def fit(closed: bool, features: Floats, targets: Integers, classes: int) -> tuple[Reals, Reals]:
    """A linear head `float64[classes, width]`, `float64[classes]`, by either way."""
    if closed:
        alone = np.arange(len(targets))  # `invariance` came later
        return discriminant.fit(features, targets, alone, classes, config.load("discriminant").shrinkage)
    weights = np.bincount(targets, minlength=classes)[targets] ** -0.5
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300, tol=1e-3))
    head.fit(features, targets, logisticregression__sample_weight=weights / weights.mean() * 1159 / len(targets))
    scaler, regression = head[0], head[1]
    scaled = regression.coef_ / scaler.scale_
    return scaled, regression.intercept_ - scaled @ scaler.mean_


def told(right: Reals, photos: Photos) -> tuple[str, str]:
    """Accuracy and balanced accuracy of rightness `float[n]`, each with its interval."""

    def measure(drawn: Reals) -> dict[str, Reals]:
        of_class = [photos.targets == number for number in np.unique(photos.targets)]
        recalls = [(drawn[:, own] @ right[own]) / drawn[:, own].sum(1) for own in of_class]
        return {"accuracy": drawn @ right / drawn.sum(1), "balanced": np.nanmean(recalls, 0)}

    found = bootstrap.resample(measure, bootstrap.weights(photos.groups, SEED, by_group=True))
    parts = [interval(values) for values in found.values()]
    accuracy, balanced = (
        " ".join(f"{100 * (part[key] or 0):.1f}" for key in ("value", "low", "high")) for part in parts
    )
    return spaced(accuracy), spaced(balanced)


def spaced(numbers: str) -> str:
    """`a b c` as `a (b-c)`."""
    value, low, high = numbers.split()
    return f"{value} ({low}-{high})"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
