"""The words that all pages share."""

import json
from importlib import resources
from typing import Any

WORDS: dict[str, Any] = json.loads((resources.files("spectraderm.serving") / "words.json").read_text(encoding="utf-8"))
"""What all pages say: the notice, when to see a doctor, the verdicts, and each condition in two lines."""
_NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def in_words(count: int) -> str:
    """A number as a word, up to twelve."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
