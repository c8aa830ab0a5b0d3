"""A name that someone typed -> the photos that it stands for, one by one, however many there are."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.images.decoding import HEIC_SUFFIXES, MAX_BYTES, SUFFIXES

STDIN = "-"


def photos(names: Sequence[str], stdin: BinaryIO) -> Iterator[tuple[str, str | bytes | SpectraDermError]]:
    """What the names stand for, in their order: what each photo is called, and its path or bytes, or why it is none.

    `-` is the photo on `stdin`.
    """
    for name in names:
        try:
            for path in walk(name):
                yield path, stdin.read(MAX_BYTES + 1) if path == STDIN else path
        except SpectraDermError as error:
            yield name, error


def walk(name: str) -> Iterator[str]:
    """The photos that a file, a folder (with all below it), a glob or `-` stands for, sorted, as they are found.

    Raises:
        UnreadablePhoto: there are none.
    """
    path, found = Path(name), False
    if not name:  # or it would stand for the current folder
        raise UnreadablePhoto("a photo's name is empty", "Give a file, folder or glob")
    try:
        if name == STDIN or (path.exists() and not path.is_dir()):
            yield name
            return
        folder = path.is_dir()
        matching = (match for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file())  # noqa: PTH207
        for photo in _below(str(path)) if folder else matching:
            found = True
            yield photo
    except OSError as error:  # such as a name that is too long
        raise UnreadablePhoto(f"{name}: {error.strerror}", "Check the path") from error
    if not found and folder:
        raise UnreadablePhoto(f"{name} holds no photos", "Give a folder with JPEG, PNG, WEBP, BMP, TIFF, GIF or HEIC")
    if not found:
        raise UnreadablePhoto(f"{name}: no such file or folder", "Check the path")


def _below(folder: str) -> Iterator[str]:
    """The photos in a folder and all below it, without hidden files and folders. A link is followed to a file only.

    Holds the names of one folder at a time, and of those above it.
    """
    waiting = [_entries("" if folder == "." else folder, folder)]
    while waiting:
        path, is_folder = next(waiting[-1], ("", False))
        if not path:
            waiting.pop()
        elif is_folder:
            waiting.append(_entries(path, path))
        else:
            yield path


def _entries(prefix: str, folder: str) -> Iterator[tuple[str, bool]]:
    """Photos and folders right below a folder that may be read, sorted, and which of them are folders."""
    kept: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                is_photo = suffix in SUFFIXES | HEIC_SUFFIXES and (entry.is_symlink() or entry.is_file())
                if not entry.name.startswith(".") and (is_folder or is_photo):
                    kept.append((entry.name, is_folder))
    except PermissionError:
        return iter(())
    return ((os.path.join(prefix, name), is_folder) for name, is_folder in sorted(kept))  # noqa: PTH118
