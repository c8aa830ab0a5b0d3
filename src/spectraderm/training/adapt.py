"""A model folder and some photos of one's own -> the same model with a head that has learned from them, too.

Never torch: features come from the folder's own network, the head from its statistics in closed form, and it is put on
the network in place of the old one.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spectraderm.core.errors import ModelFolderError, ParityError
from spectraderm.core.files import array_bytes, json_bytes
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.core.rows import Rows
from spectraderm.images.perceptual_hash import Hashes
from spectraderm.images.preprocessing import Pixels
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import Features, novelty
from spectraderm.inference.engine import Answer, Engine
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.training.lda import Floats, Integers, Reals, Statistics
from spectraderm.training.onnx_head import described, put_head
from spectraderm.training.photo_augmentation import KINDS, Kind, augmented

OWN_KINDS: tuple[Kind, ...] = (("whole", False), ("mirrored", False), ("turned", False), ("zoomed", False))
"""The augmentations of one's own photos; the twelve of training take thrice as long and are no better."""
OWN_WEIGHT = 2.0
"""As how many photo groups of the training photos one of one's own counts. Chosen, as `OWN_KINDS`, on two sources."""
OTHER_MARGIN = 0.5
"""By how much `other` has to win, in standard deviations of the logits of the classes' centres.

Without it `other` takes in a tenth of the photos that show a class; with more it refuses fewer others. Chosen on two
sources, as `OWN_WEIGHT` was.
"""
FOLDS = 5
PARITY = 1e-3
"""The largest difference of a logit between the closed form and the new network that is let pass."""


@dataclass(frozen=True)
class Own(Rows):
    """n photos of one's own, as the fit takes them.

    Attributes:
        features: `float32[n, kinds, width]`, by `OWN_KINDS`, the photo as it is first.
        targets: class numbers `int64[n]`, those of new classes after the model's.
        copies: `int64[n]`, the same number for copies of one photo.
        groups: `int64[n]`, the same number for photos that are held out together and count as one.
    """

    features: Floats
    targets: Integers
    copies: Integers
    groups: Integers

    @property
    def references(self) -> Floats:
        """Features of each photo, not of its copies, `float32[m, width]`: what novelty is measured against."""
        first: Floats = self.features[np.sort(np.unique(self.copies, return_index=True)[1]), 0]
        return first


@dataclass(frozen=True)
class ClosedForm:
    """A head in closed form: the statistics it is fitted on, and the settings of `Statistics.solve`.

    `other` is the number of the class `other`, which has to win by a margin; None where there is none.
    """

    statistics: Statistics
    shrinkage: float
    normalisation: float
    other: int | None = None

    def solve(self) -> tuple[Reals, Reals]:
        """Weights `float64[classes, width]` and bias `float64[classes]`."""
        known = self.statistics
        weights, bias = known.solve(self.shrinkage, self.normalisation)
        if self.other is not None and self.other < len(bias):
            named = np.arange(len(bias)) != self.other
            centres = known.centres[named] * known.deviation + known.mean
            bias[self.other] -= OTHER_MARGIN * float((centres @ weights[named].T + bias[named]).std())
        return weights, bias

    def refit(self, own: Own) -> "ClosedForm":
        """With one's own photos added: each photo group counts as `OWN_WEIGHT` of the training photos'."""
        kinds = own.features.shape[1]
        _, group, size = np.unique(own.groups, return_inverse=True, return_counts=True)
        weights = OWN_WEIGHT * len(KINDS) / kinds / size[group]
        targets, photos, weights = (np.repeat(part, kinds) for part in (own.targets, own.copies, weights))
        features = own.features.reshape(-1, own.features.shape[2])
        return replace(self, statistics=self.statistics.add(features, targets, photos, weights))


def closed_form(folder: ModelFolder) -> ClosedForm:
    """The closed form of a model's head.

    Raises:
        ModelFolderError: the folder has no statistics, or they are damaged or of another network.
    """
    if model_folder.STATISTICS not in folder.files:
        raise ModelFolderError(
            f"{folder.model_id} has no statistics to adapt from: fine-tuned, in 8-bit integers, or exported by an "
            "earlier version",
            "Train and export it again with the recipe `discriminant`",
        )
    try:
        statistics = Statistics.from_bytes(folder.files[model_folder.STATISTICS], len(folder.labels))
        recipe = folder.facts["recipe"]
        form = ClosedForm(statistics, float(recipe["shrinkage"]), float(recipe.get("normalisation", 0.0)))
        if not (0 < form.shrinkage < 1 and 0 <= form.normalisation <= 1):
            raise ValueError("a setting out of range")
        if len(statistics.mean) != folder.references.shape[1]:
            raise ValueError("of another network")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"{folder.path.name}/{model_folder.STATISTICS} does not hold what the head was fitted on ({error})"
        raise ModelFolderError(problem, "Export or download the model folder again") from error
    return form


