"""An evaluated run -> the facts that both the report and the card show, still as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from spectraderm.core import files
from spectraderm.core.run import ENVIRONMENT, Run
from spectraderm.evaluation import formatting, ledger
from spectraderm.evaluation.bootstrap import MIN_GROUPS
from spectraderm.evaluation.figure_fonts import labels
from spectraderm.evaluation.home_and_elsewhere import promises, side_by_side, warning
from spectraderm.evaluation.protocols import EXTERNAL_ROW, MEAN_ROW, external_results

Facts = dict[str, Any]

_FITTED_ON = {"out_of_fold": "the other folds", "calibration": "the calibration photos", "val": "the validation photos"}


def summarise(run: Run, evaluation: Facts, scorings: Sequence[ledger.Entry] = ()) -> Facts:
    """Everything that the templates show and that needs no photos; `scorings` are lines of the ledger still to write.

    Raises:
        RunFolderError: a file of the run lacks or is damaged.
    """
    config, audit, calibration = run.config, run.audit, run.calibration["home"]
    external, display = external_results(run), config["display_names"]
    rows = evaluation["protocols"]
    guesses = evaluation["guesses"] if "guesses" in evaluation else evaluation["labels"]
    # the number to believe; where all rows leak, the run's own
    of_protocol = [row for row in rows if row["name"] == evaluation["protocol"]]
    believed = [*(row for row in rows if row["believe"]), *of_protocol][0]
    # what the folders as they came would have claimed
    claims = [row for row in rows if row["name"] == "original" and row["leaked"] and row is not believed]
    return {
        "config": config,
        "display": display,
        "names": [display[label] for label in evaluation["labels"]],
        "guesses": guesses,
        "in_figures": labels([display[label] for label in guesses]),
        "audit": audit,
        "environment": files.read_json(run.path(ENVIRONMENT), "Run `spectraderm train RUN` first"),
        "calibration": calibration,
        "evaluation": evaluation,
        "believed": believed,
        "claimed": claims[0] if claims else None,
        "too_few": believed["n_groups"] < MIN_GROUPS,
        "verdicts": _verdicts(evaluation, calibration),
        "sets": _sets(evaluation, display),
        "classes": _classes(evaluation, display),
        "out_of_distribution": _outside(evaluation) + [one for one in external if "out_of_distribution" in one],
        "elsewhere": _elsewhere(external, evaluation),
        "mean_elsewhere": next((row for row in rows if row["name"] == MEAN_ROW), None),
        "side_by_side": side_by_side(run, evaluation),
        "promises": promises(run, evaluation),
        "warning": warning(run, evaluation),
        "ledger": ledger.summary(run, scorings),
        "fitted_on": _FITTED_ON[evaluation["calibration"]["fitted_on"]],
        # what makes such a run, without the paths of a machine
        "command": f"spectraderm run PHOTOS --recipe {evaluation['recipe']} --split {evaluation['protocol']} "
        f"--folds {evaluation['folds_asked']} --backbone {formatting.pathless(config['backbone_name'])} "
        f"--seed {evaluation['seed']}",
        "hub_id": formatting.hub_id(config["backbone_name"], config["backbone"]),
        # where the manifest names patients, none is on two sides of a split by photo group
        "patients": any(row.get("patient") for row in run.rows),
    }


def _verdicts(evaluation: Facts, calibration: Facts) -> list[Facts]:
    """Per verdict what it means, how many test photos get it, and how often the guess is right."""
    sure = f"a probability of at least {formatting.percent(calibration['confidence_threshold'])}"
    if calibration["confidence_threshold"] > 1:
        sure = "sure enough (no probability was, on the held-out photos)"
    meanings = {
        "predicted": f"{sure}, one class in the prediction set, and not out of scope",
        "unsure": "a lower probability, or several classes that fit",
        "out_of_scope": f"novelty above {calibration['novelty_threshold']:.3f}: unlike every training photo",
        "unusable_photo": "too small, dark, blurred or empty; no model was asked",
    }
    if "guesses" in evaluation:
        meanings["out_of_scope"] += "; or most like the photos of none of its classes"
    return [
        {"name": name, "meaning": meanings[name], "share": share, "accuracy": share["accuracy"]}
        for name, share in evaluation["refusals"].items()
    ]


def _sets(evaluation: Facts, display: Mapping[str, str]) -> list[Facts]:
    """The ways to make prediction sets, each photo group counted once, with the class that is served worst."""
    rows = []
    for name, both in evaluation["calibration"]["sets"].items():
        scores = both["by_group"]
        of_class = zip(scores["per_class"], evaluation["labels"], strict=True)
        known = [(coverage, display[label]) for coverage, label in of_class if formatting.defined(coverage["value"])]
        worst, worst_class = min(known, key=lambda each: each[0]["value"], default=(None, ""))
        row = {"title": formatting.SETS[name], "shipped": name == evaluation["calibration"]["shipped"]}
        shown = {key: scores[key] for key in ("coverage", "mean_size", "singletons")}
        rows.append({**row, **shown, "worst": worst, "worst_class": worst_class})
    return rows


def _classes(evaluation: Facts, display: Mapping[str, str]) -> list[Facts]:
    """The rows of `per_class`, with the coverage of the shipped prediction sets."""
    calibration = evaluation["calibration"]
    covered = calibration["sets"][calibration["shipped"]]["by_group"]["per_class"]
    return [
        {**row, "name": display[row["label"]], "coverage": coverage, "too_few": row["n_groups"] < MIN_GROUPS}
        for row, coverage in zip(evaluation["per_class"], covered, strict=True)
    ]


def _outside(evaluation: Facts) -> list[Facts]:
    """The run's own held-out photos of none of its classes, in all and by source."""
    if "out_of_distribution" not in evaluation:
        return []
    every = {"name": "its own held-out photos", "out_of_distribution": evaluation["out_of_distribution"]}
    parts = [
        {"name": f"{every['name']}, source {source}", "out_of_distribution": own["out_of_distribution"]}
        for source, own in evaluation.get("by_source", {}).items()
        if "out_of_distribution" in own
    ]
    return [every, *(parts if len(parts) > 1 else [])]


def _elsewhere(external: list[Facts], evaluation: Facts) -> list[Facts]:
    """Photos from elsewhere of classes that the model knows: their scores, and how much lower they are than here."""
    honest = [row for row in evaluation["protocols"] if not row["name"].startswith(EXTERNAL_ROW) and not row["leaked"]]
    here = honest[-1]["group_accuracy"]["value"] if honest else None
    rows = []
    for one in (one for one in external if one.get("scores")):
        there = one["scores"]["group_accuracy"]["value"]
        both = formatting.defined(there) and formatting.defined(here)
        rows.append({**one, "difference": there - here if both else None})
    return rows
