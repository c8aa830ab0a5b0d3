from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from spectraderm.core.errors import DatasetError
from spectraderm.evaluation.bootstrap import NO_CLASS
from spectraderm.evaluation.calibrate_elsewhere import calibrate_elsewhere, expected, fit
from spectraderm.evaluation.outputs import Outputs
from spectraderm.evaluation.risk_control import ANSWERED_OTHERS, FAILS_AT, PROMISES
from spectraderm.inference.calibration import Calibration, Calibrations, prediction_sets, softmax

CLASSES = 4
HOME = Calibration(0.5, 0.9, "lac", (0.6,) * CLASSES, 0.5, 0.95, 0.8)
Random = np.random.Generator
Integers = NDArray[np.int64]


def source(random: Random, name: str, own: int, others: int, *, sure: float = 3.0, start: int = 0) -> Outputs:
    """Photos whose logits, of temperature 1, are as `sure` as they say; of other conditions they are less so."""
    labels = np.r_[random.integers(0, CLASSES, own), np.full(others, NO_CLASS)].astype(np.int64)
    truth = np.eye(CLASSES)[labels] * (labels != NO_CLASS)[:, None]
    logits = sure * (random.normal(0, 1, (own + others, CLASSES)) + sure * truth)  # Bayes, of normals `sure` apart
    groups = np.arange(start, start + own + others)
    usable, names = np.ones(own + others, bool), np.full(own + others, name)
    return Outputs(labels, groups, logits, random.random(own + others) * 0.5, usable, names)


