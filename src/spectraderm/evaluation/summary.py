"""An evaluated run -> the facts that both the report and the card show, still as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from spectraderm.core import files
from spectraderm.core.run import ENVIRONMENT, Run
from spectraderm.evaluation import formatting, ledger
from spectraderm.evaluation.bootstrap import MIN_GROUPS
from spectraderm.evaluation.protocols import EXTERNAL_ROW, external_results
from spectraderm.inference.prediction import VERDICTS

Facts = dict[str, Any]

_FITTED_ON = {
    "out_of_fold": "the other folds",
    "calibration": "the calibration photos",
    "val": "the validation photos",
}


def summarise(run: Run, evaluation: Facts, scorings: Sequence[ledger.Entry] = ()) -> Facts:
    """Everything that the templates show and that needs no photos.

    Args:
        run: the run folder.
        evaluation: what `evaluate` returned.
        scorings: lines of the ledger that are not written yet.

    Raises:
        RunFolderError: a file of the run lacks or is damaged.
    """
    config, audit, calibration = run.config, run.audit, run.calibration
    believed, external = believed_row(evaluation), external_results(run)
    return {
        "config": config,
        "display": config["display_names"],
        "audit": audit,
        "environment": files.read_json(run.path(ENVIRONMENT), "Run `spectraderm train RUN` first"),
        "calibration": calibration,
        "evaluation": evaluation,
        "believed": believed,
        "claimed": claimed_row(evaluation, believed),
        "too_few": believed["n_groups"] < MIN_GROUPS,
        "verdicts": _verdicts(evaluation, calibration),
        "sets": _sets(evaluation, config["display_names"]),
        "classes": _classes(evaluation, config["display_names"]),
        "out_of_distribution": [one for one in external if "out_of_distribution" in one],
        "elsewhere": _elsewhere(external, evaluation),
        "ledger": ledger.summary(run, scorings),
        "fitted_on": _FITTED_ON[evaluation["calibration"]["fitted_on"]],
        # what makes such a run, without the paths of a machine
        "command": f"spectraderm run PHOTOS --recipe {evaluation['recipe']} --split {evaluation['protocol']} "
        f"--folds {evaluation['folds_asked']} --backbone {formatting.pathless(config['backbone_name'])} "
        f"--seed {evaluation['seed']}",
        "hub_id": formatting.hub_id(config["backbone_name"], config["backbone"]),
        # where the manifest names patients, none is on two sides of a split by photo group
        "patients": any(row.get("patient") for row in run.manifest),
    }


def believed_row(evaluation: Facts) -> Facts:
    """The row of `protocols` with the number to believe; where all of them leak, the run's own, with its `leaked`."""
    rows: list[Facts] = evaluation["protocols"]
    of_protocol = [row for row in rows if row["name"] == evaluation["protocol"]]
    return [*(row for row in rows if row["believe"]), *of_protocol][0]


def claimed_row(evaluation: Facts, believed: Facts) -> Facts | None:
    """The row that leaks and is not to be believed: what the folders as they came would have claimed."""
    rows = [row for row in evaluation["protocols"] if row["name"] == "original" and row["leaked"]]
    return rows[0] if rows and rows[0] is not believed else None


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
    shares = evaluation["refusals"]
    return [
        {"name": name, "meaning": meanings[name], "share": shares[name], "accuracy": shares[name]["accuracy"]}
        for name in VERDICTS
    ]


def _sets(evaluation: Facts, display: Mapping[str, str]) -> list[Facts]:
    """The ways to make prediction sets, each photo group counted once, with the class that is served worst."""
    rows = []
    for name, both in evaluation["calibration"]["sets"].items():
        scores = both["by_group"]
        ranked = [(c["value"], i) for i, c in enumerate(scores["per_class"]) if formatting.defined(c["value"])]
        worst = min(ranked)[1] if ranked else None
        rows.append(
            {
                "title": formatting.SETS.get(name, name),
                "shipped": name == evaluation["calibration"]["shipped"],
                **{key: scores[key] for key in ("coverage", "mean_size", "singletons")},
                "worst": None if worst is None else scores["per_class"][worst],
                "worst_class": "" if worst is None else display[evaluation["labels"][worst]],
            }
        )
    return rows


def _classes(evaluation: Facts, display: Mapping[str, str]) -> list[Facts]:
    """The rows of `per_class`, with the coverage of the shipped prediction sets."""
    calibration = evaluation["calibration"]
    covered = calibration["sets"][calibration["shipped"]]["by_group"]["per_class"]
    return [
        {**row, "name": display[row["label"]], "coverage": coverage, "too_few": row["n_groups"] < MIN_GROUPS}
        for row, coverage in zip(evaluation["per_class"], covered, strict=True)
    ]


def _elsewhere(external: list[Facts], evaluation: Facts) -> list[Facts]:
    """Photos from elsewhere of classes that the model knows: their scores, and how much lower they are than here."""
    honest = [row for row in evaluation["protocols"] if not row["name"].startswith(EXTERNAL_ROW) and not row["leaked"]]
    here = honest[-1]["group_accuracy"]["value"] if honest else None
    rows = []
    for one in external:
        if one.get("scores"):
            there = one["scores"]["group_accuracy"]["value"]
            both = formatting.defined(there) and formatting.defined(here)
            rows.append({**one, "difference": there - here if both else None})
    return rows
