"""Settings for photos from elsewhere, from labelled photos of other sources: thresholds only, never weights.

Each source weighs the same, and in each every photo group. What they promise of the next source is measured by leaving
each source out in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spectraderm.core.errors import DatasetError
from spectraderm.core.resampling import interval
from spectraderm.evaluation.bootstrap import Booleans, Integers, means, rate
from spectraderm.evaluation.by_source import METRICS, mean_of, of_source, over_sources
from spectraderm.evaluation.fitting import Settings, answers, draft, promising
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, PROMISES, Control, control
from spectraderm.evaluation.source_photos import Predicted
from spectraderm.inference.calibration import Calibration

_LEAST = 1e-300


def outputs_of(photos: Predicted, temperature: float) -> Outputs:
    """What a model made of predicted photos, without those that it learned from.

    The logits are taken from probabilities at a `temperature`; they lack a number per photo that no probability needs.
    """
    logits = temperature * np.log(np.maximum(photos.probabilities, _LEAST))
    about = (photos.labels, photos.groups, logits, photos.novelty, photos.usable, photos.sources)
    return Outputs(*about, other=photos.other).take(~photos.in_training)


def fit(photos: Outputs, home: Calibration, promises: Sequence[float]) -> tuple[Calibration, Control]:
    """The settings for photos from elsewhere, and how their promise was proved.

    Temperature: the smallest log loss. Sets: the quantile of nonconformity scores, with the correction for as few photo
    groups as there are, equal in every class. Novelty: that of `home`, for what shows no skin disease is the same
    everywhere. All of photos of the model's classes, weighted.

    Raises:
        DatasetError: there is no usable photo of the model's classes.
    """
    asked, others = _asked(photos), photos.others
    if not len(asked):
        raise DatasetError(
            "none of the photos shows a class of the model", "Name folders by its classes, or give --label-map"
        )
    fitted = replace(
        draft(asked, Settings(home.coverage, home.set_method), home.novelty_threshold),
        answered_others=ANSWERED_OTHERS if len(others) else None,
        places=len(asked.rows_of_sources),
    )
    proof = control(answers(photos.own, fitted), answers(others, fitted) if len(others) else None, promises)
    return promising(fitted, proof), proof


def calibrate_elsewhere(photos: Outputs, home: Calibration, promise: float | None = None) -> dict[str, Any]:
    """`elsewhere` of `calibration.json`: the settings, how they were found, and what to expect of the next source.

    `photos` are of several sources. `promise` is the share of right answers to promise; None: the highest of
    `risk_control.PROMISES`.

    Raises:
        DatasetError: as `fit`.
    """
    promises = PROMISES if promise is None else (promise,)
    settings, proof = fit(photos, home, promises)
    parts = {name: photos.take(rows) for name, rows in photos.rows_of_sources.items()}
    return {
        **settings.to_dict(),
        "fitted_on": "sources",
        "n_photos": len(photos),
        "n_groups": photos.n_groups,
        "promise_asked": promise,
        "promise_fails_at": FAILS_AT,
        "p_right": proof.p_right,
        "p_others": proof.p_others,
        "answered": proof.answered,
        "why": proof.why,
        "sources": [
            {
                "name": name,
                "photos": len(part),
                "photo_groups": part.n_groups,
                "others": len(part.others),
            }
            for name, part in parts.items()
        ],
        "expected": expected(photos, home, promises),
    }


def expected(photos: Outputs, home: Calibration, promises: Sequence[float]) -> dict[str, Any] | None:
    """What the settings would have given on each source, found without it; None of fewer than two with own classes.

    `by_source`: what `by_source.of_source` gives, and `others`, the share of photos of none of the classes that got an
    answer, with the `temperature` and `promise` found on the other sources. `pooled`: the mean over sources, each
    weighing the same; of `predicted` the `accuracy` among the answers to all sources, and `others` of all sources.
    """
    if len(_asked(photos).rows_of_sources) < 2:
        return None
    parts: dict[str, dict[str, Any]] = {}
    answers: list[tuple[Booleans, Integers]] = []
    for name, own in photos.rows_of_sources.items():
        settings, _ = fit(photos.take(~own), home, promises)
        part, answered = _scores(photos.take(own), settings)
        parts[name] = {"temperature": settings.temperature, "promise": settings.promised_accuracy, **part}
        answers.append(answered)
    return {"by_source": parts, "pooled": _pooled(parts, answers)}


def _scores(source: Outputs, settings: Calibration) -> tuple[dict[str, Any], tuple[Booleans, Integers]]:
    """A source by settings that were found without it; and whether its answers are right, with their photo groups."""
    result: dict[str, Any] = {}
    own, others = _asked(source), source.others
    answers: tuple[Booleans, Integers] = (np.empty(0, bool), np.empty(0, np.int64))
    if len(own):
        judged = own.judged(settings)
        sizes = means(judged.sets.sum(1), own.groups, by_group=True)
        result = of_source(judged) | {"mean_set_size": interval(sizes)}
        told = judged.predicted
        answers = (judged.right[told], own.groups[told])
    if len(others):
        told = others.judged(settings).predicted & others.usable
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


def _asked(photos: Outputs) -> Outputs:
    """The photos of the model's classes that it is asked about."""
    return photos.take(~photos.is_other & photos.usable)
