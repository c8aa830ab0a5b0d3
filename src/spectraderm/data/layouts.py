"""The folders that photos lie in: which file is a photo of which class, given split and source.

A data set is `<class>/*` or `<train|val|test>/<class>/*`. Several data sets are sources: given one by one, or as the
folders of one parent. `other`, in any case, is a reserved name of a class folder: photos of none of the classes. How
other names of class folders are compared, `core.names` says.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError
from spectraderm.core.names import folded, look_alikes, spelled, unite
from spectraderm.core.roots import Folders, Root, check_folders
from spectraderm.data.class_folders import NO_CLASS_NAME, check_class, split_of
from spectraderm.images.photo_files import UNREAD, LeftOut, below, is_debris, is_photo, note, why_left_out


class PhotoFile(NamedTuple):
    """A file that should be a photo: its path relative to the root, its class, and its folder's split or nothing."""

    path: str
    label: str
    given_split: str


@dataclass
class Listing:
    """The photo files of a folder, and what is not read: other files, links out of it, folders too deep, and what
    `photo_files` leaves out.
    """

    photos: list[PhotoFile] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=lambda: LeftOut(list))
    empty: dict[str, str] = field(default_factory=dict)
    """Class folders that no photo is read from, and the class of each."""
    joined: list[str] = field(default_factory=list)
    """Of class folders that are spelled otherwise than their class, as `core.names.spelled` has it."""
    alike: list[str] = field(default_factory=list)
    """Class folders beside each other whose names only look alike."""
    sources: list[str] = field(default_factory=list)
    """Names of the folders that are a source each, where there are several; paths begin with them."""

    def source_of(self, path: str) -> str:
        """The source that a photo's folders tell, or nothing."""
        return path.partition("/")[0] if self.sources else ""


def list_photos(root: Root) -> Listing:
    """List the photos of `root/<split>/<class>/*` or `root/<class>/*`, sorted by path; of several sources, all of them.

    Class folders of two splits or sources whose names are the same or look alike are one class, and so are folders
    named `other` in any case; beside each other, names that look alike are two classes, and told. Hidden files and
    folders are passed over; links that lead out of the folder are not followed.

    Raises:
        DatasetError: no such folder, no photos, fewer than two classes beside `other`, a source without photos, a
            class that only the test split has, or a class's name that can't be one.
    """
    listing = Listing()
    if isinstance(root, Folders):
        listing.sources = list(root.of_source)
        for source, folder in root.of_source.items():
            _list_source(folder, source, listing, all_other=source in root.others)
    else:
        listing.sources = source_folders(root)
        for source in listing.sources:
            _list_folder(root, f"{source}/", listing)
        if listing.sources:
            listing.nested += sorted({*_folders(root, "", listing)} - {*listing.sources})
        else:
            _list_folder(root, "", listing)
    _name_classes(listing)
    where = root if isinstance(root, Path) else ", ".join(map(str, root.of_source.values()))
    _check_empty(root, listing)
    labels = {photo.label for photo in listing.photos}
    classes = labels - {OTHER}
    if len(classes) < 2:
        remedy = "Put the photos into one folder per class, or into train/<class> and test/<class>"
        if listing.nested and not labels:
            remedy += "; if its folders are data sets of their own, give them one by one"
        beside = f" beside {OTHER!r}" if OTHER in labels else ""
        raise DatasetError(f"{where} holds photos of {len(classes)} classes{beside}, two are needed", remedy)
    for label in sorted(labels - {photo.label for photo in listing.photos if photo.given_split in ("train", "")}):
        raise DatasetError(
            f"{where}: class {label!r} has no training photos", "Name its folder the same in every split"
        )
    return listing


