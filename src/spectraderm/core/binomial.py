"""Exact binomial probabilities, in plain Python: what exact tests of counts are made of."""

import math


def cdf(count: int, trials: int, share: float) -> float:
    """How likely at most `count` of so many trials succeed, each with probability `share`, between 0 and 1."""
    if count < 0 or trials < count:
        return float(count >= 0)
    logs = math.log(share), math.log1p(-share)
    whole = math.lgamma(trials + 1)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * logs[0] + (trials - k) * logs[1])
        for k in range(count + 1)
    )
    return min(math.fsum(terms), 1.0)


def sign_test(ahead: int, behind: int) -> float:
    """The exact two-sided p-value of so many wins and losses, if both were as likely."""
    return min(1.0, 2 * cdf(min(ahead, behind), ahead + behind, 0.5))
