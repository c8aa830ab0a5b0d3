"""How a text that others chose, such as the name of a file, a class or a person, is written where it is read.

A terminal, a line of a log, a spreadsheet, Markdown and JSON each take some letters for commands. One function for each
reader writes them so that they are letters only.
"""

import json
import re
import sys
import unicodedata
from typing import Any

_KEPT = "\u200c\u200d"
"""Join letters or part them, within words of many languages and within emoji."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_FORMULA = r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]\s*\S"
_BEGINS = re.compile(rf"{_FORMULA}|'*[\t\r]")
_AT_BEGIN = re.compile(rf"(^|;)(?={_FORMULA})")
"""Where a spreadsheet would look for a formula; some part columns at semicolons, whatever the file says."""
_FIRST = re.compile(r"^(?:\d+(?=[.)](?:\s|$))|(?=[#+=-]))")
"""Before what Markdown takes for a list, a heading or a line."""
_MARKS = re.compile(r"([\\`*_\[\]<>|&~$@]|:(?=//)|(?<=www)\.)", re.IGNORECASE)


def line(text: str) -> str:
    r"""A text in one line that moves no cursor and keeps its direction: all that is no letter is spelled, as `\x1b`."""
    return text if text.isprintable() else "".join(map(_spelled, text))


def in_template(value: object) -> object:
    """What a template prints, each line of a text as `line`; macros, which are no plain `str`, are as they are."""
    return "\n".join(map(line, value.split("\n"))) if type(value) is str else value


def say(*texts: str) -> None:
    """Print for people, on stderr, a line for each text."""
    if sys.stderr is not None:  # closed before the start
        sys.stderr.write("".join(f"{line(text)}\n" for text in texts))
        sys.stderr.flush()


def cell(value: object) -> object:
    """A value of a table for people's spreadsheets: a text is in one line and no formula; a number stays one.

    What would be a formula gets an apostrophe before it. Programs that need the text itself read JSON lines.
    """
    return value if _is_number(value) else _AT_BEGIN.sub(r"\1'", line(str(value)))


def stored(value: object) -> object:
    """A value of a table that is read again by `restored`: a text that a spreadsheet would run has an apostrophe first.

    Any text comes back as it was.
    """
    return value if _is_number(value) or not _BEGINS.match(str(value)) else f"'{value}"


def restored(text: str) -> str:
    """What `stored` was given."""
    return text[1:] if text.startswith("'") and _BEGINS.match(text[1:]) and not _is_number(text[1:]) else text


def markdown(text: str) -> str:
    """A text in one line of Markdown that means nothing but itself: no HTML, link, table, heading or formula."""
    return _FIRST.sub(r"\g<0>\\", _MARKS.sub(r"\\\1", line(" ".join(text.split()))))


def json_text(content: object, **options: Any) -> str:  # noqa: ANN401
    r"""JSON that reads well and moves no cursor: letters of all languages as they are, all else as `\u001b`."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, **options)
    return text if text.replace("\n", "").isprintable() else "".join(map(_in_json, text))


def _spelled(letter: str) -> str:
    plain = letter.isprintable() or letter in _KEPT or unicodedata.category(letter) == "Zs"
    return letter if plain else letter.encode("unicode_escape").decode()


def _in_json(letter: str) -> str:
    return letter if letter == "\n" or _spelled(letter) == letter else json.dumps(letter)[1:-1]


def _is_number(value: object) -> bool:
    return not isinstance(value, str) or _NUMBER.fullmatch(value) is not None
