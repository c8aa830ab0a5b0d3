"""What a model said of another folder's photos -> how good it is there, how often it refuses, what it had seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import Booleans, Integers, Reals, Scored, rate
from spectraderm.evaluation.evaluate import refusals
from spectraderm.evaluation.metrics import set_scores
from spectraderm.inference.calibration import VERDICTS


@dataclass(frozen=True)
class Answers:
    """What was said of n photos.

    Attributes:
        labels: true class numbers `int64[n]`, -1 where the photo shows none of the model's classes.
        groups: photo groups, `int64[n]`.
        probabilities: calibrated, `float64[n, classes]`; rows of an unusable photo are NaN.
        sets: prediction sets, `bool[n, classes]`.
        verdicts: numbers in `VERDICTS`, `int64[n]`.
        novelty: `float64[n]`, NaN for an unusable photo.
        in_training: whether the model was trained on it or a copy, `bool[n]`.
    """

    labels: Integers
    groups: Integers
    probabilities: Reals
    sets: Booleans
    verdicts: Integers
    novelty: Reals
    in_training: npt.NDArray[np.bool_]


def score(answers: Answers, labels: Sequence[str]) -> dict[str, Any]:
    """`scores`, `per_class`, `confusion_matrix`, `sets`, `refusals` of photos of known classes; `strangers` of others.

    Photos that the model was trained on, or on copies of, are counted (`in_training`) and left out of all else. Photos
    that the quality gate refused got no guess: they are in the refusals, not in the scores. Of strangers:
    `refused` is the share called out of scope or unusable, `flagged` that of all verdicts but `predicted`.
    """
    usable = answers.verdicts != VERDICTS.index("unusable_photo")
    known, strange = (
        ~answers.in_training & (answers.labels >= 0 if own else answers.labels < 0) for own in (True, False)
    )
    result: dict[str, Any] = {
        "n_photos": len(answers.labels),
        "n_groups": len(np.unique(answers.groups)),
        "in_training": int(answers.in_training.sum()),
        "verdicts": {name: int((answers.verdicts == number).sum()) for number, name in enumerate(VERDICTS)},
    }
    own = known & usable
    if own.any():
        scored = Scored(answers.labels[own], answers.probabilities[own], answers.groups[own])
        result["scores"] = metrics.scores(scored)
        result["per_class"] = metrics.per_class(scored, list(labels))
        result["confusion_matrix"] = metrics.confusion(scored)
        result["sets"] = set_scores(scored.labels, answers.sets[own], scored.groups)
        result["refusals"] = refusals(
            Scored(answers.labels[known], np.nan_to_num(answers.probabilities[known]), answers.groups[known]),
            answers.verdicts[known],
        )
    if strange.any():
        verdicts, groups = answers.verdicts[strange], answers.groups[strange]
        result["strangers"] = {
            "refused": rate(verdicts >= VERDICTS.index("out_of_scope"), groups, by_group=True),
            "flagged": rate(verdicts != VERDICTS.index("predicted"), groups, by_group=True),
        }
    return result
