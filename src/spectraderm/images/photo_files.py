"""Which entries of a folder are photos, by one rule for all that read folders; and what of the rest people are told.

A file is a photo by its suffix, or, where it has none, by how its bytes begin. Left out are what an operating system,
a NAS or a program puts beside photos, and what SpectraDerm itself has written there, which is known by its files.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
HEIC_SUFFIXES = frozenset({".heic", ".heif"})
DEBRIS, OWN, UNREAD = "left by a system or program", "written by SpectraDerm", "of a type that is not read"
"""Why an entry is left out."""
LeftOut = defaultdict[str, list[str]]
"""The paths that are left out, by why."""

_DEBRIS = frozenset({
    "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information", "__macosx",
    "__pycache__", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
})  # fmt: skip
_DEBRIS_BEGINS = ("synophoto_thumb", "synophoto_film", "synoindex_media")
_SILENT = frozenset({".ds_store", ".gitignore", ".gitkeep", ".gitattributes", ".keep", ".lock", ".writer"})
"""Hidden files that are nobody's news."""
_OWN: tuple[tuple[str, ...], ...] = (
    ("spectraderm.json",),
    ("space.json", "README.md"),
    ("job.json", "predictions"),
    ("manifest.csv", "checksums.txt"),
    ("manifest.csv", "audit.json"),
    (".lock", ".writer"),
    ("CACHEDIR.TAG",),
)
"""What a folder that SpectraDerm wrote, or is writing, holds: of a model, a Space, predictions, a run, a cache."""
_BEGINS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_BEGINS_AND_GOES_ON = {(b"RIFF", b"WEBP")}
_UNREAD = frozenset({
    ".avif", ".avifs", ".jxl", ".jp2", ".j2k", ".jpx", ".jxr", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw",
    ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".raw", ".3fr", ".erf", ".psd", ".psb", ".xcf", ".svg", ".eps",
    ".ai", ".pdf", ".dcm", ".dicom", ".ico", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".exr", ".hdr", ".heics",
    ".mpo", ".dib", ".jpg_large", ".svs", ".ndpi", ".mov", ".mp4", ".avi",
})  # fmt: skip


def is_photo(folder: str, name: str) -> bool:
    """Whether a file of a folder is a photo."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    return suffix in SUFFIXES or suffix in HEIC_SUFFIXES or (not suffix and _begins_like_one(f"{folder}/{name}"))


def why_left_out(folder: str, name: str, *, is_folder: bool) -> str:
    """Why an entry of a folder, which is no photo to be read, is left out: one of the three; nothing for all others."""
    if is_debris(name):
        return DEBRIS
    if is_folder:
        return OWN if is_own(lambda inside: os.path.lexists(f"{folder}/{name}/{inside}")) else ""
    return UNREAD if os.path.splitext(name)[1].lower() in _UNREAD else ""  # noqa: PTH122


def is_debris(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left by a system or program."""
    folded = name.lower()
    return folded.startswith((".", *_DEBRIS_BEGINS)) or folded in _DEBRIS


def is_own(has: Callable[[str], bool]) -> bool:
    """Whether SpectraDerm wrote a folder, or is writing it; `has` says whether it holds a file or folder of a name."""
    return any(all(map(has, names)) for names in _OWN)


def below(folder: str, left: LeftOut | None = None) -> Iterator[str]:
    """The photos in a folder and all below it, sorted by folder; a link is followed to a file only.

    Holds the names of one folder at a time, and of those above it. A folder that may not be read is passed over. Paths
    begin with that of the folder, but for `.`; `left` gets what is left out.
    """
    left = LeftOut(list) if left is None else left
    waiting = [_entries("" if folder == "." else folder, folder, left)]
    while waiting:
        path, is_folder = next(waiting[-1], ("", False))
        if not path:
            waiting.pop()
        elif is_folder:
            waiting.append(_entries(path, path, left))
        else:
            yield path


def note(left: LeftOut, why: str, path: str) -> None:
    """Add to what is left out, but not what is nobody's news."""
    if os.path.basename(path).lower() not in _SILENT:  # noqa: PTH119
        left[why].append(path)


def lines(left: LeftOut) -> list[str]:
    """What was left out, a line for each reason, with the names of the first."""
    return [f"{len(paths)} left out, {why}: {_shown(paths)}" for why, paths in sorted(left.items()) if paths]


def _shown(paths: Sequence[str], most: int = 3) -> str:
    return ", ".join(sorted(paths)[:most]) + (", ..." if len(paths) > most else "")


def _entries(prefix: str, folder: str, left: LeftOut) -> Iterator[tuple[str, bool]]:
    """Photos and folders right below a folder that may be read, sorted, and which of them are folders."""
    kept: list[tuple[str, bool]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path, is_folder = os.path.join(prefix, entry.name), entry.is_dir(follow_symlinks=False)  # noqa: PTH118
                is_file = not is_folder and (entry.is_symlink() or entry.is_file())
                photo = is_file and not is_debris(entry.name) and is_photo(folder, entry.name)
                if not photo and (why := why_left_out(folder, entry.name, is_folder=is_folder)):
                    note(left, why, path)
                elif photo or is_folder:
                    kept.append((path, is_folder))
    except PermissionError:
        return iter(())
    return iter(sorted(kept))


def _begins_like_one(path: str) -> bool:
    try:
        if not os.path.isfile(path):  # noqa: PTH113  # a pipe would wait
            return False
        with open(path, "rb") as file:
            begin = file.read(12)
    except OSError:
        return False
    return begin.startswith(_BEGINS) or (begin[:4], begin[8:]) in _BEGINS_AND_GOES_ON
