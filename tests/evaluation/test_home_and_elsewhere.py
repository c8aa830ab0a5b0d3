"""Two numbers side by side: at home and, by source, elsewhere; and which of them flatter."""

from pathlib import Path
from typing import Any

import pytest
from handmade import CALIBRATED, leaking_run
from pages import clean_run, evaluated, external, report, share

from spectraderm.core.files import write_json
from spectraderm.core.run import CALIBRATION, CARD, Run
from spectraderm.evaluation.home_and_elsewhere import promises, side_by_side

METRICS = ("accuracy", "group_accuracy", "balanced_accuracy", "macro_f1", "stated")


def scores(right: float) -> dict[str, Any]:
    return {"n_photos": 40, "n_groups": 30} | {name: share(right) for name in METRICS}


def from_source(right: float) -> dict[str, Any]:
    """A source of `expected`, judged by settings that were found on the others."""
    return {**scores(right), "coverage": share(0.9), "predicted": {**share(0.1), "accuracy": share(0.95)}}


def calibrated_elsewhere(run: Path, **settings: object) -> Path:
    pooled = {"predicted": {**share(0.12), "accuracy": share(0.93)}, "others": share(0.02)}
    by_source = {"a": from_source(0.5), "b": from_source(0.7), "others only": {"others": share(0.02)}}
    own = {**CALIBRATED, "promised_accuracy": 0.8, "answered_others": 0.05, "places": 2, "why": ""}
    expected = {"by_source": by_source, "pooled": pooled}
    write_json(run / CALIBRATION, {"home": CALIBRATED, "elsewhere": own | {"expected": expected} | settings})
    return run


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in side_by_side(Run(run), evaluated(run))}


def test_sources_that_calibrated_are_named_and_shown_by_the_settings_found_without_them(tmp_path: Path) -> None:
    run = calibrated_elsewhere(clean_run(tmp_path))
    external(run, "a", scores=scores(0.99), chosen_on=True)  # by the model's own settings: flatters
    external(run, "c", scores=scores(0.9))
    rows = rows_of(run)
    assert list(rows) == ["at home", "elsewhere: a", "elsewhere: b", "elsewhere: c", "elsewhere, mean"]
    notes = {name: row["notes"] for name, row in rows.items()}
    assert notes["elsewhere: a"] == ["chosen on", "calibrated on", "worst"]
    assert (notes["elsewhere: b"], notes["elsewhere: c"]) == (["calibrated on"], [])
    assert rows["elsewhere: a"]["group_accuracy"]["value"] == 0.5
    home = evaluated(run)
    assert rows["at home"]["group_accuracy"] == home["protocols"][0]["group_accuracy"]
    assert rows["at home"]["predicted"] == home["refusals"]["predicted"]
    assert rows["elsewhere, mean"]["group_accuracy"]["value"] == pytest.approx((0.7 + 0.9) / 2)  # not what chose
    assert notes["elsewhere, mean"] == ["of 2 sources, not chosen on"]
    assert rows["elsewhere, mean"]["coverage"] is None  # c's is not known


def test_where_all_sources_were_chosen_on_their_mean_says_so(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    for name, right in (("a", 0.5), ("b", 0.7), ("c", 0.9)):
        external(run, name, scores=scores(right), chosen_on=name != "c")
    mean = rows_of(run)["elsewhere, mean"]
    assert mean["group_accuracy"]["value"] == pytest.approx(0.7)
    assert mean["notes"] == ["of 3 sources", "2 of them chosen on"]
    rows = {row["name"]: row for row in evaluated(run)["protocols"]}
    assert rows["external:c"]["believe"]  # rather than what flatters
    assert "therefore flatters" in rows["external:a"]["words"]
    assert rows["external:a"]["title"].endswith(", chosen on")


def test_what_is_promised_stands_with_what_was_measured_and_why_not(tmp_path: Path) -> None:
    run = calibrated_elsewhere(clean_run(tmp_path))
    report(run)
    assert "Elsewhere, mean of 2 sources: **60.0 %" in (run / CARD).read_text(encoding="utf-8")
    home, elsewhere = promises(Run(run), evaluated(run))
    assert (home["promised_accuracy"], home["answered_others"], home["others"]) == (0.95, None, None)
    assert (elsewhere["promised_accuracy"], elsewhere["answered_others"]) == (0.8, 0.05)
    assert [elsewhere[name]["value"] for name in ("answered", "accuracy", "others")] == [0.12, 0.93, 0.02]
    nothing = {"promised_accuracy": None, "confidence_threshold": 1.01, "why": "too few are right"}
    text = report(calibrated_elsewhere(run, **nothing)).text
    assert "too few are right" in text
    assert "Why nothing elsewhere: too few are right." in (run / CARD).read_text(encoding="utf-8")
    assert "Measured on its own photos only" not in text


def test_a_run_that_was_never_elsewhere_says_so_and_names_the_command(tmp_path: Path) -> None:
    run = clean_run(tmp_path)
    assert list(rows_of(run)) == ["at home"]
    told = (report(run).text, (run / CARD).read_text(encoding="utf-8"))
    assert all("Measured on its own photos only" in text for text in told)
    assert all("spectraderm calibrate RUN --external PHOTOS..." in text for text in told)
    external(run, "a", scores=scores(0.5))
    assert "was set on its own photos only, and does not hold elsewhere" in report(run).text


def test_home_is_without_the_copies_where_they_are_known(tmp_path: Path) -> None:
    run = leaking_run(tmp_path)
    home = rows_of(run)["at home"]
    assert (home["n_photos"], home["notes"], home["predicted"]) == (2, [], None)
