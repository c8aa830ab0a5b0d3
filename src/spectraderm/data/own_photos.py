"""Class folders of one's own photos, to adapt a model with: read, looked at, and those of one photo or patient grouped.

A small audit that needs no extra: some hundred photos are compared each with each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError, SpectraDermError
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track, no_track
from spectraderm.data.beside import Beside
from spectraderm.images.decoding import open_photo
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Hashes, distances, turned_hashes
from spectraderm.images.photo_files import UNREAD, LeftOut, below, lines, note, why_left_out
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.images.quality import flaws, measure

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OwnPhotos:
    """n photos that can be used, in the order of their paths.

    Attributes:
        paths: where they are.
        folders: the class folder of each, `other` for those given as that.
        pixels: the model's input, `uint8[n, s, s, 3]`.
        hashes: perceptual hashes in all turns, `uint8[n, 8, 8]`.
        keys: what joins each to others, a patient or a lesion, by the tables beside them.
        left_out: of the others, which they are and why they can't be used.
        beside: what is told of the folders.
    """

    paths: list[str]
    folders: list[str]
    pixels: Pixels
    hashes: Hashes
    keys: list[list[tuple[str, str]]]
    left_out: list[str]
    beside: Beside


def read(root: Path, preprocessing: Preprocessing, other: Path | None = None, track: Track = no_track) -> OwnPhotos:
    """Read the photos of `root/<class>/`, and those below `other` as photos of none of the classes.

    Raises:
        DatasetError: no such folder, no class folders in it, or no photo that can be used in one of them.
    """
    beside = Beside()
    listed = list(_listed(root, beside.left_out))
    keys = beside.look(root, [path for path, _ in listed])
    if other:
        own = _photos(other, beside.left_out)
        listed += [(path, OTHER) for path in own]
        keys |= beside.look(other, own, other.resolve().name)
    beside.unreadable += [f"{path}: {UNREAD}" for path in beside.left_out[UNREAD]]
    if not listed:
        raise DatasetError(f"{root} has no class folders with photos", "Put the photos into one folder per class")
    photos = in_order(lambda one: _read(one[0], preprocessing), listed, cores())
    usable: list[tuple[str, str, Pixels, Hashes]] = []
    left_out = []
    for (path, folder), photo in track(photos, "Reading your photos", len(listed)):
        if isinstance(photo, str):
            left_out.append(photo)
        elif isinstance(photo, SpectraDermError):
            left_out.append(str(photo))
            beside.unreadable.append(str(photo))
        else:
            usable.append((path, folder, *photo))
    kept = {folder for _, folder, *_ in usable}
    if lacking := [folder for _, folder in listed if folder not in kept]:
        raise DatasetError(f"no photo of {lacking[0]!r} can be used", f"First: {left_out[0]}")
    paths, folders, pixels, hashes = zip(*usable, strict=True)
    arrays = np.stack(pixels), np.stack(hashes)
    return OwnPhotos(list(paths), list(folders), *arrays, [keys[path] for path in paths], left_out, beside)


def copies(hashes: Hashes) -> Integers:
    """The same number for photos that are copies of each other, `int64[n]`, of hashes `uint8[n, 8, 8]`."""
    words = np.ascontiguousarray(hashes).view(np.uint64)[..., 0]
    groups = np.arange(len(words))
    for turns in words:
        near = (distances(turns[:, None], words[:, 0]) <= MAX_DISTANCE).any(0)
        groups[np.isin(groups, groups[near])] = groups[near].min(initial=len(groups))
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def join(groups: Integers, keys: Sequence[Sequence[tuple[str, str]]]) -> Integers:
    """Groups `int64[n]` of photos, those of them joined that hold photos with a key in common."""
    groups, holder = groups.copy(), dict[tuple[str, str], int]()
    for number, own in enumerate(keys):
        for key in own:
            groups[groups == groups[number]] = groups[holder.setdefault(key, number)]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def conflict(labels: Sequence[str], groups: Integers) -> tuple[int, int] | None:
    """Two photos that are copies of each other and have different labels, by number; None where there are none."""
    first: dict[int, int] = {}
    for number, group in enumerate(groups.tolist()):
        if labels[first.setdefault(group, number)] != labels[number]:
            return first[group], number
    return None


def _listed(root: Path, left: LeftOut) -> Iterator[tuple[str, str]]:
    """The photos in class folders, each with its folder's name. `left` gets what is left out."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", "Give the folder that holds your class folders")
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        if why := why_left_out(str(root), folder.name, is_folder=True):
            note(left, why, str(folder))
            continue
        own = LeftOut(list)
        photos = _photos(folder, own)
        if own[UNREAD] and not photos:
            raise DatasetError(f"{folder} holds no photos; {lines(own)[-1]}", "Convert them to JPEG or PNG")
        for why, paths in own.items():
            left[why] += paths
        yield from ((path, folder.name) for path in photos)


def _photos(folder: Path, left: LeftOut) -> list[str]:
    """The photo files below a folder; no link is followed. `left` gets what is left out."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", "Give a folder of photos")
    return sorted(path for path in below(str(folder), left) if not Path(path).is_symlink())


def _read(path: str, preprocessing: Preprocessing) -> tuple[Pixels, Hashes] | str | SpectraDermError:
    """A photo's input and hashes; why it can't be used or read, where it can't."""
    try:
        image = open_photo(path, preprocessing.shortest_side)
    except SpectraDermError as error:
        return error
    against = [flaw.reason for flaw in flaws(measure(image), *image.size) if flaw.unusable]
    return f"{path}: {against[0]}" if against else (preprocessing(image), turned_hashes(image))
