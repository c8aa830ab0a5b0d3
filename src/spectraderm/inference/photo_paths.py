"""A name that someone typed -> the photos that it stands for, one by one, however many there are."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.images.preprocessing import HEIC_SUFFIXES, SUFFIXES

STDIN = "-"
_SUFFIXES = SUFFIXES | HEIC_SUFFIXES

Found = tuple[str, SpectraDermError | None]
"""A photo's path; or a name without photos and why."""


def found_by(names: Sequence[str]) -> Iterator[Found]:
    """All that the names stand for, in their order."""
    for name in names:
        try:
            for path in walk(name):
                yield path, None
        except SpectraDermError as error:
            yield name, error


def find(name: str) -> list[str]:
    """All that `walk` finds."""
    return list(walk(name))


def walk(name: str) -> Iterator[str]:
    """The photos that a file, a folder (with all below it), a glob or `-` stands for, sorted, as they are found.

    Raises:
        UnreadablePhoto: there are none.
    """
    path = Path(name)
    if not name:  # or it would stand for the current folder
        raise UnreadablePhoto("a photo's name is empty", "Give a file, folder or glob")
    photos = None
    try:
        if name == STDIN or (path.exists() and not path.is_dir()):
            yield name
            return
        folder = path.is_dir()
        for photos in _below(str(path)) if folder else _matching(name):
            yield photos
    except OSError as error:  # such as a name that is too long
        raise UnreadablePhoto(f"{name}: {error.strerror}", "Check the path") from error
    if photos is None and folder:
        raise UnreadablePhoto(f"{name} holds no photos", "Give a folder with JPEG, PNG, WEBP, BMP, TIFF, GIF or HEIC")
    if photos is None:
        raise UnreadablePhoto(f"{name}: no such file or folder", "Check the path")


def _matching(pattern: str) -> Iterator[str]:
    return (match for match in sorted(glob.glob(pattern, recursive=True)) if Path(match).is_file())  # noqa: PTH207


def _below(folder: str) -> Iterator[str]:
    """The photos in a folder and all below it, without hidden files and folders. A link is followed to a file only.

    Holds the names of one folder at a time, and of those above it.
    """
    waiting = [iter(_entries("" if folder == "." else folder, folder))]
    while waiting:
        for path, is_folder in waiting[-1]:
            if is_folder:
                waiting.append(iter(_entries(path, path)))
                break
            yield path
        else:
            waiting.pop()


def _entries(prefix: str, folder: str) -> list[tuple[str, bool]]:
    """Photos and folders right below a folder that may be read, sorted, and which of them are folders."""
    try:
        with os.scandir(folder) as entries:
            kept = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if _counts(entry)]
    except PermissionError:
        return []
    return [(os.path.join(prefix, name), is_folder) for name, is_folder in sorted(kept)]  # noqa: PTH118


def _counts(entry: os.DirEntry[str]) -> bool:
    """Not hidden, and a folder, or what is named as a photo and is a file or a link."""
    if entry.name.startswith(".") or entry.is_dir(follow_symlinks=False):
        return not entry.name.startswith(".")
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    return suffix in _SUFFIXES and (entry.is_symlink() or entry.is_file())
