"""Features of photos by frozen layers: each look at a photo once, for all folds, recipes and runs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import looks
from spectraderm.training.augmentation import Augmentation, Transform
from spectraderm.training.dataset import AHEAD, Floats, Inputs
from spectraderm.training.feature_cache import Store
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.looks import Look
from spectraderm.training.network import Backbone, Normalise, SkinResNet, build, feature_width
from spectraderm.training.recipe import Recipe

Rows = npt.NDArray[np.int64]
_FILE = 256
"""Photos whose features go into one file."""


@dataclass(frozen=True)
class Features:
    """Features of all photos of a run, by layers that don't change.

    Attributes:
        network: how maps are pooled.
        frozen: the layers.
        pixels: of all photos.
        photos: the SHA-256 of each; files with the same bytes are looked at once.
        preprocessing: by which the pixels were made.
        normalise: what comes after it.
        columns: which of the network's features are given; all of them are kept.
        root: where they are kept.
        track: how progress is shown.
    """

    network: SkinResNet
    frozen: Frozen
    pixels: Inputs
    photos: Sequence[str]
    preprocessing: Preprocessing
    normalise: Normalise
    columns: slice
    root: Path
    track: Track

    def of(self, wanted: Sequence[tuple[Look, Rows]], title: str) -> list[Floats]:
        """For each look at m rows of all photos, `float32[m, columns]`. Raises what `pixels` raise."""
        asked = [_Asked(self._store(look), [self.photos[row] for row in rows], self.columns) for look, rows in wanted]
        jobs = [
            (one, look, batch, np.array([rows[one.lacking[photo][0]] for photo in batch]))
            for one, (look, rows) in zip(asked, wanted, strict=True)
            for batch in one.batches(self.frozen.batch)
        ]
        made = in_order(lambda job: job[1].inputs(self.pixels[job[3]]), jobs, 1, AHEAD)
        for (one, _, batch, _), inputs in self.track(made, title, len(jobs)) if jobs else ():
            with torch.inference_mode():
                seen = self.frozen.pooled(self.network, inputs).float().cpu().numpy()
            one.add(batch, seen)
        return [one.features for one in asked]

    def averaged(self, views: Sequence[Transform]) -> Floats:
        """Of all photos `float32[n, columns]`, averaged over views."""
        rows = np.arange(len(self.photos))
        first, *others = self.of([(looks.view(kind, self.normalise), rows) for kind in views], "Computing features")
        for other in others:
            first += other
        return first / np.float32(len(views)) if others else first

    def copies(self, kinds: Sequence[tuple[Augmentation, bool]], rows: Sequence[Rows]) -> Floats:
        """Of one copy after the other, of these rows of all photos, `float32[sum of rows, columns]`."""
        wanted = [(looks.copied(*kind, self.normalise), own) for kind, own in zip(kinds, rows, strict=True)]
        return np.concatenate(self.of(wanted, "Looking at changed copies"))

    def _store(self, look: Look) -> Store:
        settings = json.dumps(self.preprocessing.to_hub(), sort_keys=True)
        pooling = "statistics" if self.network.with_statistics else "mean"
        facts = (*self.frozen.made_by, *looks.made_by(), settings, pooling, look.name)
        return Store.of(self.root, facts, feature_width(self.network.config))


def of_backbone(
    backbone: Backbone,
    recipe: Recipe,
    pixels: Inputs,
    photos: Sequence[str],
    preprocessing: Preprocessing,
    normalise: Normalise,
    root: Path,
    track: Track,
) -> Features:
    """Features that a recipe reads, of a pretrained backbone; see `Features`.

    Kept are always means and deviations of the last two stages: recipes that pool in another way share them, for the
    last stage's means are among them where its maps fit into those before, twice as large, without a remainder.
    """
    config = backbone.model.config
    *_, before, last = config.hidden_sizes or ()
    fits = preprocessing.size % (64 if config.downsample_in_first_stage else 32) == 0
    network = build(backbone, recipe.model_copy(update={"pooling": "statistics"} if fits else {}), ["any"])
    network.train(False)
    nn.Module.to(network, normalise.mean.device)
    columns = slice(before, before + last) if recipe.pooling == "mean" and fits else slice(None)
    return Features(network, freeze(network), pixels, photos, preprocessing, normalise, columns, root, track)


class _Asked:
    """What is asked of one look: `features float32[m, columns]`, and the places in them that each photo still lacks."""

    def __init__(self, store: Store, photos: Sequence[str], columns: slice) -> None:
        self._store, self._columns = store, columns
        self.features: Floats = np.empty((len(photos), len(range(*columns.indices(store.width)))), np.float32)
        self.lacking: dict[str, list[int]] = {}
        for place, photo in enumerate(photos):
            self.lacking.setdefault(photo, []).append(place)
        self._new: list[tuple[list[str], Floats]] = []
        for known, seen in store.read(set(self.lacking)):
            self._fill(known, seen)

    def batches(self, size: int) -> list[list[str]]:
        """The photos that lack, so many at a time."""
        photos = list(self.lacking)
        return [photos[start : start + size] for start in range(0, len(photos), size)]

    def add(self, photos: list[str], seen: Floats) -> None:
        """Take the features `float32[n, width]` of n photos, and keep them for others."""
        self._fill(photos, seen)
        self._new.append((photos, seen))
        if not self.lacking or sum(len(names) for names, _ in self._new) >= _FILE:
            self._store.write(
                [name for names, _ in self._new for name in names], np.concatenate([f for _, f in self._new])
            )
            self._new.clear()

    def _fill(self, photos: Sequence[str], seen: Floats) -> None:
        for photo, own in zip(photos, seen[:, self._columns], strict=True):
            self.features[self.lacking.pop(photo, [])] = own
