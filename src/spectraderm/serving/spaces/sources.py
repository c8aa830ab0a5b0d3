"""The part of this package that serving needs: what its imports reach, and nothing of training or evaluation."""

import ast
from collections.abc import Iterator, Sequence
from importlib import metadata, resources
from pathlib import Path

from spectraderm.core.errors import SpectraDermError

ROOTS = ("spectraderm.serving.server", "spectraderm.serving.page.mount")
_ELSEWHERE = {"browser", "spaces", "node_modules", "__pycache__"}
"""Folders of `serving/` that only other doors need."""
_CODE = {".py", ".pyc", ".pyi"}


def sources(roots: Sequence[str] = ROOTS) -> dict[str, bytes]:
    """By path below the Space, such as `spectraderm/errors.py`: the modules that `roots` import, and their data.

    Raises:
        SpectraDermError: a root is not there.
    """
    home = Path(str(resources.files("spectraderm")))
    found = {file.relative_to(home.parent).as_posix(): file.read_bytes() for file in _reached(home, roots)}
    return found | {
        file.relative_to(home.parent).as_posix(): file.read_bytes()
        for file in (home / "serving").rglob("*")
        if file.is_file() and file.suffix not in _CODE and not _ELSEWHERE & set(file.relative_to(home).parts)
    }


def licences() -> dict[str, bytes]:
    """LICENSE and NOTICE of this package, as installed."""
    files = {name: metadata.distribution("spectraderm").read_text(f"licenses/{name}") for name in ("LICENSE", "NOTICE")}
    return {name: text.encode() for name, text in files.items() if text}


def _reached(home: Path, roots: Sequence[str]) -> list[Path]:
    waiting = list(roots)
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        file = _file(home, name)
        if file is None and name in roots:
            raise SpectraDermError(f"{name} is not installed", "Install spectraderm again")
        if file is not None and name not in found:
            found[name] = file
            waiting += [name.rpartition(".")[0], *_imported(file)]
    return sorted(found.values())


def _file(home: Path, name: str) -> Path | None:
    """Where a module of this package is; None of anything else, such as a function that is imported by name."""
    first, *parts = name.split(".")
    path = home.joinpath(*parts)
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((one for one in candidates if first == home.name and one.is_file()), None)


def _imported(file: Path) -> Iterator[str]:
    """Names of modules that a file imports, at its top or within, and of all that it imports from them."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
