"""On its way into `core.run`: `Run.stage` and `Run.check`."""

from contextlib import AbstractContextManager
from pathlib import Path

from spectraderm.core.run import Run


def stage(folder: Path, name: str) -> AbstractContextManager[None]:
    """See `Run.stage`."""
    return Run(folder).stage(name)


def check(folder: Path, name: str) -> None:
    """See `Run.check`."""
    Run(folder).check(name)
