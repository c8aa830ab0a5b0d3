"""The test photos by any column of the manifest that describes them: is the model as good for everybody?"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import MIN_GROUPS, Scored, group_weights, rate
from spectraderm.inference.calibration import Judgement

SKIN_TONE = "skin_tone_estimate"
UNKNOWN = "not known"
_LIGHT_TO_DARK = ("very light", "light", "intermediate", "tan", "brown", "dark")
MOST_VALUES = 20
"""Columns with more values than this, such as names, are no subgroups."""
_NOT_SUBGROUPS = frozenset(
    {
        *("path", "label", "given_split", "sha256", "width", "height", "bytes", "photo_group", "copy_group", "phash"),
        *("patient", "lesion", "group", "jpeg_quality", "ita", "unusable", "format"),
    }
)


def subgroups(rows: Sequence[Mapping[str, str]], scored: Scored, judged: Judgement) -> list[dict[str, Any]]:
    """A table per column: of every value how good, how calibrated, how sure, each photo group counted once.

    `rows` are the manifest's lines of the n photos. `claim` is false where there are too few photo groups for one. An
    empty cell is the value `not known`. The column `skin_tone_estimate` is a proxy read off the photos, not a fact
    about people.
    """
    tables = []
    for column in (name for name in rows[0] if name not in _NOT_SUBGROUPS):
        values = np.array([row[column] or UNKNOWN for row in rows])
        known = sorted(set(values.tolist()) - {UNKNOWN})
        if 0 < len(known) <= MOST_VALUES:
            parts = [_value(value, scored, judged, values == value) for value in _ordered(column, known, values)]
            tables.append({"column": column, "proxy": column == SKIN_TONE, "values": parts})
    return tables


def _ordered(column: str, known: Sequence[str], values: npt.NDArray[np.str_]) -> list[str]:
    order = list(known)
    if column == SKIN_TONE:
        order = [value for value in _LIGHT_TO_DARK if value in known]
    return [*order, *([UNKNOWN] if (values == UNKNOWN).any() else [])]


def _value(value: str, scored: Scored, judged: Judgement, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    part = scored.take(rows)
    sets, verdicts = judged.sets[rows], judged.verdicts[rows]
    scores = metrics.scores(part)
    covered = sets[np.arange(len(part)), part.labels]
    return {
        "value": value,
        "n_photos": len(part),
        "n_groups": scores["n_groups"],
        "claim": scores["n_groups"] >= MIN_GROUPS,
        "group_accuracy": scores["group_accuracy"],
        "balanced_accuracy": scores["by_group"]["balanced_accuracy"],
        "ece": scores["by_group"]["ece"],
        "coverage": rate(covered, part.groups, by_group=True),
        "mean_set_size": float(np.average(sets.sum(1), weights=group_weights(part.groups))),
        "not_predicted": rate(verdicts > 0, part.groups, by_group=True),
    }
