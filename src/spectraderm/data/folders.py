"""A folder of photos -> which files are photos, of which class, in which given split. Decodes nothing."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from spectraderm.core.errors import DatasetError
from spectraderm.images.preprocessing import HEIC_SUFFIXES, SUFFIXES

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}


@dataclass
class Found:
    """What a walk over the folder met: photos as (relative path, label, given split), and all that was left out."""

    photos: list[tuple[str, str, str]] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)


def walk(root: Path) -> Found:
    """List the photos of `root/<split>/<class>/*` or `root/<class>/*`, sorted by path.

    Hidden files and folders are passed over; links that lead out of `root` are not followed.

    Raises:
        DatasetError: no such folder, no photos, fewer than two classes, or a class that only the test split has.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", "Give the folder that holds the class or split folders")
    found = Found()
    folders = _visible_folders(root, "", found)
    splits = {folder: SPLIT_FOLDERS.get(folder.lower(), "") for folder in folders}
    if any(splits.values()):
        for folder in folders:
            if splits[folder]:
                for label in _visible_folders(root, f"{folder}/", found):
                    _list_class(root, f"{folder}/{label}", label, splits[folder], found)
            else:
                found.nested.append(folder)
    else:
        for label in folders:
            _list_class(root, label, label, "", found)
    _check_classes(root, found)
    return found


def _visible_folders(root: Path, parent: str, found: Found) -> list[str]:
    """Names of the folders in `parent` (empty, or ending in a slash); photos beside them go to `found`."""
    folders = []
    for name in _names(root, parent):
        if _leads_out(root, parent + name):
            found.outside.append(_printable(parent + name))
        elif (root / parent / name).is_dir():
            if not _is_utf8(name):
                raise DatasetError(f"{root}: the name of folder {parent + name!r} is not UTF-8", "Rename it")
            folders.append(name)
        elif Path(name).suffix.lower() in SUFFIXES | HEIC_SUFFIXES:
            found.other_files.append(_printable(parent + name))
    return folders


def _list_class(root: Path, folder: str, label: str, split: str, found: Found) -> None:
    for name in _names(root, folder):
        path = f"{folder}/{name}"
        if _leads_out(root, path):
            found.outside.append(_printable(path))
        elif (root / path).is_dir():
            found.nested.append(_printable(path))
        elif Path(name).suffix.lower() in SUFFIXES | HEIC_SUFFIXES and _is_utf8(name):
            found.photos.append((path, label, split))
        else:
            found.other_files.append(_printable(path))


def _names(root: Path, folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(root / folder) if not name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{root / folder} can't be listed ({error})", "Check its permissions") from error


def _leads_out(root: Path, path: str) -> bool:
    """Whether it is a link out of `root`. `realpath` bears link loops, `Path.resolve` does not."""
    file = root / path
    return file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root))


def _is_utf8(name: str) -> bool:
    return _printable(name) == name


def _printable(name: str) -> str:
    r"""A name with `\xe9` in place of bytes that are not UTF-8, so that it can be written."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _check_classes(root: Path, found: Found) -> None:
    labels = {label for _, label, _ in found.photos}
    if len(labels) < 2:
        raise DatasetError(
            f"{root} holds photos of {len(labels)} classes, two are needed",
            "Put the photos into one folder per class, or into train/<class> and test/<class>",
        )
    trained = {label for _, label, split in found.photos if split in ("train", "")}
    for label in sorted(labels - trained):
        raise DatasetError(f"{root}: class {label!r} has no training photos", "Name its folder the same in every split")
