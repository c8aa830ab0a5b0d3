"""The name of a model -> its folder: here, in the package, or on the Hugging Face Hub."""

import os
from importlib import resources
from pathlib import Path

from spectraderm.core.errors import ModelFolderError, needs


def find_model(source: str | os.PathLike[str] | None) -> Path:
    """The folder of a model; see `spectraderm.load_model`. Raises `ModelFolderError` where there is none."""
    if source is None:
        return Path(str(resources.files("spectraderm") / "default_model"))
    path = Path(source)
    try:
        here = path.exists()
    except OSError as error:  # such as a name that is too long
        raise ModelFolderError(f"{source}: {error.strerror}", "Check the path") from error
    return path if here else _from_hub(str(source))


def _from_hub(name: str) -> Path:
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelFolderError(f"there is no model folder {name}", "Give a folder that `spectraderm export` wrote")
    with needs("hub", f"there is no folder {name}, and what asks the Hub"):
        from huggingface_hub import snapshot_download  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    try:
        return Path(snapshot_download(name))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise ModelFolderError(
            f"there is no folder {name}, and the Hugging Face Hub does not give it "
            f"({(str(error).strip() or repr(error)).splitlines()[0]})",
            "Check the name and the connection",
        ) from error
