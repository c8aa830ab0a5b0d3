"""What is told of a run -> its model card, with front matter for the Hugging Face Hub and two checklists answered."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from spectraderm.core import artifacts
from spectraderm.evaluation import formatting as words
from spectraderm.evaluation.checklists import clear_derm, tripod_ai
from spectraderm.evaluation.summary import Facts

_METRICS = {
    "group_accuracy": ("accuracy", "Accuracy, each photo once"),
    "accuracy": ("accuracy", "Accuracy by file"),
    "balanced_accuracy": ("recall", "Balanced accuracy (macro recall)"),
    "macro_f1": ("f1", "Macro F1"),
}


def write_card(run: Path, facts: Facts) -> None:
    """Write `README.md` from what `story.tell` gave. It holds no place of this machine and no photo."""
    content = facts | {"results": results(facts), "clear_derm": clear_derm(facts), "tripod_ai": tripod_ai(facts)}
    text = card_template().render(content)
    artifacts.write_bytes(run / artifacts.CARD, text.encode())


@cache
def card_template() -> jinja2.Template:
    """The card, in which names go through `plain`."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("spectraderm.evaluation"),
        autoescape=False,  # noqa: S701  Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    own = (words.percent, words.score, words.number, words.measure, words.points, words.spaced, words.times)
    templates.filters |= {function.__name__: function for function in own}
    templates.filters |= {"yaml": _yaml, "plain": words.plain}
    templates.globals |= {"BASELINES": words.BASELINES}
    return templates.get_template("card.md.j2")


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
        if words.known(row[key]["value"])
    ]


def _yaml(value: object) -> str:
    """JSON, which is YAML, too."""
    return json.dumps(value, ensure_ascii=False)
