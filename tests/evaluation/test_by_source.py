from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import LABELS, Said, write_run
from pages import Page

from spectraderm.core.files import write_json
from spectraderm.core.run import CARD, EXTERNAL, MANIFEST, REPORT, Run
from spectraderm.data import manifest
from spectraderm.evaluation.bootstrap import Judged, group_weights
from spectraderm.evaluation.by_source import METRICS, by_source, mean_of, over_sources
from spectraderm.evaluation.calibrate import calibrate
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.report import write_report

A, B, D = LABELS
SIZES = {"one": 60, "two": 24, "few": 6, "": 9}


@pytest.fixture
def judged() -> tuple[list[str], Judged]:
    """Photos of three sources and of none, in groups of one to three copies, each source right as often as it is."""
    random = np.random.default_rng(3)
    sources = [source for source, count in SIZES.items() for _ in range(count)]
    rights = np.concatenate([random.random(SIZES[s]) < r for s, r in zip(SIZES, (0.9, 0.5, 0.3, 1), strict=True)])
    labels = random.integers(0, 3, len(sources))
    confidence = random.uniform(0.4, 1, len(sources))
    probabilities = np.repeat((1 - confidence[:, None]) / 2, 3, axis=1)
    probabilities[np.arange(len(sources)), (labels + ~rights) % 3] = confidence
    groups = np.concatenate([100 * i + random.integers(0, max(3, n // 2), n) for i, n in enumerate(SIZES.values())])
    verdicts = np.where(confidence > 0.7, 0, 1)
    return sources, Judged(labels, groups, probabilities, sets=probabilities > 0.2, verdicts=verdicts)


def test_the_scores_are_those_of_each_sources_photos(judged: tuple[list[str], Judged]) -> None:
    sources, scored = judged
    got = by_source(sources, scored)
    assert list(got["by_source"]) == ["few", "one", "two"]
    for source, own in got["by_source"].items():
        rows = np.array(sources) == source
        weights = group_weights(scored.groups[rows])
        right, confidence = scored.right[rows], scored.confidence[rows]
        sets = scored.sets[rows][np.arange(rows.sum()), scored.labels[rows]]
        sure = scored.verdicts[rows] == 0
        again = group_weights(scored.groups[rows][sure])  # each group counts once among those answered, too
        assert (own["n_photos"], own["n_groups"]) == (
            SIZES[source],
            len(weights[weights > 0]) and len({*scored.groups[rows]}),
        )
        expected = {
            "accuracy": right.mean(),
            "group_accuracy": np.average(right, weights=weights),
            "stated": np.average(confidence, weights=weights),
            "coverage": np.average(sets, weights=weights),
            "predicted": np.average(sure, weights=weights),
        }
        assert {name: own[name]["value"] for name in expected} == pytest.approx(expected)
        assert own["predicted"]["accuracy"]["value"] == pytest.approx(np.average(right[sure], weights=again))
        assert all(own[name]["low"] <= own[name]["value"] <= own[name]["high"] for name in METRICS)
        assert own["too_few"] == (source == "few")
    means = got["mean_over_sources"]
    assert means["n_sources"] == 3
    for name in METRICS:
        assert means[name]["value"] == pytest.approx(np.mean([own[name]["value"] for own in got["by_source"].values()]))
    worst = min(got["by_source"], key=lambda source: float(got["by_source"][source]["group_accuracy"]["value"]))
    assert got["worst_source"] == worst


def test_without_sources_there_is_nothing_and_of_one_there_is_no_mean(
    judged: tuple[list[str], Judged],
) -> None:
    sources, scored = judged
    assert by_source([""] * len(sources), scored) == {}
    assert set(by_source(["A"] * len(sources), scored)) == {"by_source"}


def test_the_interval_of_the_mean_is_that_of_drawing_photos_within_each_source() -> None:
    """Against a bootstrap of all sources together, photos drawn within each (strata of Davison & Hinkley 1997)."""
    random, parts, draws = np.random.default_rng(0), [], []
    for share, count in ((0.8, 90), (0.5, 150), (0.65, 40)):
        right = random.random(count) < share
        means = right[random.integers(0, count, (4000, count))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        parts.append({"value": right.mean(), "low": low, "high": high})
        draws.append(means)
    got, (low, high) = mean_of(parts), np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    assert (got["low"], got["high"]) == pytest.approx((low, high), abs=0.006)
    undefined = {"value": None, "low": None, "high": None}
    assert mean_of([*parts, undefined]) == got
    assert mean_of([undefined]) == undefined
    assert over_sources({"A": {"n_photos": 3}, "B": {"group_accuracy": parts[0]}}) == {}


def left_out_run(folder: Path) -> Path:
    """Two sources, each tested by a fold that learned from the other; one photo of `ours` is excluded in both."""

    def fold(tested: str) -> Sequence[Said]:
        rows = []
        for number in range(24):
            source, label = ("ours", "theirs")[number % 2], LABELS[number % 3]
            wrong = source == "theirs" and number % 4 == 1
            side = "test" if source == tested else "val" if number % 5 == 0 else "train"
            guess = LABELS[(number + wrong) % 3]
            rows.append(Said(f"{source}/{number}.jpg", number, side if number else "excluded", label, guess, 3.0))
        return rows

    final = [replaced._replace(split="val" if i % 4 == 0 else "train") for i, replaced in enumerate(fold(""))]
    write_run(folder, {"final": final, "fold-1": fold("ours"), "fold-2": fold("theirs")}, "by-source")
    rows = manifest.read(folder / MANIFEST)
    manifest.write(folder / MANIFEST, [replace(row, source=row.path.split("/")[0]) for row in rows])
    return folder


@pytest.mark.usefixtures("quick_report")
def test_a_run_by_source_says_how_each_source_fared_in_file_report_and_card(tmp_path: Path) -> None:
    run = Run(left_out_run(tmp_path / "run"))
    assert calibrate(run)["home"]["fitted_on"] == "out_of_fold"
    got = evaluate(run)
    assert (got["protocol"], got["folds"], got["folds_asked"], got["splits"]["test"]["n_photos"]) == (
        "by-source",
        2,
        1,
        23,
    )
    assert {name: own["n_photos"] for name, own in got["by_source"].items()} == {"ours": 11, "theirs": 12}
    assert (got["by_source"]["ours"]["accuracy"]["value"], got["by_source"]["theirs"]["accuracy"]["value"]) == (1, 0.5)
    assert (got["mean_over_sources"]["accuracy"]["value"], got["worst_source"]) == (0.75, "theirs")
    (row,) = got["protocols"]
    assert (row["name"], row["believe"]) == ("by-source", True)
    assert "The worst is theirs: 50.0 %" in row["words"]
    assert " 1 are left out" in row["words"]
    write_report(run, got)
    page, card = Page(run.path(REPORT).read_text()), run.path(CARD).read_text()
    assert page.row("theirs worst")[1][2].startswith("50.0 %")
    assert "--split by-source --folds 1" in card
    assert "| theirs (worst) | 12 (12) | 50.0 %" in card
    assert "of photos of a source that it never saw are guessed right" in page.text


@pytest.mark.usefixtures("quick_report")
def test_sources_elsewhere_are_averaged_and_the_worst_is_named(tmp_path: Path) -> None:
    run = Run(left_out_run(tmp_path / "run"))
    calibrate(run)
    for name, right, photos in (("near us", 0.8, 40), ("far", 0.4, 400)):
        share: dict[str, Any] = {"value": right, "low": right - 0.06, "high": right + 0.08}
        names = ("accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")
        scores = {**dict.fromkeys(names, share), "n_photos": photos, "n_groups": photos}
        write_json(run.path(EXTERNAL) / f"{name}.json", {"name": name, "in_training": 0, "scores": scores})
    got = evaluate(run)
    row = got["protocols"][-1]
    assert (row["name"], row["believe"], row["n_photos"]) == ("external:every source", True, 440)
    expected = {"value": 0.6, "low": 0.6 - 0.06 / 2**0.5, "high": 0.6 + 0.08 / 2**0.5}
    assert row["group_accuracy"] == pytest.approx(expected)
    assert "The worst is far: 40.0 %" in row["words"]
    write_report(run, got)
    assert "Mean of 2 sources elsewhere: 60.0 %" in run.path(CARD).read_text()
    assert "Mean of 2 sources elsewhere: 60.0 %" in " ".join(Page(run.path(REPORT).read_text()).text.split())
