"""What a door tells people of its model without loading the network, and the words that all pages share."""

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from spectraderm.core import artifacts
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import learned
from spectraderm.inference.calibration import Calibration
from spectraderm.inference.finding import find_model

WORDS: dict[str, Any] = json.loads((resources.files("spectraderm.serving") / "words.json").read_text(encoding="utf-8"))
"""What all pages say: the notice, when to see a doctor, the verdicts, and each condition in two lines."""


@dataclass(frozen=True)
class About:
    """A model folder, its network aside.

    Attributes:
        model_id: which model it is.
        labels: the classes, in the order of the logits.
        display: their names for people.
        calibration: the settings of its verdicts.
        preprocessing: how photos become its input.
        facts: what `spectraderm.json` says.
        card: the model card, Markdown.
    """

    model_id: str
    labels: list[str]
    display: dict[str, str]
    calibration: Calibration
    preprocessing: Preprocessing
    facts: dict[str, Any]
    card: str


def about(source: str | None) -> About:
    """Read and check a model folder; see `spectraderm.load_model`. Raises `ModelFolderError` as that does."""
    folder = artifacts.read_model_folder(find_model(source)).in_precision("auto")
    known = learned.read(folder)
    return About(
        model_id=folder.model_id,
        labels=known.labels,
        display=known.display,
        calibration=known.calibration,
        preprocessing=known.preprocessing,
        facts=folder.facts,
        card=folder.card,
    )


def condition(label: str) -> dict[str, Any] | None:
    """What the pages say of a class: `name`, `lines`, `urgent`, `links`; None for one that they know nothing of."""
    return next((one for one in WORDS["conditions"] if one["match"] in label.lower()), None)
