from collections import defaultdict

import numpy as np
import pytest
from drawn import in_groups, some
from scipy import stats

from spectraderm.core import resampling
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import Reals, Scored, rate
from spectraderm.evaluation.metrics import METRICS, scores


def slowly_resampled(one: Scored, draws: int) -> dict[str, list[Reals]]:
    """Scores of data sets made by drawing whole photo groups with replacement, one row after the other."""
    members, draw, values = defaultdict(list), np.random.default_rng(3), defaultdict(list)
    for row, group in enumerate(one.groups.tolist()):
        members[group].append(row)
    for _ in range(draws):
        drawn = [members[group] for group in draw.choice(list(members), len(members))]
        files = metrics.statistic(one.take(np.concatenate(drawn)))
        shares = np.concatenate([np.full(len(group), 1 / len(group)) for group in drawn])
        for prefix, weights in (("", np.ones(len(shares))), ("by_group ", shares)):
            for name, value in files(weights[None]).items():
                values[prefix + name].append(value[..., 0])
    return values


def test_intervals_are_those_of_a_slow_bootstrap_of_groups() -> None:
    every = some(0, classes=3, photos=400)
    photo, group = np.arange(400) % 5, np.arange(400) // 5
    one = Scored(group % 3, group * 2, every.probabilities).take(np.flatnonzero(photo <= group % 4))
    got, values = scores(one), slowly_resampled(one, 500)
    for name in set(METRICS) - {"ece", "classwise_ece"}:
        for where, slow in ((got, values[name]), (got["by_group"], values[f"by_group {name}"])):
            low, high = np.percentile(slow, [2.5, 97.5])
            near = 0.6 * float(np.std(slow))  # four standard errors of the difference of two such percentiles
            assert where[name]["low"] == pytest.approx(low, abs=near), name
            assert where[name]["high"] == pytest.approx(high, abs=near), name


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    truth, trials, hits = 0.7, 200, dict.fromkeys(("photo groups", "photo groups, each once", "files"), 0)
    for seed in range(trials):
        one = in_groups(seed, 40, (1, 8), truth)
        for name, groups in zip(hits, (one.groups, one.groups, np.arange(len(one))), strict=True):
            got = rate(one.right, groups, by_group="once" in name)
            hits[name] += got["low"] <= truth <= got["high"]
    assert all(0.91 <= hits[name] / trials <= 0.98 for name in hits if name != "files"), hits
    assert hits["files"] / trials < 0.8, hits


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one = some(7)
    whole = scores(one)
    monkeypatch.setattr(resampling, "_AT_ONCE", 77 * len(one))
    assert all(scores(one)[name] == pytest.approx(whole[name]) for name in METRICS)


def test_a_rate_has_the_interval_of_its_groups() -> None:
    hits, groups = np.arange(1000) < 300, np.arange(1000) // 10
    got = rate(hits, groups)
    wanted = stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert (got["value"], got["n_photos"], got["n_groups"], got["too_few"]) == (0.3, 1000, 100, False)
    assert (got["low"], got["high"]) == pytest.approx((wanted.low, wanted.high), abs=0.02)
    assert [rate(hits[:count], groups[:count])["too_few"] for count in (0, 90, 100)] == [True, True, False]
    assert rate(hits[:0], groups[:0])["value"] is None
    uneven = np.array([True] * 9 + [False]), np.array([0] * 9 + [1])
    assert [rate(*uneven, by_group=once)["value"] for once in (False, True)] == pytest.approx([0.9, 0.5])
