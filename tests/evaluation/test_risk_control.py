from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from spectraderm.evaluation.risk_control import FAILS_AT, NEVER_SURE, NO_ANSWER, PROMISES, Photos, control, needed

Reals = NDArray[np.float64]
Accuracy = Callable[[Reals], Reals]

GRID = (np.arange(10_000) + 0.5) / 10_000
TRUTHS: dict[str, Accuracy] = {
    "just not good enough anywhere": lambda sure: np.full(len(sure), 0.9499),
    "the surer the better": lambda sure: 0.3 + 0.7 * sure,
    "a cliff": lambda sure: np.where(sure > 0.6, 0.99, 0.5),
    "surest are worst": lambda sure: np.where(sure > 0.9, 0.9, 0.99),
    "nothing can be proved": lambda sure: np.full(len(sure), 0.5),
}
OTHERS: dict[str, float] = {"rarely sure": 20.0, "as sure as its own": 1.0, "surer": 0.5}
"""How sure a model is of photos of other conditions: uniform numbers to this power."""


def alike(confidence: Reals, right: NDArray[np.bool_] | None = None) -> Photos:
    """Photos of one source; of none of the classes where `right` is not given."""
    return Photos(confidence, np.zeros(len(confidence), bool) if right is None else right, np.ones(len(confidence)))


@pytest.mark.parametrize("power", [None, *OTHERS.values()], ids=["no others", *OTHERS])
@pytest.mark.parametrize("truth", TRUTHS.values(), ids=TRUTHS)
@pytest.mark.parametrize("promises", [(0.95,), PROMISES], ids=["one", "highest"])
def test_both_promises_are_broken_in_a_tenth_of_draws_at_most(
    promises: tuple[float, ...], truth: Accuracy, power: float | None
) -> None:
    """Of 300 draws, by what is true above the threshold; of the highest of four, too, though it is chosen."""
    random = np.random.default_rng(0)
    tail = truth(GRID)[::-1].cumsum()[::-1] / np.arange(10_000, 0, -1)  # true accuracy from each confidence on
    broken, given = 0, 0
    for _ in range(300):
        sure = random.random(300)
        own = alike(sure, random.random(300) < truth(sure))
        others = None if power is None else alike(random.random(200) ** power)
        found = control(own, others, promises)
        if found.promise is None:
            assert (found.threshold, bool(found.why)) == (NEVER_SURE, True)
            continue
        given += 1
        right = tail[min(int(found.threshold * 10_000), 9_999)] >= found.promise
        few = power is None or 1 - found.threshold ** (1 / power) <= 0.05
        broken += not (right and few)
    assert broken <= binom.ppf(0.999, 300, FAILS_AT)
    if (len(promises), truth, power) == (4, TRUTHS["the surer the better"], None):
        assert given > 100  # and it is worth something
    if truth is TRUTHS["nothing can be proved"]:
        assert given < 10


def test_all_right_is_proof_from_as_many_photos_as_the_test_needs() -> None:
    """0.95 ** 45 is the first power below a tenth, as is 0.8 ** 11."""
    assert [needed(promise) for promise in PROMISES] == [45, 22, 15, 11]
    sure, right = np.linspace(0.9, 0.5, 100), np.ones(100, bool)
    few = control(alike(sure[:44], right[:44]), promises=(0.95,))
    assert (few.promise, few.threshold) == (None, NEVER_SURE)
    assert (
        few.why == "44 of its 44 photos could get an answer at all: 95 of 100 right can't be proved from fewer than 45"
    )
    assert control(alike(sure[:45], right[:45]), promises=(0.95,)).threshold == sure[44]
    assert control(alike(sure[:44], right[:44])).promise == 0.9
    equally_sure = np.full(200, 0.9)  # are in or out together, though those that come first are right
    assert control(alike(equally_sure, np.repeat([True, False], 100))).promise is None


