"""How good a run's model is at home and, by source, elsewhere, side by side; and what `predicted` promises at each.

Elsewhere are photos of sources that it did not learn from: those that calibrated it, each judged by settings that were
found without it; those of a `by-source` split, each by a model that was trained on the others; and those that `evaluate
MODEL PHOTOS` scored. A source by which a recipe was chosen is called that: its score flatters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spectraderm.core.run import Run
from spectraderm.evaluation.by_source import mean_of
from spectraderm.evaluation.protocols import EXTERNAL_ROW, external_results
from spectraderm.inference.prediction import ALONE

HOME, MEAN = "at home", "elsewhere, mean"
CHOSEN_ON, CALIBRATED_ON, WORST = "chosen on", "calibrated on", "worst"
UNCALIBRATED = "What it states and promises was set on its own photos only, and does not hold elsewhere."
_AVERAGED = ("group_accuracy", "stated", "coverage", "predicted")
_SHOWN = ("n_photos", "n_groups", *_AVERAGED)

Row = dict[str, Any]


def side_by_side(run: Run, evaluation: Mapping[str, Any]) -> list[Row]:
    """A row for home, where it was measured, one for each source elsewhere, and the mean of those.

    Each has `name`, `notes` (`CHOSEN_ON`, `CALIBRATED_ON`, `WORST`, or that copies flatter it), `n_photos`, `n_groups`,
    and with intervals `group_accuracy`, `stated`, `coverage`, `predicted` and its `accuracy`, None where unknown. In
    the mean each source weighs the same. Sources that were chosen on are in it only where there are not two others.
    """
    rows = _sources(run, evaluation)
    for row in rows:
        if len(rows) > 1 and row is min(rows, key=lambda one: one["group_accuracy"]["value"]):
            row["notes"].append(WORST)
    clean = [row for row in rows if CHOSEN_ON not in row["notes"]]
    averaged = clean if len(clean) > 1 else rows
    home = [] if evaluation["protocol"] == "by-source" else [_home(evaluation)]
    mean = [_mean(averaged, len(rows) - len(averaged))] if len(averaged) > 1 else []
    return [*home, *rows, *mean]


def warning(run: Run, evaluation: Mapping[str, Any]) -> str:
    """What to say of a model whose settings were never found on photos of other sources; else nothing."""
    if evaluation["protocol"] == "by-source" or run.calibration.get("elsewhere"):
        return ""
    return UNCALIBRATED if _sources(run, evaluation) else ALONE


def promises(run: Run, evaluation: Mapping[str, Any]) -> list[Row]:
    """What `predicted` promises at home, and elsewhere where the model was calibrated there.

    Each has `name`; `promise` and `answered_others`, None where nothing is promised; `why` not; and as measured on
    photos that set neither: `answered` with its `accuracy`, and `others`, the share of photos of no class answered.
    """
    rows, calibrations = [], run.calibration
    for name, place in (("home", HOME), ("elsewhere", "elsewhere")):
        if not (settings := calibrations.get(name)):
            continue
        measured = {"predicted": evaluation["refusals"]["predicted"]}
        if name == "elsewhere":
            measured = (settings.get("expected") or {}).get("pooled") or {}
        own = {key: settings.get(key) for key in ("promised_accuracy", "answered_others")}
        answered = measured.get("predicted")
        rows.append({"name": place, **own, "why": settings.get("why", ""), "answered": answered})
        rows[-1] |= {"accuracy": (answered or {}).get("accuracy"), "others": measured.get("others")}
    return rows


def _home(evaluation: Mapping[str, Any]) -> Row:
    """The held-out photos of its own collection; without the copies among them, where those are known."""
    rows = [row for row in evaluation["protocols"] if not row["name"].startswith(EXTERNAL_ROW)]
    best = [*rows[:1], *(row for row in rows if not row["leaked"])][-1]
    test, calibration = evaluation["splits"]["test"], evaluation["calibration"]
    more = {}
    if best["name"] == evaluation["protocol"]:  # else these are of other photos
        coverage = calibration["sets"][calibration["shipped"]]["by_group"]["coverage"]
        more = {"coverage": coverage, "predicted": evaluation["refusals"]["predicted"], "stated": test.get("stated")}
    notes = [f"{best['leaked']} copies of training photos flatter it"] if best["leaked"] else []
    return _row(HOME, best | more, notes)


def _sources(run: Run, evaluation: Mapping[str, Any]) -> list[Row]:
    """A row for each source that the model did not learn from."""
    external = {result["name"]: result for result in external_results(run)}
    chosen = {name for name, result in external.items() if result.get("chosen_on")}
    expected = (run.calibration.get("elsewhere") or {}).get("expected") or {}
    parts: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    if evaluation["protocol"] == "by-source":
        parts |= {name: (own, []) for name, own in evaluation.get("by_source", {}).items()}
    for name, own in expected.get("by_source", {}).items():
        parts[name] = (own, [CALIBRATED_ON])
    for name, result in external.items():
        if name not in parts and result.get("scores"):
            coverage = result.get("sets", {}).get("by_group", {}).get("coverage")
            known = {"coverage": coverage, "predicted": result.get("refusals", {}).get("predicted")}
            parts[name] = ({**result["scores"], **known}, [])
    values = {name: (own.get("group_accuracy") or {}).get("value") for name, (own, _) in parts.items()}
    scored = {name: own for name, own in parts.items() if values[name] is not None}
    return [
        _row(f"elsewhere: {name}", own, [*([CHOSEN_ON] if name in chosen else []), *notes])
        for name, (own, notes) in sorted(scored.items())
    ]


def _row(name: str, own: Mapping[str, Any], notes: Sequence[str]) -> Row:
    shown = {key: own.get(key) for key in _SHOWN}
    return {"name": name, "notes": list(notes), **shown, "accuracy": (shown["predicted"] or {}).get("accuracy")}


def _mean(rows: Sequence[Row], left_out: int) -> Row:
    """The mean of sources, less so many that were chosen on; what one of them lacks has none."""
    counts = {key: sum(row[key] for row in rows) for key in ("n_photos", "n_groups")}
    means = {key: mean_of([row[key] for row in rows]) if all(row[key] for row in rows) else None for key in _AVERAGED}
    chosen = sum(CHOSEN_ON in row["notes"] for row in rows)
    of = f"of {len(rows)} sources{f', not {CHOSEN_ON}' if left_out else ''}"
    notes = [of, *([f"{chosen} of them {CHOSEN_ON}"] if chosen else [])]
    return _row(MEAN, counts | means, notes)
