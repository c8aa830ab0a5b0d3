"""Prediction sets, the classes that a photo may be: how often they hold the truth, and how large they are."""

from typing import Any

import numpy as np

from spectraderm.core.resampling import Interval, interval, share
from spectraderm.evaluation.bootstrap import mean, resample, weights
from spectraderm.evaluation.scored import Booleans, Integers, Reals


def set_scores(labels: Integers, sets: Booleans, groups: Integers, seed: int = 0) -> dict[str, Any]:
    """`coverage`, `mean_size`, and the shares of `singletons` and `empty` sets, each as `{value, low, high}`.

    `sets` is `bool[n, c]`. `per_class` has the coverage among the photos of each class, and `by_group` all of this
    with every photo group counted once.
    """
    by_file, by_group = (_measured(labels, sets, groups, seed, once) for once in (False, True))
    return {"n_photos": len(labels), "n_groups": len(np.unique(groups)), **by_file, "by_group": by_group}


def _measured(labels: Integers, sets: Booleans, groups: Integers, seed: int, by_group: bool) -> dict[str, Any]:
    size = sets.sum(1)
    covered = sets[np.arange(len(labels)), labels]
    member = (labels[:, None] == np.arange(sets.shape[1])).astype(np.float64)
    facts = np.stack([covered, size == 1, size == 0, size], axis=1)

    def measure(drawn: Reals) -> dict[str, Reals]:
        return {"facts": mean(facts, drawn), "classes": (drawn @ (member * covered[:, None]) / (drawn @ member)).T}

    values = resample(measure, weights(groups, seed, by_group))
    shares = dict(zip(("coverage", "singletons", "empty"), values["facts"], strict=False))
    classes: list[Interval] = [
        share(row, len(np.unique(groups[labels == i]))) for i, row in enumerate(values["classes"])
    ]
    result = {name: share(row, len(np.unique(groups))) for name, row in shares.items()}
    return {**result, "mean_size": interval(values["facts"][3]), "per_class": classes}
