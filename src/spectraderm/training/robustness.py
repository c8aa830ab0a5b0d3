"""The exported model on changed photos: what it says must not hang on the camera, the turn or the frame."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import artifacts
from spectraderm.core.progress import Track, no_track
from spectraderm.core.resampling import Interval, draws, interval, least_share
from spectraderm.data import manifest
from spectraderm.data.manifest import Row
from spectraderm.images.perturbations import CHANGES, QUALITY, SIDE
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import Engine
from spectraderm.training.dataset import open_photo
from spectraderm.training.train import read_config

_PHOTOS = 4
"""Read and asked about together, each unchanged and after every change."""

Integers = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


def measure_stability(
    run: Path, engine: Engine, preprocessing: Preprocessing, track: Track = no_track
) -> dict[str, Any]:
    """Ask the model about photos held out from it as they are, and after each of `CHANGES`.

    They are the final fold's test photos, and where it keeps none, as with k folds by photo, those for validation.

    Returns:
        `photos`, `photo_groups`, and for each change what `compare` gives. Empty where no photo was held out.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
    """
    sides = [[record for record in _stored(run) if record["split"] == side] for side in ("test", "val")]
    stored = sides[0] or sides[1]
    if not stored:
        return {}
    guesses = _guesses(run, [record["path"] for record in stored], engine, preprocessing, track)
    labels = read_config(run)["labels"]
    truth = np.array([labels.index(record["label"]) for record in stored])
    groups = np.array([int(record["photo_group"]) for record in stored])
    found = {name: compare(guesses[:, 0], guesses[:, 1 + n], truth, groups) for n, name in enumerate(CHANGES)}
    return {"photos": len(stored), "photo_groups": len(np.unique(groups)), **found}


def compare(before: Integers, after: Integers, truth: Integers, groups: Integers) -> dict[str, Interval]:
    """First guesses `int64[n]` before and after a change, each photo group counted once.

    Returns:
        `changed`, the share that is another, and `accuracy_difference`, the share that is right less that of before;
        each with `value`, `low` and `high`: 95 %, percentile bootstrap over photo groups (Efron & Tibshirani 1993).
    """
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    changed = np.bincount(group, before != after) / size
    gained = np.bincount(group, (after == truth).astype(int) - (before == truth)) / size
    return {"changed": _interval(changed, 0), "accuracy_difference": _interval(gained, -1)}


def to_markdown(stability: Mapping[str, Any]) -> str:
    """What `measure_stability` gave, as a section of the model card."""
    title = "## Does the camera matter?\n"
    if not stability:
        return f"{title}Not measured: no photo was held out from this model to test it on.\n"
    count = f"{stability['photo_groups']} different photos held out from it ({stability['photos']} files)"
    lines = [
        f"{title}What the model says of {count} should stay the same when",
        f"each is saved again at {SIDE} pixels and JPEG quality {QUALITY}, mirrored, turned, or painted grey along its",
        "outer tenth. Each photo counts once; in brackets 95 % intervals.",
        "",
        "| change | first guess changes | accuracy |",
        "| --- | --- | --- |",
        *(f"| {name} | {_share(own)} | {_points(own)} |" for name, own in stability.items() if name in CHANGES),
    ]
    return "\n".join(lines) + "\n"


def _stored(run: Path) -> list[dict[str, str]]:
    path = artifacts.fold_folder(run, artifacts.FINAL) / artifacts.LOGITS
    return artifacts.read_csv(path, artifacts.LOGIT_COLUMNS, "Run `spectraderm train RUN` first")


def _guesses(run: Path, paths: Sequence[str], engine: Engine, preprocessing: Preprocessing, track: Track) -> Integers:
    """First guesses `int64[photos, 1 + changes]`, those of the unchanged photos first."""
    root = Path(artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")["root"])
    rows = {row.path: row for row in manifest.read(run / artifacts.MANIFEST)}
    batches = _batches(root, [rows[path] for path in paths], preprocessing)
    shown = track(batches, "Measuring stability", -(-len(paths) // _PHOTOS))
    guesses: Integers = np.concatenate([engine(batch).logits.argmax(1) for batch in shown])
    return guesses.reshape(len(paths), 1 + len(CHANGES))


def _batches(root: Path, rows: Sequence[Row], preprocessing: Preprocessing) -> Iterator[Pixels]:
    for start in range(0, len(rows), _PHOTOS):
        images = [open_photo(root, row) for row in rows[start : start + _PHOTOS]]
        versions = [[image, *(change(image) for change in CHANGES.values())] for image in images]
        yield np.stack([preprocessing(version) for own in versions for version in own])


def _interval(values: Reals, least: float) -> Interval:
    """The mean of `float[groups]` between `least` and 1, and its bounds.

    Where all groups are alike, so are all resamples: then the bounds are those if the largest share of unlike groups
    that may have gone unseen lay at either end.
    """
    value = float(values.mean())
    if np.ptp(values) == 0:
        unseen = 1 - least_share(len(values))
        return {"value": value, "low": value + unseen * (least - value), "high": value + unseen * (1 - value)}
    means = [times @ values / len(values) for times in draws(len(values))]
    return interval(np.concatenate([[value], *means]))


def _share(own: Mapping[str, Interval]) -> str:
    value, low, high = (100 * (own["changed"][key] or 0) for key in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f})"


def _points(own: Mapping[str, Interval]) -> str:
    value, low, high = (100 * (own["accuracy_difference"][key] or 0) for key in ("value", "low", "high"))
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})".replace("-", "−")