def own_features(engine: Engine, pixels: Pixels, track: Track = no_track) -> tuple[Floats, Floats]:
    """Features of photos `uint8[n, s, s, 3]` by `OWN_KINDS`, `float32[n, kinds, width]`, and the logits of each."""

    def answer_of(photo: Pixels) -> Answer:
        return engine(np.stack([augmented(photo, *kind) for kind in OWN_KINDS]))

    made = in_order(answer_of, pixels, cores())
    answers = [answer for _, answer in track(made, "Computing features of your photos", len(pixels))]
    return np.stack([answer.features for answer in answers]), np.stack([answer.logits[0] for answer in answers])


def cross_validate(
    form: ClosedForm, references: Features, own: Own, folds: Integers, track: Track = no_track
) -> tuple[Reals, Reals]:
    """Fit without each fold of one's own photos, and ask about these.

    `references` are features of the training photos, `float[m, width]`; `folds`, `int64[n]`, those of `folds_of`.

    Returns:
        Logits `float64[n, classes]`, and novelties `float64[n]`, against the training photos and one's own of the other
        folds.
    """
    numbers = range(int(folds.max()) + 1)
    logits = np.zeros((len(own), max(len(form.statistics.centres), int(own.targets.max()) + 1)))
    novelties = np.zeros(len(own))
    for number in track(numbers, "Cross-validating", len(numbers)):
        held, others = np.flatnonzero(folds == number), own.take(folds != number)
        weights, bias = form.refit(others).solve()
        features = own.features[held, 0]
        logits[held] = features.astype(np.float64) @ weights.T + bias
        novelties[held] = novelty(features, np.concatenate([references, others.references]))
    return logits, novelties


def folds_of(targets: Integers, groups: Integers, seed: int) -> Integers:
    """Up to `FOLDS` folds by photo group, `int64[n]`; the groups of each class are spread over all of them."""
    unique, first = np.unique(groups, return_index=True)
    order = np.random.default_rng(seed).permutation(len(unique))
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold = np.empty(len(unique), np.int64)
    fold[order] = np.arange(len(unique)) % min(FOLDS, len(unique))
    return fold[np.searchsorted(unique, groups)]


def new_files(folder: ModelFolder, fitted: ClosedForm, own: Own, hashes: Hashes, labels: list[str]) -> dict[str, bytes]:
    """The files of the adapted model that differ from the old folder's, but for its card.

    The head was `fitted` with one's `own` photos added, whose perceptual hashes as they are are `uint8[n, 8]`; `labels`
    are the new classes.
    """
    weights, bias = (part.astype(np.float32) for part in fitted.solve())
    config = json.loads(folder.files[model_folder.MODEL_CONFIG])
    config["id2label"] = dict(enumerate(labels))
    config["label2id"] = {label: number for number, label in enumerate(labels)}
    known = np.unique(np.concatenate([folder.training_hashes, hashes]), axis=0)
    references = np.concatenate([folder.references, own.references]).astype(np.float16)
    files = {
        model_folder.ONNX: described(
            put_head(folder.network, weights, bias), {"labels": json.dumps(labels, ensure_ascii=False)}
        ),
        model_folder.MODEL_CONFIG: json_bytes(config),
        model_folder.NOVELTY: array_bytes(references),
        model_folder.HASHES: array_bytes(known),
        model_folder.STATISTICS: fitted.statistics.to_bytes(),
    }
    if model_folder.WEIGHTS in folder.files:
        files[model_folder.WEIGHTS] = _with_classifier(folder.files[model_folder.WEIGHTS], weights, bias)
    return files


def measure_parity(engine: Engine, pixels: Pixels, own: Own, head: tuple[Reals, Reals]) -> dict[str, Any]:
    """Compare what the new network says of one's own photos with the closed form.

    Raises:
        ParityError: a logit differs by `PARITY` or more.
    """
    logits = np.concatenate(
        [logits for _, logits in in_order(lambda photo: engine(photo[None]).logits, pixels, cores())]
    )
    expected = own.features[:, 0].astype(np.float64) @ head[0].T + head[1]
    largest = float(np.abs(logits - expected).max())
    if not largest < PARITY:
        raise ParityError(f"the adapted model differs from its fit by {largest:.2g} in a logit", "Nothing was written")
    changed = int((logits.argmax(1) != expected.argmax(1)).sum())
    return {"photos": len(own), "max_logit_difference": largest, "changed_top1": changed, "bound": PARITY}


def _with_classifier(data: bytes, weights: Floats, bias: Floats) -> bytes:
    """A safetensors file with another linear classifier; its format is a length, a JSON header, and the numbers."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", None)
    new = {".weight": weights, ".bias": bias}
    parts, entries = [], {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        part, about = data[start + first : start + last], {"dtype": entry["dtype"], "shape": entry["shape"]}
        if name.startswith("classifier."):
            values = new[name[name.rindex(".") :]]
            part, about = values.astype("<f4").tobytes(), {"dtype": "F32", "shape": list(values.shape)}
        entries[name] = {**about, "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    head = json.dumps(entries, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])
