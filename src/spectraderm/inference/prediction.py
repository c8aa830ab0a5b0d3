"""What a model says of one photo, and why, in words for whoever sent the photo.

The fields of every door follow from those of `Prediction`: JSON, the columns of tables, the schema of REST.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from spectraderm.inference.calibration import Calibration

Verdict = Literal["predicted", "unsure", "out_of_scope", "unusable_photo"]
VERDICTS: tuple[Verdict, ...] = ("predicted", "unsure", "out_of_scope", "unusable_photo")

_NAMED = 3
"""So many classes of a prediction set are named; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one photo. Not a diagnosis.

    Attributes:
        verdict: `predicted`, `unsure`, `out_of_scope` or `unusable_photo`; `reason` says why, in plain words.
        label: the most probable class, as its folder was named; `display_name` is the same for people. Where the photo
            is unusable no model was asked: None here, as in `probability` and `novelty`, and the rest is empty.
        probability: the calibrated one of `label`, 0 to 1.
        prediction_set: the classes that fit. Of photos like those learned from, a share of `coverage` has its true
            class in its set.
        novelty: how unlike the training photos it is: 0 (like one of them) to 2.
        in_training: this photo, or a turned, mirrored or re-encoded copy of it, was learned from.
        probabilities: for every class, most probable first.
        heatmap: rows of numbers in 0..1, top to bottom: where in the model's input the evidence for `label` lies.
        model_id: which model said so.
    """

    verdict: Verdict
    reason: str
    label: str | None = None
    display_name: str = ""
    probability: float | None = None
    prediction_set: list[str] = field(default_factory=list)
    coverage: float
    novelty: float | None = None
    in_training: bool = False
    probabilities: dict[str, float] = field(default_factory=dict)
    heatmap: list[list[float]] = field(default_factory=list)
    model_id: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def to_row(self) -> dict[str, Any]:
        """The fields by the names of `columns`."""
        row = dict(vars(self))
        return row | {_column(label): share for label, share in row.pop("probabilities").items()}


def columns(labels: Sequence[str]) -> dict[str, Any]:
    """The columns of a table of predictions, in order, with their Python types.

    These are the fields of `Prediction`, but for `probabilities` a column `probability:<class>` per class, empty where
    the photo is unusable.
    """
    types: dict[str, Any] = {}
    for each in fields(Prediction):
        whole = each.name != "probabilities"
        types |= {each.name: each.type} if whole else {_column(label): float | None for label in labels}
    return types


def _column(label: str) -> str:
    return f"probability:{label}"


def reason(verdict: Verdict, fitting: Sequence[str], probability: float, calibration: Calibration, classes: int) -> str:
    """One sentence.

    Args:
        verdict: any but `unusable_photo`, whose reason the quality gate gives.
        fitting: the prediction set, in names for people, most probable first.
        probability: of the first.
        calibration: what the verdict rests on.
        classes: how many conditions the model knows.
    """
    if verdict == "out_of_scope":
        return (
            "Unlike the photos the model learned from: another kind of photo, none of the "
            f"{classes} conditions it knows, or no skin at all."
        )
    promised = f"{100 * calibration.promised_accuracy:g} of 100 such answers"
    if verdict == "predicted":
        return f"Of photos like those the model learned from, at least {promised} are right."
    if len(fitting) > 1:
        return f"It could be {_either(fitting, classes)}: the model can't tell which."
    if calibration.confidence_threshold > 1:
        return f"No probability was ever high enough for {promised} to be right, so this model is never sure."
    below = math.floor(1000 * probability) / 10  # the two never look alike
    needed = math.ceil(1000 * calibration.confidence_threshold) / 10
    return f"{fitting[0]} fits best, but {below:.1f} % is below the {needed:.1f} % from which {promised} are right."


def percent(share: float) -> str:
    """A probability for people; what is not certain never reads as 100 % or 0 %."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _either(names: Sequence[str], classes: int) -> str:
    if len(names) == classes > 2:
        return f"any of the {classes} conditions it knows"
    if len(names) > _NAMED + 1:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} others"]
    return f"{', '.join(names[:-1])} or {names[-1]}"
