"""Exact binomial probabilities against SciPy's."""

import pytest
from scipy.stats import binom, binomtest

from spectraderm.core import binomial


@pytest.mark.parametrize("trials", [1, 7, 60, 2000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.93])
def test_sums_are_scipys(trials: int, share: float) -> None:
    for count in {-1, 0, trials // 3, trials // 2, trials - 1, trials, trials + 1}:
        assert binomial.cdf(count, trials, share) == pytest.approx(binom.cdf(count, trials, share), abs=1e-11)


@pytest.mark.parametrize(("ahead", "behind"), [(0, 0), (3, 0), (0, 8), (5, 5), (12, 4), (200, 260)])
def test_the_sign_test_is_the_exact_one(ahead: int, behind: int) -> None:
    expected = binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0
    assert binomial.sign_test(ahead, behind) == pytest.approx(expected, rel=1e-9)
