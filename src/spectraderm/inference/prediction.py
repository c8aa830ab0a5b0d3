"""What a model says of one photo, and why, in words for whoever sent the photo.

The fields of every door follow from those of `Prediction`: JSON, the columns of tables, the schema of REST.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from spectraderm.core import OTHER
from spectraderm.inference.calibration import Calibration, Calibrations, Floats, Judgement, Place

if TYPE_CHECKING:
    from spectraderm.core.errors import SpectraDermError
    from spectraderm.inference.model_folder import ModelFolder
    from spectraderm.inference.photos_given import Beside

Verdict = Literal["predicted", "unsure", "out_of_scope", "unusable_photo"]
VERDICTS: tuple[Verdict, ...] = ("predicted", "unsure", "out_of_scope", "unusable_photo")

_NAMED, _MOST = 3, 0.5
"""So many classes of a prediction set are named; what holds for a larger share than this does so mostly."""
JUDGED: dict[Place, str] = {
    "home": "Judged as a photo of the collection that the model learned from.",
    "elsewhere": "Judged as a photo from elsewhere.",
}
"""By `calibrated_on`, what a verdict rests on, in words."""
ALONE = "Measured on its own photos only; on photos from elsewhere it is right far less often."
_ALONE = " (measured on its own collection only)"
MEND = "spectraderm calibrate MODEL --external PHOTOS"
"""The command that measures a model on labelled photos from elsewhere."""
ADAPT = "spectraderm adapt MODEL MY_PHOTOS --out MODEL2"
"""The command that makes a model better on photos like one's own."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one photo. Not a diagnosis.

    Attributes:
        verdict: `predicted`, `unsure`, `out_of_scope` or `unusable_photo`; `reason` says why, in plain words.
        label: the most probable class, as its folder was named; `display_name` is the same for people. `other` is that
            of photos of none of the others; its verdict is always `out_of_scope`. Where the photo
            is unusable no model was asked: None here, as in `probability` and `novelty`, and the rest is empty.
        probability: the calibrated one of `label`, 0 to 1.
        prediction_set: the classes that fit. Of photos like those of `calibrated_on`, a share of `coverage` has its
            true class in its set. Where it is unsure, two at least.
        novelty: how unlike the training photos it is: 0 (like one of them) to 2.
        calibrated_on: what `probability`, the set and the verdict rest on: `home`, held-out photos of the collection
            that the model learned from; `elsewhere`, photos of other sources.
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
    calibrated_on: Place
    novelty: float | None = None
    in_training: bool = False
    probabilities: dict[str, float] = field(default_factory=dict)
    heatmap: list[list[float]] = field(default_factory=list)
    model_id: str

    @property
    def path(self) -> str:
        """The photo's path, where `Classifier.predict` was given one; like all that is no field, in no JSON or row."""
        beside = self._beside
        return beside.path if beside else ""

    @property
    def error(self) -> "SpectraDermError | None":
        """Why the photo could not be read, where it is one of many; such a photo is an `unusable_photo`."""
        beside = self._beside
        return beside.error if beside else None

    @property
    def _beside(self) -> "Beside | None":
        return vars(self).get("beside")

    def with_photo(self, beside: "Beside") -> "Prediction":
        """The same prediction, which also knows its photo; equal to the one without."""
        same = replace(self)
        object.__setattr__(same, "beside", beside)
        return same

    def __getstate__(self) -> dict[str, Any]:
        """Without the thumbnail: no photo goes into a file with it."""
        beside = self._beside
        return {**vars(self), "beside": replace(beside, thumbnail=b"")} if beside else dict(vars(self))

    def __repr__(self) -> str:
        from spectraderm.inference.prediction_display import to_lines  # noqa: PLC0415 - for people, in Python

        return to_lines(self)

    def _repr_html_(self) -> str:
        from spectraderm.inference.prediction_display import to_html  # noqa: PLC0415

        return to_html(self, self._beside)

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)

    def to_row(self) -> dict[str, Any]:
        """The fields by the names of `columns`."""
        row = {each.name: getattr(self, each.name) for each in fields(self)}
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


def worded(model: "ModelFolder", judged: Judgement, maps: Floats, place: Place, settings: Calibration) -> Prediction:
    """What a model says of the photo that was judged, but how unlike the training photos it is.

    `maps` are the photo's, `float32[classes, rows, columns]`; `place` and `settings` are what it was judged by.
    """
    probabilities, verdict = judged.probabilities[0], VERDICTS[judged.verdicts[0]]
    order = np.argsort(-probabilities, kind="stable")
    shares = {model.labels[number]: float(probabilities[number]) for number in order}
    names = {label: model.display_names.get(label, label) for label in shares}
    label, probability = next(iter(shares.items()))
    fitting = [model.labels[number] for number in order if judged.sets[0, number]]
    evidence = np.maximum(maps[order[0]], 0)
    why = reason(
        verdict,
        [(names[label], shares[label]) for label in fitting],
        settings,
        len(model.conditions),
        only_home=model.calibrations.elsewhere is None,
        none_of_them=label == OTHER,
    )
    return Prediction(
        verdict=verdict,
        reason=why,
        label=label,
        display_name=names[label],
        probability=probability,
        prediction_set=fitting,
        coverage=settings.coverage,
        calibrated_on=place,
        probabilities=shares,
        heatmap=np.round(evidence / (float(evidence.max()) or 1.0), 4).astype(float).tolist(),
        model_id=model.model_id,
    )


