"""Names that people write in more than one way: which are one name, which only look alike, and which are none.

Two spellings are `same` where nobody can see a difference: composed or decomposed letters, spaces around, characters
that show nothing. Where only their `folded` forms are equal they look alike: case, compatibility forms (`ﬁ`, full-width
letters), apostrophes, spaces, hyphens, underscores, brackets, commas and full stops. What may change a meaning is kept:
accents, signs (`stage +`, `stage -`, `melanoma?`), separators between digits (`1.5`, `15`, `1 5`), numerals.
Names of two places (train and test, a folder and a model) that look alike are one; beside each other they are two.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from spectraderm.core.errors import DatasetError, SpectraDermError

ONE_FOLDER = "put their photos into one folder, or rename one so that they differ in words"
"""What to do about two class folders that look alike."""
MAX_LENGTH = 200
"""Of a class's name, in characters."""
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\ufe00-\ufe0f\uffa0"
"""Characters that show nothing, though they count as letters or marks."""
_SHAPING = re.compile("(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")
"""Joiners that shape Persian or Indic letters and emoji; elsewhere they show nothing."""
_BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_APOSTROPHES = re.compile("['\u2018\u2019\u201b\u02b9\u02bc\u2032\uff07`\u00b4]")
_DASHES = re.compile("[\u2010-\u2015\u2043\u2212\ufe58\ufe63\uff0d]")
_JOINING_DASH = re.compile(r"(?<=[\w)\]])(?:-+\s*|\s+-+\s+)(?=[\w(\[])")
"""A dash between words; any other one, as in `stage -` or `(-)`, is a sign."""
_ABBREVIATED = re.compile(r"\b([^\W\d_])\.(?=[^\W\d_]\b)")
_NOT_IN_NUMBERS = re.compile(r"(?<=[^\W\d])[.,:/\\]|[.,:/\\](?!\d)")
_BETWEEN = re.compile(r"[\s_;|()\[\]{}\"\u201c-\u201f\u00ab\u00bb\u2039\u203a\u00b7\u3001\u3002\u30fb]+")


def same(name: str) -> str:
    """A name as it is written here: NFC, without spaces around it and without characters that show nothing."""
    if name.isascii():
        return name.strip()
    shaping = {match.start() for match in _SHAPING.finditer(name)}
    shown = (c for i, c in enumerate(name) if i in shaping or unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", re.sub(f"[{_FILLERS}]", "", "".join(shown))).strip()


def folded(name: str) -> str:
    """What names that look alike have in common; `same` where that is nothing."""
    text = _APOSTROPHES.sub("", "".join(c for c in same(name) if unicodedata.category(c) != "Cf"))
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _JOINING_DASH.sub(" ", _DASHES.sub("-", text))
    text = _NOT_IN_NUMBERS.sub(" ", _ABBREVIATED.sub(r"\1", text))
    return _BETWEEN.sub(" ", text).strip() or same(name)


def join(names: Iterable[str], known: Iterable[str], also: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which of the `known` names each is: that one, or the same, or the only one that it looks like. Others lack.

    `also` has further spellings of known names, such as those for people; those themselves go before.
    """
    spellings: list[Mapping[str, str]] = [{name: name for name in known}, also or {}]
    tables = []
    for form in (str, same, folded):
        for spelling in spellings:
            table = defaultdict[str, set[str]](set)
            for name, meant in spelling.items():
                table[form(name)].add(meant)
            tables.append((form, table))
    joined = {}
    for name in names:
        fitting = next((table[form(name)] for form, table in tables if form(name) in table), set())
        if len(fitting) == 1:
            joined[name] = next(iter(fitting))
    return joined


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Those of several names side by side that only look alike, together; each in one spelling."""
    groups = defaultdict[str, dict[str, str]](dict)
    for name in sorted(names):
        groups[folded(name)].setdefault(same(name), name)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def unite(sets: Iterable[Iterable[str]]) -> dict[str, str]:
    """The one name of every name in several sets, each of names that stand side by side; the first set's is taken.

    Names that look alike are one, unless some set has two of them.
    """
    groups, apart = defaultdict[str, dict[str, None]](dict), set()
    for names in map(sorted, sets):
        apart |= {folded(group[0]) for group in look_alikes(names)}
        for name in names:
            groups[folded(name)][name] = None
    return {
        name: same(next(one for one in group if key not in apart or same(one) == same(name)))
        for key, group in groups.items()
        for name in group
    }


def spelled(where: object, name: str, meant: str) -> str:
    """What is told of a folder that bears another name than that of its class."""
    return f"{where} is {meant!r}{', in other characters that look the same' if same(name) == same(meant) else ''}"


def tell_apart(shown: Mapping[str, str]) -> dict[str, str]:
    """Names for people, by label: where two labels would be shown alike, they are shown as they are.

    Labels that look the same even so are numbered in their order.
    """
    places, labels = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for label, name in shown.items():
        places[folded(name)].append(label)
        labels[same(label)].append(label)
    apart = dict(shown)
    for label in (label for group in places.values() if len(group) > 1 for label in group):
        twins = labels[same(label)]
        apart[label] = label if len(twins) == 1 else f"{same(label)} ({twins.index(label) + 1})"
    return apart


def check_name(
    name: str, where: object, remedy: str = "Rename it", error: type[SpectraDermError] = DatasetError
) -> None:
    """Refuse what can't be a class's name, or a model's: `where` it stands is told, and the name, escaped.

    Raises:
        DatasetError: (or `error`) it is empty or too long, `.` or `..`, or has control characters, line or paragraph
            separators, characters that turn the direction of text, or halves of characters.
    """
    bad = next((c for c in name if c in _BIDI or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), "")
    problem = ""
    if bad:
        kind = "turns the direction of text" if bad in _BIDI else "can't be shown in a line"
        problem = f"has the character U+{ord(bad):04X}, which {kind}"
    elif len(name) > MAX_LENGTH:
        problem = f"has {len(name)} characters, more than {MAX_LENGTH}"
    elif same(name) in ("", ".", ".."):
        problem = "has nothing to read in it"
    if problem:
        raise error(f"{where}: the name {name[:80]!r} {problem}", remedy)
