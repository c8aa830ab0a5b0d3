"""The words that all pages share."""

import json
from importlib import resources
from typing import Any

WORDS: dict[str, Any] = json.loads((resources.files("spectraderm.serving") / "words.json").read_text(encoding="utf-8"))
"""What all pages say: the notice, when to see a doctor, the verdicts, and each condition in two lines."""