def reason(
    verdict: Verdict,
    likeliest: Sequence[tuple[str, float]],
    settings: Calibration,
    classes: int,
    *,
    only_home: bool = False,
    none_of_them: bool = False,
) -> str:
    """One sentence for any verdict but `unusable_photo`, whose reason the quality gate gives.

    `likeliest` is the prediction set, most probable first: names for people, and probabilities. `classes` counts the
    conditions, `other` not among them. `only_home`: the model was never measured on photos from elsewhere;
    `none_of_them`: the likeliest class is `other`.
    """
    if verdict == "out_of_scope" and none_of_them:
        return (
            f"It looks most like the photos of none of the {classes} conditions that the model was given as examples."
        )
    if verdict == "out_of_scope":
        return (
            "Unlike the photos the model learned from: another kind of photo, none of the "
            f"{classes} conditions it knows, or no skin at all."
        )
    if verdict == "predicted":
        return f"{_promise(settings)}{_ALONE if only_home else ''}."
    named = [f"{name} ({percent(share)})" for name, share in likeliest[:_NAMED]]
    others = f", then {_either(named[1:])}" if len(named) > 1 else ""
    return f"Most likely {named[0]}{others}: not sure enough to name one alone."


def promise(calibrations: Calibrations) -> str:
    """What a model promises of its answers to photos that it did not learn from, for a door to say once.

    It names the command that measures it on photos from elsewhere; or, where it was, that which makes it better there.
    """
    settings = calibrations.elsewhere or calibrations.home
    whose = "photos from elsewhere" if calibrations.elsewhere else "its own collection"
    text = _promise(settings)
    if settings.promised_accuracy is None:
        text = f"On {whose} no share of right answers could be proved"
    if calibrations.elsewhere:
        return f"{text}. `{ADAPT}` makes it better on photos like yours, from a few of them."
    return f"{text}. `{MEND}` measures it on labelled photos from elsewhere."


def experience(calibration: Mapping[str, Any]) -> str:
    """How often a model's first guess was right on photos of sources that it did not know, and so what it answers with.

    `calibration` is that of `spectraderm.json`. The numbers are those of `expected`: of each source by settings that
    were found on the others, and their mean.
    """
    elsewhere = calibration.get("elsewhere")
    expected = (elsewhere or {}).get("expected") or {}
    means = expected.get("pooled")
    if not elsewhere or not means or "n_sources" not in means:
        return "" if elsewhere else ALONE
    right, answered = (means[name]["value"] for name in ("group_accuracy", "predicted"))
    by_place = [own["group_accuracy"]["value"] for own in expected["by_source"].values() if "group_accuracy" in own]
    text = (
        f"On photos from {means['n_sources']} other places that it had never seen, its first guess was right in "
        f"{100 * right:.0f} of 100, from {100 * min(by_place):.0f} to {100 * max(by_place):.0f} by place; at a new "
        "place expect the lower end, or less."
    )
    if elsewhere["promised_accuracy"] is None:
        return f"{text} So it never decides on one condition, and names the two or three likeliest."
    mostly = (
        "So it mostly names the two or three likeliest conditions, and a single one"
        if answered < _MOST
        else ("It names a single condition")
    )
    return f"{text} {mostly} for {100 * answered:.0f} of 100 photos."


def _promise(settings: Calibration) -> str:
    right = f"at least {100 * (settings.promised_accuracy or 0):g} of 100 such answers"
    if not settings.places:
        answered = settings.answered_others
        most = (
            "" if answered is None else f", and at most {100 * answered:g} of 100 of its photos of none of them get one"
        )
        return f"Of photos like those the model learned from, {right} are right{most}"
    where = "a place" if settings.places == 1 else f"{settings.places} places"
    others = "how often photos of other conditions get one was not measured"
    if settings.answered_others is not None:
        others = f"at most {100 * settings.answered_others:g} of 100 photos of other conditions got one"
    return f"On photos from {where} that it never saw in training, {right} were right, and {others}"


def percent(share: float) -> str:
    """A probability for people; what is not certain never reads as 100 % or 0 %."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _either(names: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
