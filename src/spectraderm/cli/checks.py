"""What a command looks at before it loads or begins anything that takes long: whether what it was given is there.

The pipeline looks at the same things by the same functions; here that comes before torch and its company are imported.
All of them raise `SpectraDermError`, which says what lacks and what to do.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from spectraderm.core.errors import DatasetError, remedy_of
from spectraderm.core.files import check_writable
from spectraderm.core.roots import Given, check_folders, with_other
from spectraderm.core.run import Run
from spectraderm.inference.model_folder import check_model, is_model_folder, open_model


def photos(folders: Sequence[Path], other: Path | None, out: Path) -> Given:
    """Folders of photos, and one of none of their classes, as stages take them; `out` will be written to."""
    check_folders(given := with_other(folders, other))
    check_writable(out)
    return given


def run_folder(folder: Path, command: str, out: Path | None = None) -> None:
    """A run folder that a command begins with, and what it will write to."""
    Run(folder).check_there(command)
    check_writable(out or (folder if command != "reproduce" else Path()))


def model(name: str | Path) -> None:
    """A model by its name; one that is here is whole, and its network may be loaded."""
    check_model(name)
    if is_model_folder(name):
        open_model(name).check_network()


def there(photos: Sequence[str | Path], table: Path | None = None, out: Path | None = None) -> None:
    """Photos, folders of them or NAME=FOLDER, a table that says what they are, and what will be written."""
    for given in map(str, photos):
        name, is_named, folder = given.partition("=")
        path = Path(folder if is_named and os.sep not in name and not Path(given).exists() else given)
        if not path.exists():
            raise DatasetError(f"{path}: no such file or folder", remedy_of(path))
    if table and not table.is_file():
        raise DatasetError(f"{table} is not a file", "Give the CSV file of --label-map")
    if out:
        check_writable(out)
