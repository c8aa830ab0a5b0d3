"""The words that all pages share."""

import json
from importlib import resources
from typing import Any

WORDS: dict[str, Any] = json.loads((resources.files("spectraderm.serving") / "words.json").read_text(encoding="utf-8"))
"""What all pages say: the notice, when to see a doctor, the verdicts, and each condition in two lines."""


def condition(label: str) -> dict[str, Any] | None:
    """What the pages say of a class: `name`, `lines`, `urgent`, `links`; None for one that they know nothing of."""
    return next((one for one in WORDS["conditions"] if one["match"] in label.lower()), None)
