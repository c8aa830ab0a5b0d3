"""The facts of a run -> its model card, with front matter for the Hugging Face Hub and two checklists answered."""

from typing import Any

from spectraderm.core import files
from spectraderm.core.run import CARD, Run
from spectraderm.evaluation.formatting import defined, template
from spectraderm.evaluation.summary import Facts

_METRICS = {
    "group_accuracy": ("accuracy", "Accuracy, each photo once"),
    "accuracy": ("accuracy", "Accuracy by file"),
    "balanced_accuracy": ("recall", "Balanced accuracy (macro recall)"),
    "macro_f1": ("f1", "Macro F1"),
}


def write_card(run: Run, facts: Facts) -> None:
    """Write `README.md` from what `summary.summarise` gave. It holds no path of this machine and no photo."""
    text = template("card.md.j2").render(facts | {"results": results(facts)})
    files.write_bytes(run.path(CARD), text.encode())


def results(facts: Facts) -> list[dict[str, Any]]:
    """The believed row as the Hub's `model-index` wants it: `type`, `name`, `value`; those that are defined.

    None at all where no number of the run is to be believed.
    """
    row = facts["believed"]
    if row["leaked"]:
        return []
    return [
        {"type": kind, "name": name, "value": round(row[key]["value"], 4)}
        for key, (kind, name) in _METRICS.items()
        if defined(row[key]["value"])
    ]
