"""Folds of one's own photos, and a head that is fitted without each."""

from dataclasses import replace

import numpy as np
import pytest

from spectraderm.inference.calibration import novelty
from spectraderm.training import lda
from spectraderm.training.adapt import OWN_WEIGHT, ClosedForm, Own, cross_validate, folds_of
from spectraderm.training.photo_augmentation import KINDS


@pytest.fixture
def form() -> ClosedForm:
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], 40)
    features = (random.normal(size=(120, 9)) + 2 * np.eye(9)[targets]).astype(np.float32)
    return ClosedForm(lda.collect(features, targets, np.arange(120) // 4, 3, 3.0), 0.2, 0.5)


def own_photos(seed: int = 1) -> Own:
    """Thirteen photos, of which the first two are copies of each other, of classes 0, 2 and the new 3."""
    random = np.random.default_rng(seed)
    targets = np.array([0] * 5 + [2] * 4 + [3] * 4)
    features = random.normal(size=(13, 4, 9)) + np.eye(9)[targets + 3][:, None]
    copies = np.maximum(np.arange(13) - 1, 0)
    return Own(features.astype(np.float32), targets, copies, copies)


def test_copies_never_cross_and_every_class_is_in_every_fit() -> None:
    own = own_photos()
    for seed in range(20):
        folds = folds_of(own.targets, own.groups, seed)
        assert folds[0] == folds[1]
        assert set(folds) == set(range(5))
        for fold in range(5):
            assert set(own.targets[folds != fold]) == {0, 2, 3}
    assert set(folds_of(np.array([0, 1]), np.array([0, 1]), 0)) == {0, 1}


def test_held_out_photos_are_asked_of_a_fit_without_them(form: ClosedForm) -> None:
    own, known = own_photos(), np.random.default_rng(3).normal(size=(6, 9)).astype(np.float32)
    folds = folds_of(own.targets, own.groups, 0)
    logits, novelties = cross_validate(form, known, own, folds)
    for fold in range(5):
        held, others = folds == fold, own.take(folds != fold)
        weights, bias = form.refit(others).solve()
        np.testing.assert_allclose(logits[held], own.features[held, 0] @ weights.T + bias, atol=1e-5)
        references = np.concatenate([known, others.references])
        np.testing.assert_allclose(novelties[held], novelty(own.features[held, 0], references))
    assert logits.shape == (13, 4)


def test_a_photo_group_counts_as_some_of_the_training_photos_whatever_its_size(form: ClosedForm) -> None:
    own = own_photos()
    added = form.refit(own).statistics.counts - np.append(form.statistics.counts, 0)
    np.testing.assert_allclose(added, OWN_WEIGHT * len(KINDS) * np.array([4, 0, 4, 4]))


def test_other_has_to_win_by_a_margin_and_nothing_else_changes(form: ClosedForm) -> None:
    fitted = form.refit(own_photos())
    (weights, bias), (same, margin) = fitted.solve(), replace(fitted, other=3).solve()
    np.testing.assert_array_equal(weights, same)
    np.testing.assert_array_equal(bias[:3], margin[:3])
    assert 0 < bias[3] - margin[3] < np.ptp(fitted.statistics.centres @ weights.T)
