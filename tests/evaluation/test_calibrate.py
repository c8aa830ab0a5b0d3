import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import LABELS, Said, write_run
from numpy.typing import NDArray
from scipy.stats import binom

from spectraderm.core import Conformal
from spectraderm.core.errors import RunFolderError
from spectraderm.core.run import CALIBRATION, FEATURES, FINAL, NOVELTY, ORIGINAL, Run
from spectraderm.evaluation.bootstrap import group_weights
from spectraderm.evaluation.calibrate import calibrate, fit, held_out, judge, settings_of
from spectraderm.evaluation.fitting import NOVELTY_KEPT, Settings, fit_sets, fit_temperature, set_variants
from spectraderm.evaluation.outputs import FoldOutputs, Outputs, crossing, read_outputs
from spectraderm.evaluation.risk_control import FAILS_AT
from spectraderm.inference.calibration import nonconformity_scores, novelty, prediction_sets, softmax

CLASSES = 4
Reals = NDArray[np.float64]
Integers = NDArray[np.int64]
Random = np.random.Generator


def world(random: Random, groups: int, copies: int = 1, too_hot: float = 1.0) -> tuple[Reals, Integers, Integers]:
    """Logits, labels drawn from just the probabilities that `logits / too_hot` stand for, and photo groups.

    Of `copies` > 1 every group has 1 to so many, alike but not the same, more of them in the first class.
    """
    labels = random.choice(CLASSES, groups, p=[0.4, 0.3, 0.2, 0.1])
    logits = random.normal(0, 1, (groups, CLASSES)) + 1.6 * np.eye(CLASSES)[labels]
    logits = 1.6 * logits + np.log([0.4, 0.3, 0.2, 0.1])  # Bayes, of normals 1.6 apart
    times = random.integers(1, copies + 1, groups) + (labels == 0) * (copies > 1) * 3
    own = np.repeat(np.arange(groups), times)
    noise = random.normal(0, 0.1, (len(own), CLASSES)) if copies > 1 else 0.0
    return (logits[own] + noise) * too_hot, labels[own], own


def folded(name: str, splits: str | list[str], random: Random, groups: Integers, labels: Integers) -> FoldOutputs:
    count = len(labels)
    logits = random.normal(0, 1, (count, CLASSES)) + 2 * np.eye(CLASSES)[labels]
    paths, sides = np.arange(count).astype(str), np.array([splits] * count if isinstance(splits, str) else splits)
    return FoldOutputs(labels, groups, logits, random.random(count), fold=name, seed=0, paths=paths, splits=sides)


def three_folds(seed: int = 0) -> list[FoldOutputs]:
    """Three folds that test a third of 240 photos each; neighbours are copies."""
    random = np.random.default_rng(seed)
    labels, groups = np.repeat(random.integers(0, CLASSES, 120), 2), np.repeat(np.arange(120), 2)
    sides = [["test" if group % 3 == k else "train" for group in groups] for k in range(3)]
    return [folded(f"fold-{k + 1}", own, random, groups, labels) for k, own in enumerate(sides)]


# -- prediction sets ---------------------------------------------------------------------------------------------------


def covered(random: Random, groups: int, copies: int, settings: Settings) -> tuple[Reals, Integers]:
    """Of 200 new photo groups, the share of each one's copies that are covered, and its class."""
    logits, labels, own = world(random, groups, copies)
    thresholds = fit_sets(softmax(logits), labels, own, settings)
    logits, labels, own = world(random, 200, copies)
    sets = prediction_sets(softmax(logits), thresholds, settings.set_method)
    hits = np.bincount(own, sets[np.arange(len(labels)), labels]) / np.bincount(own)
    return hits, labels[np.unique(own, return_index=True)[1]]


@pytest.mark.parametrize("groups", [19, 100])
@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize(("name", "settings"), set_variants(Settings(coverage=0.8)).items())
def test_sets_cover_as_promised_over_many_draws(name: str, settings: Settings, copies: int, groups: int) -> None:
    random = np.random.default_rng(7)
    draws = [covered(random, groups, copies, settings) for _ in range(120)]
    rates = np.array([hits.mean() for hits, _ in draws])
    error = 3 * rates.std() / np.sqrt(len(rates))
    assert rates.mean() >= 0.8 - error
    if name == "lac" and copies == 1:  # and no more than that: Vovk's upper bound
        assert rates.mean() <= 0.8 + 1 / (groups + 1) + error
    for number in range(CLASSES):
        own = np.array([hits[labels == number].mean() for hits, labels in draws])
        if settings.per_class:
            assert own.mean() >= 0.8 - 3 * own.std() / np.sqrt(len(own))
        elif (name, copies, number) == ("lac", 1, 3):  # the rarest class is covered less: what `per_class` is for
            assert own.mean() < 0.7


