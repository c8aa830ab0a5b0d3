"""Which settings of the closed-form head hold on sources that it never saw: `python benchmarks/by_source.py --help`.

Every setting is scored at home, out of fold by photo group, and on each other source; then the choice itself is scored:
for every source the setting that is best on the mean of the others. Features are taken from the user's cache.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from spectraderm.core.files import sha256
from spectraderm.core.progress import no_track
from spectraderm.core.run import FINAL, MANIFEST, ORIGINAL, Run
from spectraderm.data import manifest
from spectraderm.evaluation.bootstrap import Booleans, group_weights
from spectraderm.images.decoding import open_photo
from spectraderm.training import lda
from spectraderm.training.backbones import load_backbone
from spectraderm.training.dataset import Decoded, Floats, Inputs, Integers, epoch_order
from spectraderm.training.feature_cache import shared_folder
from spectraderm.training.features import Features, of_backbone
from spectraderm.training.network import Normalise
from spectraderm.training.photo_augmentation import KINDS, Transform
from spectraderm.training.recipe import load

VIEWS: dict[str, tuple[Transform, ...]] = {
    "whole": ("whole",),
    "+ mirrored": ("whole", "mirrored"),
    "+ zoomed": ("whole", "zoomed"),
}
SHRINKAGE, INVARIANCE, NORMALISATION = (0.05, 0.1, 0.2, 0.4), (1.0, 3.0, 10.0), (0.0, 0.5, 1.0)
BEST = ("statistics", 0.2, 3.0, 0.5, "whole")
"""The recipe `discriminant`: pooling, shrinkage, invariance, normalisation, view."""
Setting = tuple[str, float, float, float, str]


@dataclass(frozen=True)
class Photos:
    """Photos of a source: features by view, classes, and photo groups or, where these are not known, files."""

    features: dict[str, Floats]
    labels: Integers
    groups: Integers

    def accuracy(self, view: str, weights: lda.Reals, bias: lda.Reals, rows: Integers | None = None) -> float:
        """The share right, every photo group counted once."""
        rows = np.arange(len(self.labels)) if rows is None else rows
        right = (self.features[view][rows] @ weights.T + bias).argmax(1) == self.labels[rows]
        return float(np.average(right, weights=group_weights(self.groups[rows])))


class Benchmark:
    """The photos of a run and of other sources, as features of one pooling."""

    def __init__(self, run: Run, sources: dict[str, Path], pooling: str) -> None:
        self.rows = manifest.read(run.path(MANIFEST))
        self.classes = sorted({row.label for row in self.rows})
        recipe, backbone = load("discriminant", {"pooling": pooling}), load_backbone(run.config["backbone_name"])
        preprocessing = recipe.preprocessing(backbone.mean, backbone.std)
        labels = np.array([self.classes.index(row.label) for row in self.rows])
        groups = np.array([row.photo_group for row in self.rows])
        self.splits = {
            entry["fold"]: run.logits(entry["fold"]).splits
            for entry in run.config["folds"]
            if entry["fold"] not in (FINAL, ORIGINAL)
        }
        pixels = Decoded(run.photos, self.rows, preprocessing, run.path("cache"))

        def features(inputs: Inputs, names: Sequence[str]) -> Features:
            about = (inputs, names, preprocessing, Normalise(preprocessing))
            return of_backbone(backbone, recipe, *about, shared_folder() or run.path("cache"), no_track)

        own = features(pixels, [row.sha256 for row in self.rows])
        self.home = Photos({view: own.averaged(how) for view, how in VIEWS.items()}, labels, groups)
        orders = [epoch_order(groups, True, 0, number) for number in range(len(KINDS))]
        self.augmented, self.of = own.augmented(KINDS, orders), np.concatenate(orders)
        self.sources = {}
        for name, folder in sources.items():
            files = [file for label in self.classes for file in sorted((folder / label).glob("*")) if file.is_file()]
            known = np.array([self.classes.index(file.parent.name) for file in files])
            inputs = np.stack([preprocessing(open_photo(file)) for file in files])
            there = features(inputs, [sha256(file.read_bytes()) for file in files])
            self.sources[name] = Photos(
                {view: there.averaged(how) for view, how in VIEWS.items()}, known, np.arange(len(files))
            )

    def scores(
        self, invariance: float, settings: Sequence[tuple[float, float]]
    ) -> Iterator[tuple[float, float, str, dict[str, float]]]:
        """For each shrinkage and normalisation and each view the accuracy at home and on every source."""
        home = {(setting, view): [0.0, 0.0] for setting in settings for view in VIEWS}
        for splits in self.splits.values():
            statistics, tested = self._statistics(splits == "train", invariance), np.flatnonzero(splits == "test")
            weight = len(np.unique(self.home.groups[tested]))
            for setting in settings:
                head = statistics.solve(*setting)
                for view in VIEWS:
                    home[setting, view][0] += weight * self.home.accuracy(view, *head, tested)
                    home[setting, view][1] += weight
        statistics = self._statistics(np.ones(len(self.rows), bool), invariance)
        for setting in settings:
            head = statistics.solve(*setting)
            for view in VIEWS:
                right, tested_groups = home[setting, view]
                there = {name: photos.accuracy(view, *head) for name, photos in self.sources.items()}
                yield *setting, view, {"home": right / tested_groups, **there}

    def _statistics(self, chosen: Booleans, invariance: float) -> lda.Statistics:
        rows = np.flatnonzero(chosen[self.of])
        about = (self.home.labels[self.of[rows]], self.home.groups[self.of[rows]], len(self.classes))
        return lda.collect(self.augmented[rows], *about, invariance)


def main() -> None:
    """Print a line for every setting, best mean over sources first, and what choosing among them is worth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of the recipe discriminant, in folds by photo group")
    parser.add_argument("sources", nargs="+", help="NAME=FOLDER: class folders of another source")
    parser.add_argument("--only", action="store_true", help="vary one setting of the recipe at a time")
    arguments = parser.parse_args()
    sources = {name: Path(folder) for name, _, folder in (given.partition("=") for given in arguments.sources)}
    table: dict[Setting, dict[str, float]] = {}
    for pooling in ("statistics", "mean"):
        benchmark = Benchmark(Run(arguments.run), sources, pooling)
        for invariance in INVARIANCE if pooling == "statistics" else (BEST[2],):
            settings = list(product(SHRINKAGE, NORMALISATION) if pooling == "statistics" else [(BEST[1], BEST[3])])
            for shrinkage, normalisation, view, scores in benchmark.scores(invariance, settings):
                table[pooling, shrinkage, invariance, normalisation, view] = scores
    means = {setting: float(np.mean([scores[name] for name in sources])) for setting, scores in table.items()}
    shown = [s for s in means if not arguments.only or sum(a != b for a, b in zip(s, BEST, strict=True)) < 2]
    heads = ["pooling", "shrinkage", "invariance", "normalisation", "view", "home", *sources, "mean of sources"]
    print(f"| {' | '.join(heads)} |\n| {' | '.join(['---'] * len(heads))} |")
    for setting in sorted(shown, key=lambda setting: -means[setting]):
        values = [f"{100 * value:.1f}" for value in (*table[setting].values(), means[setting])]
        print(f"| {' | '.join([*map(str, setting), *values])} |{' <- the recipe' if setting == BEST else ''}")
    print("\nChosen on the mean of the other sources:")
    for left in sources:
        others = [name for name in sources if name != left]
        best = max(table, key=lambda setting: np.mean([table[setting][name] for name in others]))
        print(f"  {left}: {best} -> {100 * table[best][left]:.1f}; the recipe {100 * table[BEST][left]:.1f}")


if __name__ == "__main__":
    main()
