"""What a file imports; what pyproject.toml asks for and what that brings along, beside files of versions and hashes."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ENTRY = re.compile(r"^([\w.-]+)==(\S+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def imported(file: Path) -> set[str]:
    """The modules that a file takes names from, with these names; in functions, too, but not for types alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        name for node in found for name in (node.module, *(f"{node.module}.{each.name}" for each in node.names)) if name
    }


def locked(file: Path) -> dict[str, str]:
    """The version of each package of a file in which every package has a version and hashes, and nothing else is."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.MULTILINE)
    assert ENTRY.sub("", text) == "", file
    return {canonicalize_name(entry[1]): entry[2] for entry in ENTRY.finditer(text)}


def is_installed(versions: Mapping[str, str]) -> bool:
    """Whether this environment has these versions, as far as it has the packages: another one may need others."""
    here: dict[str, str] = {canonicalize_name(each.name): each.version for each in metadata.distributions()}
    return all(Version(here.get(name, version)).public == version for name, version in versions.items())


def needed(extra: str, besides: str = "") -> set[str]:
    """The packages of an extra and all that they need here, but not for the sake of one of them."""
    todo, known = [("spectraderm", frozenset({extra}))], set[tuple[str, frozenset[str]]]()
    while todo:
        name, extras = one = todo.pop()
        if one in known or name == besides:
            continue
        known.add(one)
        asked = [each for each in _asked(name, extras) if each.marker is None or _holds(each, extras)]
        todo += [(canonicalize_name(each.name), frozenset(each.extras)) for each in asked]
    return {name for name, _ in known} - {"spectraderm"}


def _asked(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    lines = []
    if name == "spectraderm":  # as it is now, not as it was installed
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
        lines = project["dependencies"] + [line for e in extras for line in project["optional-dependencies"][e]]
    else:
        with suppress(metadata.PackageNotFoundError):
            lines = metadata.requires(name) or []
    return map(Requirement, lines)


def _holds(need: Requirement, extras: frozenset[str]) -> bool:
    return any(need.marker is not None and need.marker.evaluate({"extra": each}) for each in extras | {""})
