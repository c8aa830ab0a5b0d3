"""What a model says of one photo."""

from dataclasses import asdict, dataclass
from typing import Any

from spectraderm.inference.calibration import Verdict


@dataclass(frozen=True)
class Prediction:
    """What a model says of one photo. Not a diagnosis.

    Attributes:
        verdict: `predicted`, `unsure`, `out_of_scope` or `unusable_photo`; `reason` says why, in plain words.
        label: the most probable class, as its folder was named; `display_name` is the same for people. Where the photo
            is unusable no model was asked: None here, as in `probability` and `novelty`, and the rest is empty.
        probability: the calibrated one of `label`, 0 to 1.
        probabilities: for every class, most probable first.
        prediction_set: the classes that fit. Of photos like those learned from, a share of `coverage` has its true
            class in its set.
        novelty: how unlike the training photos it is: 0 (like one of them) to 2.
        in_training: this photo, or a turned, mirrored or re-encoded copy of it, was learned from.
        heatmap: rows of numbers in 0..1, top to bottom: where in the model's input the evidence for `label` lies.
        model_id: which model said so.
    """

    verdict: Verdict
    reason: str
    label: str | None
    display_name: str
    probability: float | None
    probabilities: dict[str, float]
    prediction_set: list[str]
    coverage: float
    novelty: float | None
    in_training: bool
    heatmap: list[list[float]]
    model_id: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


def unusable(why: str, coverage: float, model_id: str) -> Prediction:
    """Of a photo that no model was asked about."""
    return Prediction("unusable_photo", why, None, "", None, {}, [], coverage, None, False, [], model_id)
