"""An exported model on perturbed photos: its verdict must not depend on the camera, the turn or the frame."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from spectraderm.core import other_of
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.core.resampling import Interval, interval, least_share
from spectraderm.core.run import FINAL, MANIFEST, Run, measuring
from spectraderm.data import manifest
from spectraderm.data.manifest import open_photo
from spectraderm.evaluation.bootstrap import Integers, means, rate
from spectraderm.evaluation.formatting import template
from spectraderm.images.perturbations import CHANGES, QUALITY, SIDE
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.engine import Engine


def measure_robustness(
    run: Run, engine_of: Callable[[str], Engine | None], preprocessing: Preprocessing, track: Track = no_track
) -> dict[str, Any]:
    """Compare a model's guesses on photos held out from it with those on the same photos after each of `CHANGES`.

    They are the final fold's test photos, where it keeps none those for validation, and where it learned from all, as
    a closed-form head beside k folds does, the test photos of the first fold, by that fold's head. Photos of `other`
    are left out. `engine_of` gives the exported network with the head of a fold; None where there is none.

    Returns:
        `photos`, `photo_groups`, and for each change what `compare` gives. Empty where no photo was held out.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
    """
    fold, logits = FINAL, run.logits(FINAL)
    folds = measuring(run.config["protocol"], [entry["fold"] for entry in run.config["folds"]])
    if folds and not {"test", "val"} & {*logits.splits}:
        fold, logits = folds[0], run.logits(folds[0])
    root, engine = run.photos, engine_of(fold)
    held = logits.splits == ("test" if "test" in logits.splits else "val")
    held &= logits.targets != (-1 if (other := other_of(logits.classes)) is None else other)
    if engine is None or not held.any():
        return {}
    rows = {row.path: row for row in manifest.read(run.path(MANIFEST))}

    def guesses_of(path: str) -> Integers:
        image = open_photo(root, rows[path])
        versions = [image, *(change(image) for change in CHANGES.values())]
        guesses: Integers = engine(np.stack([preprocessing(version) for version in versions])).logits.argmax(1)
        return guesses

    measured = in_order(guesses_of, logits.paths[held].tolist(), cores())
    guesses = [own for _, own in track(measured, "Measuring robustness", int(held.sum()))]
    first, *changed = np.array(guesses).T  # each int64[photos]
    truth, groups = logits.targets[held], logits.groups[held]
    found = {name: compare(first, after, truth, groups) for name, after in zip(CHANGES, changed, strict=True)}
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
    values = means(gained, groups, by_group=True)
    difference = interval(values)
    if np.ptp(values) < 1e-12:
        value, unseen = float(values[0]), 1 - least_share(len(np.unique(groups)))
        difference = {"value": value, "low": value - unseen * (value + 1), "high": value + unseen * (1 - value)}
    return {"changed": {name: changed[name] for name in difference}, "accuracy_difference": difference}


def to_markdown(robustness: Mapping[str, Any]) -> str:
    """What `measure_robustness` gave, as a section of the model card."""
    changes = {name: robustness[name] for name in CHANGES if name in robustness}
    return template("robustness.md.j2").render(measured=robustness, changes=changes, side=SIDE, quality=QUALITY)
