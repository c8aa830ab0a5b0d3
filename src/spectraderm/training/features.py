"""Features of photos by frozen layers, each computed once and kept for all folds, recipes and runs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import PIL
import torch
from torch import Tensor, nn

from spectraderm.core.files import sha256
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training.augmentation import Augmentation, Transform, augmented, transformed
from spectraderm.training.backbones import Backbone
from spectraderm.training.dataset import AHEAD, Floats, Inputs
from spectraderm.training.feature_cache import Store
from spectraderm.training.frozen_backbone import Frozen, freeze
from spectraderm.training.network import Normalise, SkinResNet, build, feature_width
from spectraderm.training.recipe import Recipe

Rows = npt.NDArray[np.int64]
_FILE = 256
"""Photos whose features go into one file."""


@dataclass(frozen=True)
class Variant:
    """Photos by one transform or augmentation; `whole` is the photo itself.

    Attributes:
        name: of the transform or augmentation.
        inputs: pixels `uint8[n, s, s, 3]` -> the network's input `float[n, 3, s, s]`.
    """

    name: str
    inputs: Callable[[Pixels], Tensor]


@dataclass(frozen=True)
class Features:
    """Features of all photos of a run, by layers that don't change.

    Attributes:
        network: how maps are pooled.
        frozen: the layers.
        pixels: of all photos.
        photos: the SHA-256 of each; the features of files with the same bytes are computed once.
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

    def averaged(self, transforms: Sequence[Transform]) -> Floats:
        """Features of all photos `float32[n, columns]`, averaged over transforms. Raises what `pixels` raise."""
        rows = np.arange(len(self.photos))
        wanted = [(self._transform(transform), rows) for transform in transforms]
        first, *others = self._compute(wanted, "Computing features")
        for other in others:
            first += other
        return first / np.float32(len(transforms)) if others else first

    def augmented(self, kinds: Sequence[tuple[Augmentation, bool]], rows: Sequence[Rows]) -> Floats:
        """Features of augmented photos, one augmentation after the other, `float32[sum of rows, columns]`.

        Args:
            kinds: the augmentations, and whether each is coarse.
            rows: of each augmentation, which photos.
        """
        wanted = [(self._augmentation(*kind), own) for kind, own in zip(kinds, rows, strict=True)]
        return np.concatenate(self._compute(wanted, "Computing features of augmented photos"))

    def _transform(self, transform: Transform) -> Variant:
        def inputs(pixels: Pixels) -> Tensor:
            return transformed(self.normalise(torch.from_numpy(np.array(pixels))), [transform])

        return Variant(transform, inputs)

    def _augmentation(self, augmentation: Augmentation, coarse: bool) -> Variant:
        def inputs(pixels: Pixels) -> Tensor:
            photos = [augmented(photo, augmentation, coarse) for photo in pixels]
            return cast("Tensor", self.normalise(torch.from_numpy(np.stack(photos))))

        return Variant(f"coarse {augmentation}" if coarse else augmentation, inputs)

    def _compute(self, wanted: Sequence[tuple[Variant, Rows]], title: str) -> list[Floats]:
        """For each variant of m photos `float32[m, columns]`; what is kept of them is read, the rest is computed."""
        parts = [
            _Part(self._store(variant), [self.photos[row] for row in rows], self.columns) for variant, rows in wanted
        ]
        jobs = [
            (part, variant, batch, np.array([rows[part.lacking[photo][0]] for photo in batch]))
            for part, (variant, rows) in zip(parts, wanted, strict=True)
            for batch in part.batches(self.frozen.batch)
        ]
        made = in_order(lambda job: job[1].inputs(self.pixels[job[3]]), jobs, 1, AHEAD)
        for (part, _, batch, _), inputs in self.track(made, title, len(jobs)) if jobs else ():
            part.add(batch, self._features_of(inputs))
        return [part.features for part in parts]

    def _features_of(self, inputs: Tensor) -> Floats:
        with torch.inference_mode():
            features: Floats = self.frozen.pooled(self.network, inputs).float().cpu().numpy()
        return features

    def _store(self, variant: Variant) -> Store:
        """Where features of this variant are kept: those that this very code, weights and machine compute.

        How a variant is made, and features of it, is told by the bits that come of one random photo: they differ where
        weights, pooling, libraries or processors do.
        """
        inputs = variant.inputs(_random_photo(self.preprocessing.size)).cpu().numpy()
        facts = (*self._made_by, variant.name, sha256(inputs.tobytes()))
        return Store.of(self.root, facts, feature_width(self.network.config))

    @cached_property
    def _made_by(self) -> tuple[str, ...]:
        """All that features depend on besides the photo and its variant."""
        sources = (file for file in resources.files("spectraderm.images").iterdir() if file.name.endswith(".py"))
        decoding = sha256(b"".join(file.read_bytes() for file in sorted(sources, key=lambda file: file.name)))
        inputs = self.normalise(torch.from_numpy(_random_photo(self.preprocessing.size)))
        return (
            self.frozen.digest,
            decoding,
            f"pillow {PIL.__version__}",
            json.dumps(self.preprocessing.to_hub(), sort_keys=True),
            sha256(self._features_of(inputs).tobytes()),
        )


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


class _Part:
    """The features of one variant of m photos, `float32[m, columns]`, and at which places each photo still lacks."""

    def __init__(self, store: Store, photos: Sequence[str], columns: slice) -> None:
        self._store, self._columns = store, columns
        self.features: Floats = np.empty((len(photos), len(range(*columns.indices(store.width)))), np.float32)
        self.lacking: dict[str, list[int]] = {}
        for place, photo in enumerate(photos):
            self.lacking.setdefault(photo, []).append(place)
        self._new: list[tuple[list[str], Floats]] = []
        for known, features in store.read(set(self.lacking)):
            self._fill(known, features)

    def batches(self, size: int) -> list[list[str]]:
        """The photos that lack, so many at a time."""
        photos = list(self.lacking)
        return [photos[start : start + size] for start in range(0, len(photos), size)]

    def add(self, photos: list[str], features: Floats) -> None:
        """Take the features `float32[n, width]` of n photos, and keep them for others."""
        self._fill(photos, features)
        self._new.append((photos, features))
        if not self.lacking or sum(len(names) for names, _ in self._new) >= _FILE:
            names, new = zip(*self._new, strict=True)
            self._store.write([name for own in names for name in own], np.concatenate(new))
            self._new.clear()

    def _fill(self, photos: Sequence[str], features: Floats) -> None:
        for photo, own in zip(photos, features[:, self._columns], strict=True):
            self.features[self.lacking.pop(photo, [])] = own


def _random_photo(size: int) -> Pixels:
    """Pixels `uint8[1, size, size, 3]`."""
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
