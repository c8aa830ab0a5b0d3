"""Where photos are: in one folder, or in several, each a source under its own name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectraderm.core.errors import DatasetError, remedy_of


@dataclass(frozen=True)
class Folders:
    """Several folders of photos as one root: `SOURCE/rest` is `rest` in the folder of that source.

    All photos below those of the sources `others` are of the class `other`, however their folders are called.
    """

    of_source: Mapping[str, Path]
    others: tuple[str, ...] = ()

    def __truediv__(self, path: str) -> Path:
        """Where a file is, by its path in the manifest."""
        source, _, rest = path.partition("/")
        return self.of_source.get(source, Path(source)) / rest


Root = Path | Folders
"""What a manifest's paths are relative to; `root / path` is the file."""
Given = Path | Sequence[Path] | Folders
"""Folders of photos as they are given: one, or several, or what `with_other` makes of them."""


def with_other(given: Sequence[Path], other: Path | None) -> Given:
    """Folders of photos, and one whose photos are all of the class `other`: a source of its own, named as it is given.

    Raises:
        DatasetError: as `root_of`.
    """
    if other is None:
        return given
    root = root_of([*given, other])
    assert isinstance(root, Folders)
    return replace(root, others=(Path(os.path.abspath(other)).name,))  # noqa: PTH100  (a link is a name, too)


def check_folders(given: Given) -> None:
    """Make sure that folders of photos are there, before anything takes long.

    Raises:
        DatasetError: one is no folder; or as `root_of`.
    """
    root = root_of(given)
    for folder in [root] if isinstance(root, Path) else root.of_source.values():
        if not folder.is_dir():
            remedy = remedy_of(folder, "Give the folder that holds the class or split folders")
            raise DatasetError(f"{folder} is not a folder", remedy)


def root_of(given: Given) -> Root:
    """One folder is the root itself; of several each is a source, named as it is given.

    Raises:
        DatasetError: two of them have the same name, or one lies in another.
    """
    if isinstance(given, Folders):
        return given
    if isinstance(given, Path) or len(given) == 1:
        return given if isinstance(given, Path) else given[0]
    folders: dict[str, Path] = {}
    for folder in given:
        path = Path(os.path.abspath(folder))  # noqa: PTH100  (a link is a name, too)
        for before in folders.values():
            one, two = before.resolve(), path.resolve()
            if one.is_relative_to(two) or two.is_relative_to(one):
                raise DatasetError(f"{before} and {path} hold the same photos", "Give each folder once")
        if path.name in folders:
            raise DatasetError(
                f"{folders[path.name]} and {path} are both named {path.name!r}, as sources can't be",
                "Rename one, or give a link to it that has another name",
            )
        folders[path.name] = path
    return Folders(dict(sorted(folders.items())))


def to_facts(root: Root) -> dict[str, Any]:
    """A root as `audit.json` has it: `root`, and of several folders `roots`, by source, and `others`."""
    if isinstance(root, Path):
        return {"root": str(root.resolve())}
    roots = {source: str(folder) for source, folder in root.of_source.items()}
    others = {"others": list(root.others)} if root.others else {}
    return {"root": os.path.commonpath(list(roots.values())), "roots": roots, **others}


def from_facts(audit: Mapping[str, Any]) -> Root:
    """The root that `to_facts` wrote."""
    if roots := audit.get("roots"):
        return Folders({source: Path(folder) for source, folder in roots.items()}, tuple(audit.get("others", ())))
    return Path(audit["root"])
