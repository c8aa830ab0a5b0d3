"""What a backbone is called, looked at without loading it: a folder here, the network out of a package, or a Hub id."""

import re
from pathlib import Path

from spectraderm.core import OFFLINE_BACKBONE
from spectraderm.core.errors import BackboneError

REMEDY = f"Connect to the internet, give a local folder in the same layout, or use --backbone {OFFLINE_BACKBONE}"
_HUB_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+(?:@[\w.-]+)?", re.ASCII)


def local_folder(name: str) -> Path | None:
    """The folder that a backbone's name means; None where it is `open-nsfw-thin` or a Hub id.

    Raises:
        BackboneError: there is no such folder, it holds no model, or the name can't be a Hub id.
    """
    path = Path(name)
    if name == OFFLINE_BACKBONE:
        return None
    if not (path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        if not _HUB_ID.fullmatch(name):
            raise BackboneError(
                f"{name!r} is neither a folder here nor a Hub id, OWNER/NAME or OWNER/NAME@REVISION", REMEDY
            )
        return None
    if not path.is_dir():
        raise BackboneError(f"there is no model folder {name}", REMEDY)
    if not (path / "config.json").is_file():
        raise BackboneError(f"{name} is not a model folder: it has no config.json", REMEDY)
    return path.resolve()
