"""A module's weights in a file."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights as safetensors."""
    artifacts.write_bytes(path, save({name: value.contiguous() for name, value in module.state_dict().items()}))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a module's weights. Raises `RunFolderError` where they are missing, damaged, or another module's."""
    try:
        with safe_open(path, framework="pt") as file:
            module.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except Exception as error:  # safetensors and torch raise their own kinds
        raise RunFolderError(f"{path} can't be loaded ({str(error).splitlines()[0]})", "Train again") from error
