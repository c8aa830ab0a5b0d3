"""What the commands are given in Python, as the stages take it."""

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from spectraderm.core.errors import needs
from spectraderm.core.roots import Given, with_other
from spectraderm.core.run import Run

NEEDED = ("train", "what audits, trains and scores")
"""The extra of the pipeline, and what it is called where it is not installed."""
AnyPath = str | os.PathLike[str]
Photos = AnyPath | Sequence[AnyPath]
"""A folder of photos; or several, each a source."""
AnyRun = AnyPath | Run


def all_photos(photos: Photos, other: AnyPath | None) -> Given:
    """Folders of photos, and one of none of their classes, as stages take them."""
    return with_other([Path(each) for each in several(photos)], path_of(other))


def several(photos: Photos) -> list[str | Path]:
    """One folder or several, as a list; text stays text, for `NAME=FOLDER` is none of a path."""
    given = [photos] if isinstance(photos, str | os.PathLike) else list(photos)
    return [each if isinstance(each, str) else Path(each) for each in given]


def folder_of(run: AnyRun) -> Path:
    """A run's folder."""
    return run.folder if isinstance(run, Run) else Path(run)


def path_of(given: AnyPath | None) -> Path | None:
    """A path, if one was given."""
    return None if given is None else Path(given)


def stages() -> Any:  # noqa: ANN401
    """The pipeline. Raises `MissingExtra` where the `train` extra is not installed."""
    with needs(*NEEDED):
        return import_module("spectraderm.pipeline")
