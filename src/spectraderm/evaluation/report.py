"""An evaluated run -> `report.html` in one file, the model card, and the confusion matrix as PNG and CSV."""

import base64
from collections.abc import Sequence
from typing import Any

from spectraderm.core import files
from spectraderm.core.run import CARD, ORIGINAL, REPORT, Run
from spectraderm.core.run_display import FIGURES
from spectraderm.data.gallery import script_hash
from spectraderm.evaluation import curves, examples, figures
from spectraderm.evaluation.bootstrap import Scored
from spectraderm.evaluation.calibrate import tested
from spectraderm.evaluation.calibration_metrics import error_by_chance
from spectraderm.evaluation.figure_fonts import Labels
from spectraderm.evaluation.formatting import defined, template
from spectraderm.evaluation.ledger import Entry
from spectraderm.evaluation.summary import Facts, summarise

CONFUSION_CSV = "confusion_matrix.csv"
_METRICS = {
    "group_accuracy": ("accuracy", "Accuracy, each photo once"),
    "accuracy": ("accuracy", "Accuracy by file"),
    "balanced_accuracy": ("recall", "Balanced accuracy (macro recall)"),
    "macro_f1": ("f1", "Macro F1"),
}


def write_report(run: Run, evaluation: dict[str, Any], scorings: Sequence[Entry] = ()) -> None:
    """Write `report.html`, `README.md` (the card), `curves.png` per fold, and the card's pictures into a run folder.

    The report holds thumbnails of the photos: share it only where the photos may be shared. `scorings` are lines of the
    ledger that will be written after it.

    Raises:
        RunFolderError: a file of the run lacks or is damaged.
    """
    facts = summarise(run, evaluation, scorings)
    crossed, judged = tested(run)
    drawn = _figures(run, evaluation, judged.own, facts["in_figures"])
    for name in (name for name in FIGURES if name in drawn):
        files.write_bytes(run.path(f"{name}.png"), drawn[name])
    _write_confusion(run, facts["guesses"], evaluation["confusion_matrix"])
    figures.write_curves(run)
    write_card(run, facts)
    leaks, kinds = examples.leaks(run, facts["display"])
    shown = {"leaks": leaks, "leak_kinds": kinds, "wrong": examples.wrong(run, crossed, judged)}
    shown |= {"chance": error_by_chance(judged.own), "figures": _as_urls(drawn), "script_hash": script_hash()}
    page = template("report.html.j2").render(facts | shown)
    files.write_bytes(run.path(REPORT), page.encode())


def write_card(run: Run, facts: Facts) -> None:
    """Write `README.md`, the model card, with front matter for the Hugging Face Hub and two checklists answered.

    `facts` are those of `summarise`. The card holds no path of this machine and no photo. Its `model-index` has the
    believed row's metrics as far as they are defined, and none where no number of the run is to be believed.
    """
    row = facts["believed"]
    results = [
        {"type": kind, "name": name, "value": round(row[key]["value"], 4)}
        for key, (kind, name) in _METRICS.items()
        if defined(row[key]["value"]) and not row["leaked"]
    ]
    text = template("card.md.j2").render(facts | {"results": results})
    files.write_bytes(run.path(CARD), text.encode())


def _figures(run: Run, evaluation: Facts, scored: Scored, labels: Labels) -> dict[str, Any]:
    """The figures, PNG, by name; `curves` of a run with epochs are two."""
    calibration, predicted = evaluation["calibration"], evaluation["refusals"]["predicted"]
    risk = 1 - predicted["accuracy"]["value"] if predicted["accuracy"] else None
    drawn = {
        "confusion_matrix": figures.confusion(evaluation["confusion_matrix"], labels),
        "reliability": figures.reliability(calibration["reliability"]),
        "risk_coverage": figures.risk_coverage(calibration["risk_coverage"], predicted["value"], risk),
    }
    if by_class := curves.roc(scored):
        named = [(labels.drawn[i], curve) for i, curve in enumerate(map(by_class.get, scored.known)) if curve]
        area = evaluation["splits"]["test"]["auroc"]["value"]
        drawn["roc"] = figures.roc(named, curves.macro(list(by_class.values())), area, labels)
    if points := evaluation.get("learning_curve"):
        drawn["learning_curve"] = figures.by_photos(points)
    folds = {fold: rows for fold, rows in figures.histories(run).items() if fold != ORIGINAL}
    by_epoch = {metric: figures.learning(folds, metric) for metric in ("accuracy", "loss")} if folds else {}
    return {**drawn, "curves": by_epoch}


def _as_urls(drawn: Any) -> Any:  # noqa: ANN401
    """Figures as data URLs."""
    if isinstance(drawn, dict):
        return {name: _as_urls(png) for name, png in drawn.items()}
    return f"data:image/png;base64,{base64.b64encode(drawn).decode()}"


def _write_confusion(run: Run, guesses: list[str], matrix: list[list[int]]) -> None:
    """Per true class: how many photos, then counts per guess, then the same as shares of the row."""
    columns = ["true", "photos", *(f"guess:{label}" for label in guesses), *(f"share:{label}" for label in guesses)]
    shares = [[round(count / max(sum(counts), 1), 4) for count in counts] for counts in matrix]
    lines = [(label, sum(row), *row, *share) for label, row, share in zip(guesses, matrix, shares, strict=False)]
    files.write_csv(run.path(CONFUSION_CSV), columns, (dict(zip(columns, line, strict=True)) for line in lines))