@pytest.mark.parametrize("method", ["lac", "raps"])
@pytest.mark.parametrize("coverage", [0.55, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [19, 20, 99, 250])
def test_thresholds_are_the_quantile_of_the_papers(count: int, coverage: float, method: Conformal) -> None:
    logits, labels, groups = world(np.random.default_rng(count), count)
    settings = Settings(coverage=coverage, set_method=method)
    own = np.sort(nonconformity_scores(softmax(logits), method)[np.arange(count), labels])
    rank = -(-round((count + 1) * coverage * 100) // 100)
    assert fit_sets(softmax(logits), labels, groups, settings) == pytest.approx([own[rank - 1]] * CLASSES)


def test_too_few_groups_exclude_nothing() -> None:
    logits, labels, groups = world(np.random.default_rng(0), 8)
    assert (fit_sets(softmax(logits), labels, groups, Settings()) > 99).all()
    logits, labels, groups = world(np.random.default_rng(0), 9)
    assert (fit_sets(softmax(logits), labels, groups, Settings()) < 1).all()
    once = fit_sets(softmax(logits), labels, groups, Settings(per_class=True))
    assert (once > 99).all()


def test_copies_share_the_weight_of_one_photo() -> None:
    logits, labels, groups = world(np.random.default_rng(0), 60)
    again = np.repeat(np.arange(60), np.random.default_rng(1).integers(1, 9, 60))
    for settings in set_variants(Settings()).values():
        one, many = (
            fit_sets(softmax(logits[rows]), labels[rows], groups[rows], settings) for rows in (np.arange(60), again)
        )
        np.testing.assert_array_equal(one, many)


# -- temperature -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("planted", [0.3, 1.0, 2.5])
def test_the_temperature_found_is_the_one_planted(planted: float) -> None:
    logits, labels, _ = world(np.random.default_rng(0), 10_000, too_hot=planted)
    assert fit_temperature(logits, labels, np.ones(10_000)) == pytest.approx(planted, rel=0.05)


# -- the promise -------------------------------------------------------------------------------------------------------


def test_predicted_photos_keep_the_promise() -> None:
    """All of it together, on photos as they come: groups, temperature, sets, novelty; at most a tenth breaks it."""
    random = np.random.default_rng(5)
    broken, some = 0, 0
    for _ in range(40):
        fitted, new = (
            Outputs(labels, own, logits, random.random(len(own)))
            for logits, labels, own in (world(random, count, 3, 2.0) for count in (300, 2000))
        )
        settings, _ = fit(fitted, Settings(promised_accuracy=0.85))
        told = settings.judge(new.logits, new.novelty).verdicts == 0
        some += told.any()
        weights = group_weights(new.groups)[told]
        right = (new.logits.argmax(1) == new.labels)[told]
        broken += bool(told.any()) and float(np.average(right, weights=weights)) < 0.85
    assert some > 10
    assert broken <= binom.ppf(0.999, 40, FAILS_AT)


# -- novelty -----------------------------------------------------------------------------------------------------------


def test_the_novelty_threshold_keeps_95_percent_of_the_photo_groups() -> None:
    random = np.random.default_rng(0)
    kept = []
    for _ in range(200):
        _, labels, own = world(random, 200, 4)
        fold = replace(folded("f", "val", random, own, labels), novelty=random.gamma(2.0, 1.0, 200)[own])
        threshold = fit(fold, Settings())[0].novelty_threshold
        kept.append((random.gamma(2.0, 1.0, 500) <= threshold).mean())
    assert np.mean(kept) == pytest.approx(NOVELTY_KEPT, abs=0.01)


# -- who is judged by what ---------------------------------------------------------------------------------------------


def changed(fold: FoldOutputs, split: str) -> FoldOutputs:
    labels = np.where(fold.splits == split, (fold.labels + 1) % CLASSES, fold.labels)
    return replace(fold, labels=labels)


def test_a_folds_own_labels_never_touch_how_it_is_judged() -> None:
    folds = three_folds()
    before = judge(folds, Settings())
    for k, fold in enumerate(folds):
        after = judge([changed(fold, "test") if other is fold else other for other in folds], Settings())
        own = np.repeat(np.arange(3), 80) == k
        for name in ("probabilities", "sets", "verdicts"):
            np.testing.assert_array_equal(getattr(after, name)[own], getattr(before, name)[own])
        assert not np.allclose(after.probabilities[~own], before.probabilities[~own])


@pytest.mark.parametrize(("sides", "source"), [(("val", "calibration"), "calibration"), (("val", "test"), "val")])
def test_one_fold_is_judged_by_its_calibration_or_else_its_validation_photos(
    sides: tuple[str, str], source: str
) -> None:
    random = np.random.default_rng(0)
    splits = [*["train"] * 100, *[sides[0]] * 100, *[sides[1]] * 100, *["test"] * 100]
    fold = folded("final", splits, random, np.arange(400), random.integers(0, CLASSES, 400))
    assert held_out([fold])[0] == source
    assert set(held_out([fold])[1].splits) == {source}
    before = judge([fold], Settings()).probabilities
    for split in ("train", "val", "calibration", "test"):
        same = np.array_equal(judge([changed(fold, split)], Settings()).probabilities, before)
        assert same == (split != source)
    with pytest.raises(RunFolderError, match="fold final has no calibration or validation photos"):
        held_out([fold.of("train")])


def test_which_folds_are_the_score() -> None:
    folds = three_folds()
    final, given = (replace(folds[0], fold=name) for name in (FINAL, ORIGINAL))

    assert crossing("grouped", [final, *folds, given]) == folds
    assert crossing("grouped", [final, given]) == crossing("original", [final, *folds]) == [final]


# -- run folders -------------------------------------------------------------------------------------------------------


def run_of(folder: Path) -> Run:
    """As given: 30 training photos, in copies of two, and of each class ten validation photos and a test photo."""
    rows = [Said(f"t{i}.jpg", i // 2, "train", LABELS[i % 3], LABELS[0]) for i in range(30)]
    rows += [Said(f"v{i}.jpg", 100 + i, "val", LABELS[i % 3], LABELS[(i + i // 10) % 3]) for i in range(30)]
    rows += [Said(f"s{i}.jpg", 200 + i, "test", LABELS[i], LABELS[0]) for i in range(3)]
    return Run(write_run(folder, {"final": rows}, "original"))


def test_calibrating_writes_settings_and_the_photos_that_novelty_is_measured_against(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    asked = Settings(0.8, "raps", per_class=True, promised_accuracy=0.5)
    returned = calibrate(run, asked)["home"]
    assert json.loads((run.folder / CALIBRATION).read_text()) == {"home": returned}
    assert settings_of(run) == asked
    assert (returned["fitted_on"], returned["n_photos"], returned["n_groups"]) == ("val", 30, 30)
    features = np.load(run.folder / FEATURES)
    known = np.load(run.folder / NOVELTY)
    np.testing.assert_array_equal(known, features[0:30:2])  # one of each pair of copies
    assert known.dtype == np.float16
    (fold,), _ = read_outputs(run)
    np.testing.assert_array_equal(fold.novelty, np.r_[[np.nan] * 30, novelty(features[30:], known)])
    np.save(run.folder / FEATURES, features[:4])
    with pytest.raises(RunFolderError, match="features of 4 photos and logits of 63"):
        read_outputs(run)


# -- photos of none of the classes -------------------------------------------------------------------------------------


def with_others(random: Random, others: int, shift: float) -> Outputs:
    """300 photos of three classes that are nearly always right, and of `other`, the last one: their logits lie `shift`
    towards it, so that below 0 most are taken for one of the three.
    """
    labels = np.concatenate([random.integers(0, 3, 300), np.full(others, 3)])
    logits = random.normal(0, 1, (len(labels), CLASSES)) + 6 * np.eye(CLASSES)[labels] * (labels < 3)[:, None]
    logits[:, 3] += np.where(labels == 3, shift, -6)
    logits[:, :3] += 4 * np.eye(CLASSES)[random.integers(0, 3, len(labels)), :3] * (labels == 3)[:, None]
    count = len(labels)
    return Outputs(labels, np.arange(count), logits, random.random(count), other=3)


@pytest.mark.parametrize(("others", "shift", "kept"), [(200, 9.0, True), (200, -9.0, False), (20, -9.0, True)])
def test_photos_of_none_of_the_classes_are_the_second_risk_alone(others: int, shift: float, kept: bool) -> None:
    held = with_others(np.random.default_rng(3), others, shift)
    fitted, alone = (fit(photos, Settings())[0] for photos in (held, held.own))
    same = ("temperature", "thresholds", "novelty_threshold")
    assert [getattr(fitted, name) for name in same] == [getattr(alone, name) for name in same]
    judged = fitted.judge(held.logits, held.novelty, held.other)
    answered = (judged.verdicts == 0)[held.is_other]
    assert set(judged.verdicts[judged.probabilities.argmax(1) == 3].tolist()) <= {2}
    if others < 45:  # not even none of them answered would be proof: left out, and said to be unknown
        assert (fitted, fitted.answered_others) == (alone, None)
    elif kept:
        assert (fitted.answered_others, fitted.promised_accuracy) == (0.05, 0.95)
        assert binom.cdf(answered.sum(), others, 0.05) <= FAILS_AT
    else:
        assert alone.promised_accuracy == 0.95
        assert fitted.promised_accuracy is None or fitted.confidence_threshold > alone.confidence_threshold
        assert answered.mean() <= 0.05
