"""The files of a model folder, as bytes: inside the folder, unaltered, and none that could run code when opened."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from spectraderm.core.errors import ModelFolderError
from spectraderm.core.files import read_regular, sha256

FACTS, WEIGHTS, ONNX = "spectraderm.json", "model.safetensors", "onnx/model.onnx"
STATISTICS = "head_statistics.npz"
MAX_MODEL_BYTES = 2**31
"""Of all files together: protobuf, and so ONNX, ends there."""
AGAIN = "Export or download the model folder again"
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".keras"}


class ModelFiles(Mapping[str, bytes]):
    """The files of a folder that was found whole, by name. Those that no prediction needs are not kept in memory where
    they are large: they are read again, and compared again, whenever they are asked for.
    """

    def __init__(self, path: Path, sums: Mapping[str, str], facts: bytes) -> None:
        self._path, self._sums, self._kept = path, sums, {FACTS: facts}
        left = MAX_MODEL_BYTES - len(facts)
        for name in sums:
            data = self._read(name, left)
            left -= len(data)
            if name not in (WEIGHTS, STATISTICS):
                self._kept[name] = data

    def __getitem__(self, name: str) -> bytes:
        return self._kept[name] if name in self._kept or name not in self._sums else self._read(name, MAX_MODEL_BYTES)

    def let_go(self, name: str) -> None:
        """Keep a file in memory no longer."""
        del self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter((FACTS, *self._sums))

    def __len__(self) -> int:
        return 1 + len(self._sums)

    def _read(self, name: str, most: int) -> bytes:
        path = self._path
        if not name.isprintable() or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelFolderError(f"{path / FACTS} names a file outside the model folder: {name!r}", AGAIN)
        if Path(name).suffix.lower() in PICKLES:
            raise ModelFolderError(f"{path / FACTS} lists {name}, which can run code when opened", AGAIN)
        data = read_part(path, name, most)
        if sha256(data) != self._sums[name]:
            raise ModelFolderError(f"{path / name} was altered: its SHA-256 is not the one in {FACTS}", AGAIN)
        return data


def read_part(path: Path, name: str, most: int) -> bytes:
    """A file of the folder. Links may lead about inside, or to where the Hugging Face Hub keeps what it downloads."""
    file = Path(os.path.realpath(path / name))
    homes = [Path(os.path.realpath(path))]
    if homes[0].parent.name == "snapshots":
        homes.append(homes[0].parent.parent / "blobs")
    if not any(file.is_relative_to(home) for home in homes):
        raise ModelFolderError(f"{path / name} is a link out of the model folder, which is not followed", AGAIN)
    try:
        return read_regular(file, most)
    except FileNotFoundError as error:
        raise ModelFolderError(f"{path / name} is missing", AGAIN) from error
    except OSError as error:
        raise ModelFolderError(f"{path / name} can't be read ({error.strerror})", AGAIN) from error
