"""An exported model on perturbed photos: its verdict must not depend on the camera, the turn or the frame."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core.progress import Track, no_track
from spectraderm.core.resampling import Interval, interval, least_share
from spectraderm.core.run import FINAL, MANIFEST, Run
from spectraderm.data import manifest
from spectraderm.data.manifest import Row, open_photo
from spectraderm.evaluation.bootstrap import Integers, mean, rate, resample, weights
from spectraderm.images.perturbations import CHANGES, QUALITY, SIDE
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference.engine import Engine

_PHOTOS = 4
"""Photos that are read together, each unchanged and after every change."""


def measure_robustness(
    run: Run, engine: Engine, preprocessing: Preprocessing, track: Track = no_track
) -> dict[str, Any]:
    """Compare a model's guesses on photos held out from it with those on the same photos after each of `CHANGES`.

    They are the final fold's test photos, and where it keeps none, as with k folds by photo, those for validation.

    Returns:
        `photos`, `photo_groups`, and for each change what `compare` gives. Empty where no photo was held out.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
    """
    logits = run.logits(FINAL)
    held = logits.splits == ("test" if "test" in logits.splits else "val")
    if not held.any():
        return {}
    rows = {row.path: row for row in manifest.read(run.path(MANIFEST))}
    batches = _batches(run.photos, [rows[path] for path in logits.paths[held].tolist()], preprocessing)
    shown = track(batches, "Measuring robustness", -(-int(held.sum()) // _PHOTOS))
    # int64[photos, 1 + changes], those of the unchanged photos first
    guesses = np.concatenate([engine(batch).logits.argmax(1) for batch in shown]).reshape(-1, 1 + len(CHANGES))
    truth, groups = logits.targets[held], logits.groups[held]
    found = {name: compare(guesses[:, 0], guesses[:, 1 + n], truth, groups) for n, name in enumerate(CHANGES)}
    return {"photos": len(truth), "photo_groups": len(np.unique(groups)), **found}


def compare(before: Integers, after: Integers, truth: Integers, groups: Integers) -> dict[str, Interval]:
    """First guesses `int64[n]` before and after a change, each photo group counted once.

    Returns:
        `changed`, the share that is another, and `accuracy_difference`, the share that is right less that of before;
        each with `value`, `low` and `high`: 95 %, percentile bootstrap over photo groups (Efron & Tibshirani 1993).
        Where no group differs from another, the bounds of the difference are those if the largest share of unlike
        groups that may have gone unseen lay at either end.
    """
    changed = rate(before != after, groups, by_group=True)
    gained = (after == truth).astype(float) - (before == truth)
    values = resample(lambda drawn: {"gained": mean(gained, drawn)}, weights(groups, by_group=True))["gained"]
    difference = interval(values)
    if np.ptp(values) < 1e-12:
        value, unseen = float(values[0]), 1 - least_share(len(np.unique(groups)))
        difference = {"value": value, "low": value - unseen * (value + 1), "high": value + unseen * (1 - value)}
    return {"changed": {name: changed[name] for name in difference}, "accuracy_difference": difference}


def to_markdown(robustness: Mapping[str, Any]) -> str:
    """What `measure_robustness` gave, as a section of the model card."""
    title = "## Does the camera matter?\n"
    if not robustness:
        return f"{title}Not measured: no photo was held out from this model to test it on.\n"
    count = f"{robustness['photo_groups']} different photos held out from it ({robustness['photos']} files)"
    lines = [
        f"{title}What the model says of {count} should stay the same when",
        f"each is saved again at {SIDE} pixels and JPEG quality {QUALITY}, mirrored, turned, or painted grey along its",
        "outer tenth. Each photo counts once; in brackets 95 % intervals.",
        "",
        "| change | first guess changes | accuracy |",
        "| --- | --- | --- |",
    ]
    for name in (name for name in CHANGES if name in robustness):
        share, low, high = (100 * robustness[name]["changed"][key] for key in ("value", "low", "high"))
        points = (100 * robustness[name]["accuracy_difference"][key] for key in ("value", "low", "high"))
        gained = "{:+.1f} points ({:+.1f} to {:+.1f})".format(*points).replace("-", "−")
        lines.append(f"| {name} | {share:.1f} % ({low:.1f}–{high:.1f}) | {gained} |")
    return "\n".join(lines) + "\n"


def _batches(root: Path, rows: Sequence[Row], preprocessing: Preprocessing) -> Iterator[Pixels]:
    for start in range(0, len(rows), _PHOTOS):
        images = [open_photo(root, row) for row in rows[start : start + _PHOTOS]]
        versions = [[image, *(change(image) for change in CHANGES.values())] for image in images]
        yield np.stack([preprocessing(version) for own in versions for version in own])
