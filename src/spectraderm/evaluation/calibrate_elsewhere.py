"""Settings for photos from elsewhere, from labelled photos of other sources: thresholds only, never weights.

Each source weighs the same, and in each every photo group. What they promise of the next source is measured by leaving
each source out in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spectraderm.core import other_of
from spectraderm.core.errors import DatasetError
from spectraderm.core.resampling import interval
from spectraderm.evaluation.bootstrap import (
    NO_CLASS,
    Booleans,
    Integers,
    Reals,
    Scored,
    group_weights,
    mean,
    rate,
    resample,
    weights,
)
from spectraderm.evaluation.by_source import METRICS, mean_of, of_source, over_sources
from spectraderm.evaluation.fitting import Settings, fit_sets, fit_temperature
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, NO_ANSWER, PROMISES, Control, Photos, control
from spectraderm.evaluation.source_photos import Predicted
from spectraderm.inference.calibration import Calibration, softmax

_PREDICTED = 0
_ARRAYS = ("labels", "groups", "logits", "novelty", "usable")
_LEAST = 1e-300


@dataclass(frozen=True)
class Source:
    """n photos of one source that the model did not learn from; `usable`, `bool[n]`: the quality gate lets them pass.

    Labels are class numbers `int64[n]`, `NO_CLASS` where a photo shows none of the classes; photo groups, `int64[n]`,
    are of all sources together; logits `float64[n, classes]` and novelty `float64[n]` are anything where not usable.
    `other` is the number of the model's class of that name, if it has one.
    """

    name: str
    labels: Integers
    groups: Integers
    logits: Reals
    novelty: Reals
    usable: Booleans
    other: int | None = None

    def take(self, rows: Booleans) -> "Source":
        """The photos of some rows."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    @property
    def own(self) -> "Source":
        """Its photos of the model's classes that a model is asked about."""
        return self.take((self.labels != NO_CLASS) & self.usable)

    @property
    def others(self) -> "Source":
        """Its photos of none of the classes; a refusal by the quality gate is a refusal."""
        return self.take(self.labels == NO_CLASS)

    def __len__(self) -> int:
        return len(self.labels)


def sources_of(photos: Predicted, temperature: float) -> list[Source]:
    """Predicted photos by source, without those that the model learned from.

    The logits are taken from probabilities at a `temperature`; they lack a number per photo that no probability needs.
    """
    sources = []
    for name in dict.fromkeys(photos.sources.tolist()):
        part = photos.of(name)
        logits = temperature * np.log(np.maximum(part.judged.probabilities, _LEAST))
        novelty = np.array([one.novelty for one in part.predictions], np.float64)
        source = Source(name, part.labels, part.groups, logits, novelty, part.usable, other_of(part.classes))
        sources.append(source.take(~part.in_training))
    return [source for source in sources if len(source)]


def fit(sources: Sequence[Source], home: Calibration, promises: Sequence[float]) -> tuple[Calibration, Control]:
    """The settings for photos from elsewhere, and how their promise was proved.

    Temperature: the smallest log loss. Sets: the quantile of nonconformity scores, with the correction for as few photo
    groups as there are, equal in every class. Novelty: that of `home`, for what shows no skin disease is the same
    everywhere. All of photos of the model's classes, weighted.

    Raises:
        DatasetError: no source has a usable photo of the model's classes.
    """
    own = [source.own for source in sources if len(source.own)]
    if not own:
        raise DatasetError(
            "none of the photos shows a class of the model", "Name folders by its classes, or give --label-map"
        )
    labels, groups, logits = (
        np.concatenate([getattr(one, name) for one in own]) for name in ("labels", "groups", "logits")
    )
    alike = np.concatenate([_alike(one.groups) for one in own])
    temperature = fit_temperature(logits, labels, alike)
    settings = Settings(home.coverage, home.set_method)
    thresholds = fit_sets(softmax(logits, temperature), labels, groups, settings, alike)
    others = [source.others for source in sources if len(source.others)]
    draft = Calibration(
        temperature=temperature,
        coverage=home.coverage,
        set_method=home.set_method,
        thresholds=tuple(thresholds.tolist()),
        confidence_threshold=0.0,
        promised_accuracy=0.0,
        novelty_threshold=home.novelty_threshold,
        answered_others=ANSWERED_OTHERS if others else None,
        places=len(own),
    )
    every = [source.take(source.labels != NO_CLASS) for source in sources]
    proof = control(_photos(every, draft), _photos(others, draft) if others else None, promises)
    return replace(draft, confidence_threshold=proof.threshold, promised_accuracy=proof.promise), proof