def test_the_sequence_ends_where_a_promise_can_no_longer_be_proved_whatever_comes_after() -> None:
    sure = np.linspace(0.99, 0.5, 400)
    right = np.ones(400, bool)
    right[60:80] = False
    found = control(alike(sure, right), promises=(0.95,))
    assert sure[80] < found.threshold <= sure[44]
    assert found.p_right is not None and found.p_right <= FAILS_AT  # noqa: PT018
    assert found.answered == pytest.approx((sure >= found.threshold).mean())


def test_photos_of_other_conditions_hold_the_threshold_up() -> None:
    sure, right = np.linspace(0.99, 0.5, 400), np.ones(400, bool)
    others = np.full(200, 0.1)
    others[:20] = 0.7
    alone, both = (control(alike(sure, right), each) for each in (None, alike(others)))
    assert (alone.threshold < 0.52, alone.p_others) == (True, None)
    assert (both.promise, both.threshold > 0.7) == (0.95, True)
    surest = control(alike(sure, right), alike(np.where(others == 0.7, 1.0, 0.1)))
    assert surest.promise is None
    assert "20 of 200 photos of other conditions would get one" in surest.why
    few = control(alike(sure, right), alike(np.full(40, 0.1)))
    assert "0 of 40 photos of other conditions" in few.why  # 0.95 ** 40 is no proof


def test_shares_with_each_source_alike_end_it_sooner_and_never_later() -> None:
    """Ten wrong photos of a small source: a few of all photos, and half of what the sources weigh."""
    sure, right = np.linspace(0.99, 0.5, 400), np.ones(400, bool)
    right[100:110] = False
    small = np.where(right, 1 / 390, 1 / 10)
    same, weighed = (control(Photos(sure, right, weights), promises=(0.9,)) for weights in (np.ones(400), small))
    assert same.threshold < weighed.threshold
    assert weighed.threshold > sure[100]
    right[:10] = False
    assert "with each source weighing the same" in control(Photos(sure, right, np.where(right, 0.01, 1.0))).why


def test_photos_that_get_no_answer_anyway_count_among_all_and_never_pass() -> None:
    sure = np.where(np.arange(400) < 100, np.linspace(0.99, 0.5, 400), NO_ANSWER)
    found = control(alike(sure, np.ones(400, bool)), promises=(0.95,))
    assert found.threshold >= sure[99]
    assert found.answered <= 0.25


@pytest.mark.parametrize("promise", [0.9, 0.8])
@pytest.mark.parametrize("power", [1.5, 6.0, 20.0])
def test_p_values_and_thresholds_are_those_of_mapie(promise: float, power: float) -> None:
    """Both risks at once, as two of its own: wrong among answers to own classes, and answers to others."""
    from mapie.risk_control import BinaryClassificationController, BinaryRisk

    random = np.random.default_rng(3)
    sure, others = np.round(random.random(300), 6), np.round(random.random(200) ** power, 6)
    right = random.random(300) < 0.8 + 0.2 * sure
    thresholds = np.sort(sure)[::-1][[round(60 + step * 7.5) - 1 for step in range(33)]]
    true = np.r_[right.astype(int), np.full(200, 2)]
    risks = [
        BinaryRisk(lambda true, _: true == 0, lambda true, answered: (answered == 1) & (true < 2), False),
        BinaryRisk(lambda _, answered: answered == 1, lambda true, _: true == 2, False),
    ]
    theirs = BinaryClassificationController(
        lambda x: np.stack([1 - x[:, 0], x[:, 0]], axis=1),
        risks,
        [1 - promise, 0.05],
        confidence_level=1 - FAILS_AT,
        list_predict_params=np.sort(thresholds),
        fwer_method="bonferroni",  # its fixed sequence takes one risk: the sequence is walked below
    )
    theirs.calibrate(np.r_[sure, others][:, None], true)
    falling = theirs.p_values[::-1, 0]  # from the surest on; the larger of both
    ends = next((at for at, p_value in enumerate(falling) if p_value > FAILS_AT), len(falling))
    ours = control(alike(sure, right), alike(others), (promise,), start=0.2)
    assert ours.threshold == (thresholds[ends - 1] if ends else NEVER_SURE)
    assert ends or power < 20
    if ends:
        assert max(ours.p_right or 0, ours.p_others or 0) == pytest.approx(falling[ends - 1])
