"""A name that someone typed -> the photos that it stands for, one by one, however many there are."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from spectraderm.core.errors import SpectraDermError, UnreadablePhoto, remedy_of
from spectraderm.images.photo_files import DEBRIS, OWN, LeftOut, below, lines, note, why_left_out

STDIN = "-"


def photos(
    names: Sequence[str], stdin: BinaryIO, left: LeftOut | None = None
) -> Iterator[tuple[str, str | BinaryIO | SpectraDermError]]:
    """What the names stand for, in their order: what each photo is called, and its path, or why it is none.

    `-` is the photo on `stdin`, which is read when its turn comes; `left` is as `walk` takes it.
    """
    for name in names:
        try:
            for path in walk(name, left):
                yield path, stdin if path == STDIN else path
        except SpectraDermError as error:
            yield name, error


def walk(name: str, left: LeftOut | None = None) -> Iterator[str]:
    """The photos that a file, a folder (with all below it), a glob or `-` stands for, sorted, as they are found.

    `left` gets what is left out of folders and globs, see `photo_files`.

    Raises:
        UnreadablePhoto: there are none.
    """
    path, found, left = Path(name), False, LeftOut(list) if left is None else left
    if not name:  # or it would stand for the current folder
        raise UnreadablePhoto("a photo's name is empty", "Give a file, folder or glob")
    try:
        if name == STDIN or (path.exists() and not path.is_dir()):
            yield name
            return
        folder = path.is_dir()
        for photo in below(str(path), left) if folder else _matching(name, left):
            found = True
            yield photo
    except (OSError, ValueError) as error:  # such as a name that is too long
        raise UnreadablePhoto(f"{name}: {getattr(error, 'strerror', error)}", "Check the path") from error
    if not found and folder:
        but = "".join(f"; {line}" for line in lines(left))
        remedy = "Give a folder with JPEG, PNG, WEBP, BMP, TIFF, GIF or HEIC"
        raise UnreadablePhoto(f"{name} holds no photos{but}", remedy)
    if not found and glob.has_magic(name) and "://" not in name:
        raise UnreadablePhoto(
            f"{name}: no file matches", "Check the path; `**` stands for any folders, `*` for any name"
        )
    if not found:
        raise UnreadablePhoto(f"{name}: no such file or folder", remedy_of(name))


def _matching(name: str, left: LeftOut) -> Iterator[str]:
    """The files that a glob matches, sorted, and the photos of folders that it matches, as where a shell fills it in;
    but what lies in a folder, or has a name, that none of its parts asks for and that `photo_files` leaves out.

    A part of it that is the name of a folder that is there is no glob: `photos [2024]/*.jpg`.
    """
    known, parts, asked = "", name.split(os.sep), set(Path(name).parts)  # noqa: PTH206 - of globs, every part
    for number, part in enumerate(parts):
        known = os.path.join(known, part) if number else part or os.sep  # noqa: PTH118
        if not os.path.lexists(known):
            break
        parts[number] = glob.escape(part)
    for match in sorted(glob.glob("/".join(parts), recursive=True)):  # noqa: PTH207
        path = Path(match)
        within = [each for each in (path, *path.parents) if each.name not in asked]
        reasons = (
            why_left_out(str(each.parent), each.name, is_folder=each != path or path.is_dir()) for each in within
        )
        if why := next((why for why in reasons if why in (DEBRIS, OWN)), ""):
            note(left, why, match)
        elif path.is_file():
            yield match
        elif "**" not in parts:  # which goes into folders itself
            yield from below(match.rstrip(os.sep), left)