def calibrate_elsewhere(sources: Sequence[Source], home: Calibration, promise: float | None = None) -> dict[str, Any]:
    """`elsewhere` of `calibration.json`: the settings, how they were found, and what to expect of the next source.

    `promise` is the share of right answers to promise; None: the highest of `risk_control.PROMISES`.

    Raises:
        DatasetError: as `fit`.
    """
    promises = PROMISES if promise is None else (promise,)
    settings, proof = fit(sources, home, promises)
    groups = np.concatenate([source.groups for source in sources])
    return {
        **settings.to_dict(),
        "fitted_on": "sources",
        "n_photos": len(groups),
        "n_groups": len(np.unique(groups)),
        "promise_asked": promise,
        "promise_fails_at": FAILS_AT,
        "p_right": proof.p_right,
        "p_others": proof.p_others,
        "answered": proof.answered,
        "why": proof.why,
        "sources": [
            {
                "name": source.name,
                "photos": len(source),
                "photo_groups": len(np.unique(source.groups)),
                "others": len(source.others),
            }
            for source in sources
        ],
        "expected": expected(sources, home, promises),
    }


def expected(sources: Sequence[Source], home: Calibration, promises: Sequence[float]) -> dict[str, Any] | None:
    """What the settings would have given on each source, found without it; None of fewer than two with own classes.

    `by_source`: what `by_source.of_source` gives, and `others`, the share of photos of none of the classes that got an
    answer, with the `temperature` and `promise` found on the other sources. `pooled`: the mean over sources, each
    weighing the same; of `predicted` the `accuracy` among the answers to all sources, and `others` of all sources.
    """
    if sum(len(source.own) > 0 for source in sources) < 2:
        return None
    parts: dict[str, dict[str, Any]] = {}
    answers: list[tuple[Booleans, Integers]] = []
    for source in sources:
        rest = [other for other in sources if other is not source]
        if not any(len(other.own) for other in rest):
            continue
        settings, _ = fit(rest, home, promises)
        part, answered = _scores(source, settings)
        parts[source.name] = {"temperature": settings.temperature, "promise": settings.promised_accuracy, **part}
        answers.append(answered)
    return {"by_source": parts, "pooled": _pooled(parts, answers)}


def _scores(source: Source, settings: Calibration) -> tuple[dict[str, Any], tuple[Booleans, Integers]]:
    """A source by settings that were found without it; and whether its answers are right, with their photo groups."""
    result: dict[str, Any] = {}
    own, others = source.own, source.others
    answers: tuple[Booleans, Integers] = (np.empty(0, bool), np.empty(0, np.int64))
    if len(own):
        judged = settings.judge(own.logits, own.novelty, own.other)
        scored = Scored(own.labels, judged.probabilities, own.groups, own.other)
        sizes = resample(lambda drawn: {"size": mean(judged.sets.sum(1), drawn)}, weights(own.groups, by_group=True))
        result = of_source(scored, judged, np.ones(len(own), bool)) | {"mean_set_size": interval(sizes["size"])}
        told = judged.verdicts == _PREDICTED
        answers = (scored.right[told], own.groups[told])
    if len(others):
        told = settings.judge(others.logits, others.novelty, others.other).verdicts == _PREDICTED
        told &= others.usable
        result["others"] = rate(told, others.groups, by_group=True)
    return result, answers


def _pooled(parts: Mapping[str, Mapping[str, Any]], answers: Sequence[tuple[Booleans, Integers]]) -> dict[str, Any]:
    right, groups = (np.concatenate([each[at] for each in answers]) for at in (0, 1))
    own = [part for part in parts.values() if "accuracy" in part]
    others = [part["others"] for part in parts.values() if "others" in part]
    counts = {name: sum(part[name] for part in own) for name in ("n_photos", "n_groups")}
    names = [name for name in METRICS if name != "predicted"]
    return {
        **over_sources(parts, names).get("mean_over_sources", {}),
        **counts,
        "mean_set_size": mean_of([part["mean_set_size"] for part in own]),
        "predicted": {
            **mean_of([part["predicted"] for part in own]),
            **counts,
            "accuracy": rate(right, groups, by_group=True) if len(right) else None,
        },
        "others": {**mean_of(others), **{name: sum(one[name] for one in others) for name in ("n_photos", "n_groups")}}
        if others
        else None,
    }


def _alike(groups: Integers) -> Reals:
    """Weights of a source's photos that add up to one: every photo group weighs the same."""
    once = group_weights(groups)
    result: Reals = once / once.sum()
    return result


def _photos(sources: Sequence[Source], draft: Calibration) -> Photos:
    """One photo of every photo group, for risk control; where a group is in two sources it is the first one's."""
    sources = [source for source in sources if len(source)]
    groups = np.concatenate([source.groups for source in sources])
    first = np.sort(np.unique(groups, return_index=True)[1])
    numbers = np.repeat(np.arange(len(sources)), [len(source) for source in sources])[first]
    confidence, right = [], []
    for source in sources:
        judged = draft.judge(source.logits, source.novelty, source.other)
        answered = source.usable & (judged.verdicts == _PREDICTED)
        confidence.append(np.where(answered, judged.probabilities.max(1), NO_ANSWER))
        right.append(judged.probabilities.argmax(1) == source.labels)
    weights_alike = 1 / np.bincount(numbers, minlength=len(sources))[numbers]
    return Photos(np.concatenate(confidence)[first], np.concatenate(right)[first], weights_alike)