def _check_empty(root: Root, listing: Listing) -> None:
    """Raise `DatasetError` where a class has no photo that is read, but something in its folders that may be photos."""
    labels = {photo.label for photo in listing.photos}
    for folder in (folder for folder, label in listing.empty.items() if labels and label not in labels):
        within = f"{folder}/"
        deeper = [path for path in listing.nested if path.startswith(within) and any(below(str(root / path)))]
        for paths, what, remedy in (
            (listing.left_out[UNREAD], f"files {UNREAD}", "Convert them to JPEG or PNG"),
            (deeper, "folders of photos", "Move the photos up into it"),
            (listing.outside, "links that lead out of the data set", "Put the photos themselves there"),
        ):
            if own := [path for path in paths if path.startswith(within)]:
                problem = f"{root / folder} is a class without a photo: it holds {len(own)} {what}, such as {own[0]}"
                raise DatasetError(problem, f"{remedy}, or move the folder away")


def source_folders(root: Path) -> list[str]:
    """The folders of `root` that are a data set each: sources. None where `root` is one data set, or may be.

    They are where no folder of `root` is a split or holds photos itself, two or more hold class folders (or split
    folders of these), and each of those shares a class with another. Class folders with a folder for each patient are
    so not taken for sources: patients have other names, or numbers.
    """
    check_folders(root)
    classes: dict[str, set[str]] = {}
    for name in _folders(root, "", Listing()):
        within = None if split_of(name) else _classes(root, f"{name}/")
        if within is None:
            return []
        if within:
            classes[name] = {folded(label) for label in within if not label.isdecimal()}
    shared = Counter(label for within in classes.values() for label in within)
    alone = [name for name, within in classes.items() if not any(shared[label] > 1 for label in within)]
    return [] if alone else list(classes)


def _classes(root: Path, parent: str) -> set[str] | None:
    """The class folders of `parent`, or of its split folders, that hold photos; None where it holds some itself."""
    beside = Listing()
    folders = _folders(root, parent, beside)
    if beside.other_files:
        return None
    splits = [name for name in folders if split_of(name)]
    parents = [f"{parent}{name}/" for name in splits] or [parent]
    pairs = [(within, label) for within in parents for label in _folders(root, within, Listing())]
    return {
        label
        for within, label in pairs
        if any(is_photo(f"{root}/{within}{label}", name) for name in _names(root, f"{within}{label}/", Listing()))
    }


def _list_source(folder: Path, source: str, listing: Listing, *, all_other: bool) -> None:
    """List a folder that was given as a source; what is in it is named by the source, whatever it is called."""
    own = Listing()
    check_folders(folder)
    if all_other:
        _list_other(folder, PhotoFile("", OTHER, ""), own)
    else:
        _list_folder(folder, "", own)
    if not own.photos and all_other:
        raise DatasetError(f"{folder} holds no photos", "Give a folder with photos in it, or below it")
    if not own.photos:
        raise DatasetError(
            f"{folder} holds no photos in class folders", "Give folders of <class>/* or <train|test>/<class>/*"
        )
    listing.photos += [photo._replace(path=f"{source}/{photo.path}") for photo in own.photos]
    for name in ("other_files", "outside", "nested"):
        getattr(listing, name).extend(f"{source}/{path}" for path in getattr(own, name))
    for why, paths in own.left_out.items():
        listing.left_out[why] += [f"{source}/{path}" for path in paths]
    listing.empty |= {f"{source}/{path}": label for path, label in own.empty.items()}


def _list_folder(root: Path, parent: str, listing: Listing) -> None:
    """List one data set: `root` itself, or `parent` in it, which ends in a slash."""
    folders = _folders(root, parent, listing)
    splits = {folder: split_of(folder) for folder in folders}
    if not any(splits.values()):
        for label in folders:
            _list_class(root, PhotoFile(f"{parent}{label}", label, ""), listing)
        return
    loose, classes = len(listing.other_files), 0
    for folder in folders:
        listing.nested += [] if splits[folder] else [f"{parent}{folder}"]
        for label in _folders(root, f"{parent}{folder}/", listing) if splits[folder] else ():
            classes += 1
            _list_class(root, PhotoFile(f"{parent}{folder}/{label}", label, splits[folder]), listing)
    if not classes and len(listing.other_files) > loose:
        folder = listing.other_files[loose].rpartition("/")[0]
        problem = f"{root / folder} has the name of a split, but holds photos and no class folders"
        raise DatasetError(problem, NO_CLASS_NAME)


