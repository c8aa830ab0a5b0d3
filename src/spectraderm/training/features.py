"""Features of photos by frozen layers, each computed once and kept for all folds, recipes and runs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import PIL
import torch
from torch import Tensor, nn
from transformers import ResNetModel

from spectraderm.core.files import sha256
from spectraderm.core.parallel import in_order
from spectraderm.core.progress import Track
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.training.augmentation import transformed
from spectraderm.training.backbones import Backbone
from spectraderm.training.dataset import AHEAD, Floats, Inputs, Integers
from spectraderm.training.distributed import one_thread
from spectraderm.training.feature_cache import Store
from spectraderm.training.frozen_backbone import freeze
from spectraderm.training.network import Normalise, build
from spectraderm.training.photo_augmentation import Augmentation, Transform, augmented
from spectraderm.training.pooling import SkinNetwork
from spectraderm.training.recipe import Recipe

T = TypeVar("T")
Variant = Transform | tuple[Augmentation, bool]
"""How a photo is changed: by a transform, or by an augmentation that is coarse or not."""
_FILE = 256
"""Photos whose features go into one file."""


class Features:
    """Features of all photos of a run, by the layers of a network as they are now.

    Args:
        network: the layers, and how their maps are pooled.
        pixels: of all photos.
        photos: the SHA-256 of each; the features of files with the same bytes are computed once.
        preprocessing: by which the pixels were made.
        normalise: what comes after it.
        root: where features are kept.
        track: how progress is shown.
        columns: which of the network's features are given; all of them are kept.
    """

    def __init__(
        self,
        network: SkinNetwork,
        pixels: Inputs,
        photos: Sequence[str],
        preprocessing: Preprocessing,
        normalise: Normalise,
        root: Path,
        track: Track,
        columns: slice = slice(None),
    ) -> None:
        self.frozen = freeze(network)
        self._network, self._pixels, self._photos, self._normalise = network, pixels, photos, normalise
        self._preprocessing, self._root, self._track, self._columns = preprocessing, root, track, columns

    def averaged(self, transforms: Sequence[Transform]) -> Floats:
        """Features of all photos `float32[n, columns]`, averaged over transforms. Raises what `pixels` raise."""
        rows = np.arange(len(self._photos))
        first, *others = self._compute(transforms, [rows] * len(transforms), "Computing features")
        for other in others:
            first += other
        return first / np.float32(len(transforms)) if others else first

    def augmented(self, kinds: Sequence[tuple[Augmentation, bool]], rows: Sequence[Integers]) -> Floats:
        """Features of augmented photos, one augmentation after the other, `float32[sum of rows, columns]`.

        Of each augmentation, which is coarse or not, `rows` says which photos.
        """
        return np.concatenate(self._compute(kinds, rows, "Computing features of augmented photos"))

    def _compute(self, variants: Sequence[Variant], rows: Sequence[Integers], title: str) -> list[Floats]:
        """For each variant of m photos `float32[m, columns]`; what is kept of them is read, the rest is computed."""
        parts = [
            _Part(self._store(variant), [self._photos[row] for row in own], self._columns)
            for variant, own in zip(variants, rows, strict=True)
        ]
        jobs = [
            (part, variant, batch, own[[part.lacking[photo][0] for photo in batch]])
            for part, variant, own in zip(parts, variants, rows, strict=True)
            for batch in part.batches(self.frozen.batch)
        ]
        made = self._by_threads(lambda job: self._features_of(self._inputs(job[1], self._pixels[job[3]])), jobs)
        for (part, _, batch, _), features in self._track(made, title, len(jobs)) if jobs else ():
            part.add(batch, features)
        return [part.features for part in parts]

    def evidence(self, network: SkinNetwork, rows: Integers) -> Floats:
        """How much each place of some photos counts for each class, `float32[n, classes, h, w]`; see `SkinNetwork`.

        `network` has these layers, and a head of its own.
        """

        def maps(some: Integers) -> Floats:
            with torch.inference_mode():
                maps = self.frozen.maps(network, self._inputs("whole", self._pixels[some]))
                found: Floats = network.evidence(maps).float().cpu().numpy()
            return found

        batches = [rows[start : start + self.frozen.batch] for start in range(0, len(rows), self.frozen.batch)]
        return np.concatenate([found for _, found in self._by_threads(maps, batches)])

    def _by_threads(self, work: Callable[[T], Floats], jobs: Sequence[T]) -> Iterator[tuple[T, Floats]]:
        """Each job and what `work` makes of it, as many at once as the layers take."""
        threads = self.frozen.threads
        with one_thread() if threads > 1 else nullcontext():  # one each
            yield from in_order(work, jobs, threads, AHEAD)

    def _inputs(self, variant: Variant, pixels: Pixels | Floats) -> Tensor:
        """A variant of photos `uint8[n, s, s, 3]` -> the network's input `float[n, 3, s, s]`."""
        if isinstance(variant, str):
            return transformed(self._normalise(torch.from_numpy(np.array(pixels))), [variant])
        photos = np.stack([augmented(photo, *variant) for photo in pixels])
        return cast("Tensor", self._normalise(torch.from_numpy(photos)))

    def _features_of(self, inputs: Tensor) -> Floats:
        with torch.inference_mode():
            features: Floats = self.frozen.pooled(self._network, inputs).float().cpu().numpy()
        return features

    def _store(self, variant: Variant) -> Store:
        """Where features of this variant are kept: those that this very code, weights and machine compute.

        The bits that come of one random photo tell how a variant and its features are made: they differ where weights,
        pooling, libraries or processors do.
        """
        inputs = self._inputs(variant, _random_photo(self._preprocessing.size)).cpu().numpy()
        return Store.of(self._root, (*self._made_by, sha256(inputs.tobytes())), self._network.width)

    @cached_property
    def _made_by(self) -> tuple[str, ...]:
        """All that features depend on besides the photo and its variant."""
        sources = (file for file in resources.files("spectraderm.images").iterdir() if file.name.endswith(".py"))
        decoding = sha256(b"".join(file.read_bytes() for file in sorted(sources, key=lambda file: file.name)))
        inputs = self._normalise(torch.from_numpy(_random_photo(self._preprocessing.size)))
        return (
            self.frozen.digest,
            decoding,
            f"pillow {PIL.__version__}",
            json.dumps(self._preprocessing.to_hub(), sort_keys=True),
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

    Kept are always means and deviations: recipes that pool in another way share them. A ResNet's are of the last two
    stages, and the last stage's means are among them where its maps fit into those before, twice as large, without a
    remainder.
    """
    config, fits = backbone.model.config, True
    if isinstance(backbone.model, ResNetModel):
        fits = preprocessing.size % (64 if config.downsample_in_first_stage else 32) == 0
    network = build(backbone, recipe.model_copy(update={"pooling": "statistics"} if fits else {}), ["any"])
    network.train(False)
    nn.Module.to(network, normalise.mean.device)
    columns = network.last_means if recipe.pooling == "mean" and fits else slice(None)
    return Features(network, pixels, photos, preprocessing, normalise, root, track, columns)


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