def four(seed: int, size: int = 150) -> Outputs:
    random = np.random.default_rng(seed)
    numbers = (("a", size, size, 2.2), ("b", size // 3, size, 2.0), ("c", 2 * size, 0, 1.8), ("d", 0, size, 1.5))
    return Outputs.joined(
        [
            source(random, name, own, others, sure=sure, start=1000 * at)
            for at, (name, own, others, sure) in enumerate(numbers)
        ]
    )


def of(photos: Outputs, *names: str) -> Outputs:
    return photos.take(np.isin(photos.arrays["sources"], names))


def test_the_temperature_is_that_of_the_sources_each_weighing_the_same() -> None:
    """A large source that is twice too sure of itself does not outweigh a small one that is not."""
    random = np.random.default_rng(0)
    one, two = source(random, "a", 4000, 0), source(random, "b", 400, 0, start=9000)
    hot = replace(one, logits=one.logits * 2)
    alone = [fit(each, HOME, PROMISES)[0].temperature for each in (hot, two)]
    assert alone == pytest.approx([2, 1], rel=0.15)
    both = fit(Outputs.joined([hot, two]), HOME, PROMISES)[0].temperature
    assert 1.25 < both < 1.75
    again = two.take(np.tile(np.arange(len(two)), 9))
    assert fit(Outputs.joined([hot, again]), HOME, PROMISES)[0].temperature == pytest.approx(both)


def test_sets_hold_their_coverage_of_the_sources_on_average_and_novelty_is_that_of_home() -> None:
    draws = np.random.default_rng(0), np.random.default_rng(1)
    numbers = (("a", 100, 1.2), ("b", 300, 1.0), ("c", 900, 0.8))
    kept, new = (
        [
            source(draw, name, own * times, 50, sure=sure, start=9000 * at)
            for at, (name, own, sure) in enumerate(numbers)
        ]
        for draw, times in zip(draws, (1, 3), strict=True)
    )
    for sources in (kept, new):  # one that is too sure of itself is covered less
        sources[2] = replace(sources[2], logits=sources[2].logits * 4)
    settings, _ = fit(Outputs.joined(kept), HOME, PROMISES)
    covered = []
    for own in (each.own for each in new):
        sets = prediction_sets(softmax(own.logits, settings.temperature), np.array(settings.thresholds), "lac")
        covered.append(sets[np.arange(len(own)), own.labels].mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)
    assert abs(np.average(covered, weights=[100, 300, 900]) - 0.9) > 0.02  # as if they did not weigh the same
    assert (settings.novelty_threshold, settings.coverage, settings.places) == (HOME.novelty_threshold, 0.9, 3)
    assert len(set(settings.thresholds)) == 1
    few = Outputs.joined([of(four(1), name).take(np.arange(4)) for name in "ab"])
    assert fit(few, HOME, PROMISES)[0].thresholds[0] > 99  # 8 photos are too few: no score is too large


def test_both_promises_hold_for_photos_like_those_of_the_sources_in_nine_of_ten_calibrations() -> None:
    broken, given = 0, 0
    new = four(99, 1500)
    for seed in range(60):
        settings, proof = fit(four(seed), HOME, PROMISES)
        assert (settings.promised_accuracy, settings.confidence_threshold) == (proof.promise, proof.threshold)
        if proof.promise is None:
            continue
        given += 1
        right, told, others = [], [], []
        for each in (of(new, name) for name in "abcd"):
            answered = settings.judge(each.logits, each.novelty).verdicts == 0
            own = ~each.is_other
            guess = each.logits.argmax(1) == each.labels
            right.append((answered & guess)[own].sum() / max(own.sum(), 1))
            told.append(answered[own].sum() / max(own.sum(), 1))
            others.append(answered[~own].mean() if (~own).any() else np.nan)
        broken += sum(right) / sum(told) < proof.promise or bool(np.nanmean(others) > ANSWERED_OTHERS)
    assert given > 30
    assert broken <= binom.ppf(0.999, 60, FAILS_AT)


def test_photos_that_get_no_answer_anyway_are_never_proof() -> None:
    """Out of scope, unusable, or of several classes that fit: as if they were not sure at all."""
    photos = four(1)
    _, proof = fit(photos, HOME, (0.8,))
    assert proof.promise == 0.8
    far = replace(photos, novelty=np.full(len(photos), 0.9))
    assert "0 of its" in fit(far, HOME, (0.8,))[1].why
    with pytest.raises(DatasetError, match="none of the photos shows a class of the model"):
        fit(replace(photos, usable=np.full(len(photos), False)), HOME, (0.8,))


def test_without_photos_of_other_conditions_the_second_promise_is_not_made() -> None:
    found = calibrate_elsewhere(four(1).own, HOME)
    assert (found["answered_others"], found["p_others"], found["places"]) == (None, None, 3)
    assert [one["others"] for one in found["sources"]] == [0, 0, 0]
    assert found["expected"]["pooled"]["others"] is None


def test_what_was_found_is_a_calibration_and_says_on_what() -> None:
    photos = four(1)
    found = calibrate_elsewhere(photos, HOME, 0.85)
    both = Calibrations.from_dict({"home": HOME.to_dict(), "elsewhere": found})
    assert both.elsewhere == fit(photos, HOME, (0.85,))[0]
    assert (found["promise_asked"], found["promised_accuracy"]) == (0.85, 0.85)
    assert found["sources"][1] == {"name": "b", "photos": 200, "photo_groups": 200, "others": 150}
    assert max(found["p_right"], found["p_others"]) <= FAILS_AT
    assert 0 < found["answered"] < 1
    never = calibrate_elsewhere(replace(photos, logits=photos.logits * 0), HOME)
    assert (never["promised_accuracy"], never["confidence_threshold"]) == (None, 1.01)
    assert never["why"]


def test_each_source_is_judged_by_settings_that_were_found_without_it() -> None:
    photos = four(3)
    got = expected(photos, HOME, PROMISES)
    assert got is not None
    assert list(got["by_source"]) == ["a", "b", "c", "d"]
    turned = (photos.arrays["sources"] == "a") & ~photos.is_other
    again = expected(
        replace(photos, labels=np.where(turned, (photos.labels + 1) % CLASSES, photos.labels)), HOME, PROMISES
    )
    assert again is not None
    for name in ("temperature", "promise", "stated", "others", "mean_set_size"):
        assert again["by_source"]["a"][name] == got["by_source"]["a"][name]
    assert again["by_source"]["a"]["accuracy"]["value"] < got["by_source"]["a"]["accuracy"]["value"]
    assert again["by_source"]["b"]["temperature"] != got["by_source"]["b"]["temperature"]
    settings, _ = fit(of(photos, "b", "c", "d"), HOME, PROMISES)
    own = of(photos, "a").own
    judged = settings.judge(own.logits, own.novelty)
    part = got["by_source"]["a"]
    assert part["stated"]["value"] == pytest.approx(judged.probabilities.max(1).mean())
    assert part["predicted"]["value"] == pytest.approx((judged.verdicts == 0).mean())
    pooled = got["pooled"]
    assert pooled["n_photos"] == len(photos.own)
    assert pooled["coverage"]["value"] == pytest.approx(
        np.mean([one["coverage"]["value"] for one in got["by_source"].values() if "coverage" in one])
    )
    assert "accuracy" not in got["by_source"]["d"]
    assert expected(of(photos, "a", "d"), HOME, PROMISES) is None
