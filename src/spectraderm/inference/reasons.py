"""Why a verdict is what it is, in words for whoever sent the photo."""

import math
from collections.abc import Sequence

from spectraderm.inference.calibration import Calibration, Verdict

_NAMED = 3
"""So many classes of a prediction set are named; the others are counted."""


def reason(verdict: Verdict, fitting: Sequence[str], probability: float, own: Calibration, classes: int) -> str:
    """One sentence.

    Args:
        verdict: any but `unusable_photo`, whose reason the quality gate gives.
        fitting: the prediction set, in names for people, most probable first.
        probability: of the first.
        own: the settings that led to the verdict.
        classes: how many conditions the model knows.
    """
    if verdict == "out_of_scope":
        return (
            "Unlike the photos the model learned from: another kind of photo, none of the "
            f"{classes} conditions it knows, or no skin at all."
        )
    promised = f"{100 * own.promised_accuracy:g} of 100 such answers"
    if verdict == "predicted":
        return f"Of photos like those the model learned from, at least {promised} are right."
    if len(fitting) > 1:
        return f"It could be {_either(fitting, classes)}: the model can't tell which."
    if own.sure_at > 1:
        return f"No probability was ever high enough for {promised} to be right, so this model is never sure."
    below, needed = math.floor(1000 * probability) / 10, math.ceil(1000 * own.sure_at) / 10  # never look alike
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