def _name_classes(listing: Listing) -> None:
    """Give every photo its class in place of its folder's name, and note which folders are spelled otherwise."""
    folders = {photo.path.rpartition("/")[0]: photo for photo in listing.photos if photo.label != OTHER}
    beside: dict[tuple[bool, str], list[str]] = {}  # training photos' first: their spelling is taken
    for folder, photo in folders.items():
        tested = photo.given_split not in ("train", "")
        beside.setdefault((tested, folder.rpartition("/")[0]), []).append(photo.label)
    classes = {name: _class(label) for name, label in unite(beside[place] for place in sorted(beside)).items()}
    listing.photos = [photo._replace(label=classes.get(photo.label, OTHER)) for photo in listing.photos]
    known = {folded(name): name for name in (OTHER, *classes.values())}
    listing.empty = {folder: known.get(folded(name), name) for folder, name in listing.empty.items()}
    pairs = {folder: (photo.label, classes[photo.label]) for folder, photo in folders.items()}
    listing.joined = [spelled(path, *pair) for path, pair in pairs.items() if pair[1] not in (pair[0], OTHER)]
    for (_, parent), names in sorted(beside.items()):
        alike = [name for group in look_alikes(names) for name in group if classes[name] != OTHER]
        listing.alike += [f"{parent}/{name}".removeprefix("/") for name in alike]


def _class(name: str) -> str:
    """A class's name, or `other` where it is that, however it is written."""
    return OTHER if folded(name) == OTHER else name


def _folders(root: Path, parent: str, listing: Listing) -> list[str]:
    """Names of the folders in `parent` (empty, or ending in a slash); photos beside them are other files."""
    folders = []
    for name in _names(root, parent, listing):
        if (root / parent / name).is_dir():
            if _printable(name) != name:
                raise DatasetError(f"{root}: the name of folder {parent + name!r} is not UTF-8", "Rename it")
            folders.append(name)
        elif is_photo(f"{root}/{parent}", name):
            listing.other_files.append(_printable(parent + name))
    return folders


def _list_class(root: Path, folder: PhotoFile, listing: Listing) -> None:
    before = len(listing.photos)
    check_class(folder.label, (root / folder.path).parent)
    for name in _names(root, f"{folder.path}/", listing):
        path = f"{folder.path}/{name}"
        if (root / path).is_dir():
            listing.nested.append(_printable(path))
        elif is_photo(f"{root}/{folder.path}", name) and _printable(name) == name:
            listing.photos.append(folder._replace(path=path))
        else:
            listing.other_files.append(_printable(path))
    if len(listing.photos) == before:
        listing.empty[folder.path] = folder.label


def _list_other(root: Path, folder: PhotoFile, listing: Listing) -> None:
    """List every photo at or below a folder, as deep as it may be; its outermost folder may be a split's."""
    parent = f"{folder.path}/" if folder.path else ""
    for name in _names(root, parent, listing):
        path = f"{parent}{name}"
        if (root / path).is_dir() and not (root / path).is_symlink():
            split = folder.given_split if parent else split_of(name)
            _list_other(root, PhotoFile(path, folder.label, split), listing)
        elif is_photo(f"{root}/{parent}", name) and _printable(path) == path:
            listing.photos.append(folder._replace(path=path))
        else:
            listing.other_files.append(_printable(path))


def _names(root: Path, parent: str, listing: Listing) -> list[str]:
    """What is in a folder and may be read; links out of `root` and what is left out go to the listing."""
    folder, home, kept = root / parent, os.path.realpath(root), []  # `Path.resolve` fails on link loops
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DatasetError(f"{folder} can't be listed ({error})", "Check its permissions") from error
    for name in names:
        path, why = folder / name, ""
        if path.is_dir() or is_debris(name) or not is_photo(str(folder), name):
            why = why_left_out(str(folder), name, is_folder=path.is_dir())
        if why:
            note(listing.left_out, why, _printable(parent + name))
        elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
            listing.outside.append(_printable(parent + name))
        else:
            kept.append(name)
    return kept


def _printable(name: str) -> str:
    r"""A name with `\xe9` in place of bytes that are not UTF-8, so that it can be written."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
