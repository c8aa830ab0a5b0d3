"""How a run is made, and whether it can be: looked at without torch, which takes seconds to import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectraderm.core import DEFAULT_BACKBONE, DEFAULT_RECIPE, Protocol
from spectraderm.core.cache import kept_folder
from spectraderm.core.files import check_writable
from spectraderm.core.roots import Given, check_folders
from spectraderm.core.run import Run
from spectraderm.training.backbone_name import local_folder
from spectraderm.training.trackers import check_log


@dataclass(frozen=True)
class Options:
    """How a run is made. `folds` 0 means 5 of `grouped`, else 1; `changes` overrides settings of the recipe.

    `crops`: look for crops of photos, too; None: of up to `data.audit.CROPS_UP_TO` photos.
    """

    recipe: str = DEFAULT_RECIPE
    backbone: str = DEFAULT_BACKBONE
    protocol: Protocol = "grouped"
    folds: int = 0
    seed: int = 0
    resume: bool = False
    device: str = "auto"
    log: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    crops: bool | None = None

    def check(self) -> None:
        """Make sure that recipe, log and backbone are there, or, of a backbone on the Hub, may be.

        Raises:
            RecipeError, BackboneError, MissingExtra: one is not.
            WriteError: the cache folder that was asked for can't be one.
        """
        from spectraderm.training import recipe  # noqa: PLC0415 - pydantic comes along

        recipe.load(self.recipe, self.changes)
        check_log(self.log)
        local_folder(self.backbone)
        kept_folder()


def check_run(photos: Given, out: Path, options: Options) -> None:
    """Make sure, before anything takes long, that a run can begin: its photos, its folder, its options.

    Raises:
        SpectraDermError: it can't; says why.
    """
    check_folders(photos)
    check_writable(out)
    if not options.resume:
        Run(out).check_untrained()
    options.check()


def check_train(run: Path, options: Options) -> None:
    """Make sure, before anything takes long, that a training can begin in a run folder. See `check_run`."""
    Run(run).check_there("train")
    options.check()
