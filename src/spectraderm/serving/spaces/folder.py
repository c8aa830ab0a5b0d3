"""A Space as a folder: written whole or not at all, and read back only if it is as it was written."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.files import check_writable, json_bytes, sha256, write_folder

MANIFEST = "space.json"
"""Says which files belong to a Space, with their SHA-256."""
_AGAIN = "Run `spectraderm deploy` again"


@dataclass(frozen=True)
class Space:
    """A Space's kind (`gradio`, `static` or `docker`), and the contents of its files by relative name."""

    target: str
    files: dict[str, bytes]


def check_free(out: Path) -> None:
    """Raise `SpectraDermError` where a Space can't be written to `out` without losing what is not ours."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise SpectraDermError(f"{out} is not a folder", "Give another name")
    check_writable(out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise SpectraDermError(f"{out} holds what `deploy` did not write", "Give a folder that does not exist yet")
    known = read_space(out).files
    for file in sorted(out.rglob("*")):
        name = file.relative_to(out).as_posix()
        if not file.is_dir() and name not in known and file.suffix != ".pyc":  # which running a Space leaves in it
            raise SpectraDermError(f"{file} is not of this Space", "Move it away, or give another folder")


def write_space(out: Path, space: Space) -> None:
    """Write it into a folder beside `out`, the manifest last, then rename. Replaces a Space that is unaltered."""
    check_free(out)
    sums = {name: sha256(data) for name, data in sorted(space.files.items())}
    write_folder(out, {**space.files, MANIFEST: json_bytes({"target": space.target, "sha256": sums})})


def read_space(folder: Path) -> Space:
    """Read what `write_space` wrote, its manifest included.

    Raises:
        SpectraDermError: it is no such folder, or a file lacks or was altered.
    """
    try:
        manifest = (folder / MANIFEST).read_bytes()
        facts = json.loads(manifest)
        target, sums = str(facts["target"]), {str(name): str(value) for name, value in facts["sha256"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SpectraDermError(f"{folder} is not a Space: its {MANIFEST} can't be read ({error!r})", _AGAIN) from error
    files = {MANIFEST: manifest}
    for name, expected in sums.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise SpectraDermError(f"{folder / MANIFEST} names a file outside the Space: {name}", _AGAIN)
        try:
            files[name] = (folder / path).read_bytes()
        except (OSError, ValueError) as error:
            raise SpectraDermError(f"{folder / path} can't be read ({error})", _AGAIN) from error
        if sha256(files[name]) != expected:
            raise SpectraDermError(f"{folder / path} was altered", f"Move it away. {_AGAIN}")
    return Space(target, files)
