"""Photos of other sources: which folders they are in, what they show, and what a model says of each.

A source is given as a folder, whose name is its own, or as `NAME=FOLDER`; folders of one NAME are one source.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core import OTHER, other_of
from spectraderm.core.errors import DatasetError, SpectraDermError
from spectraderm.core.names import folded
from spectraderm.core.parallel import in_chunks
from spectraderm.core.progress import Track
from spectraderm.core.roots import Folders
from spectraderm.core.tables import read_label_map
from spectraderm.data.beside import Beside, Keys
from spectraderm.data.class_folders import match
from spectraderm.data.duplicates import near_pairs, photo_groups
from spectraderm.data.layouts import source_folders
from spectraderm.evaluation.bootstrap import NO_CLASS, Booleans, Judged, Reals
from spectraderm.images.perceptual_hash import Hashes, turned_hashes
from spectraderm.images.photo_files import UNREAD
from spectraderm.inference.classifier import Classifier, Opened, Prediction
from spectraderm.inference.photo_paths import walk
from spectraderm.inference.prediction import VERDICTS

Given = Path | Sequence[Path | str] | Folders
"""Folders of photos, or `NAME=FOLDER`, as they are given: one, or several; or what `roots.with_other` makes of them."""
Sources = Mapping[str, Sequence[Path]]
"""The folders of every source, by its name."""


@dataclass(frozen=True, kw_only=True)
class Predicted(Judged):
    """n photos that could be read, and what a model says of them; of unusable ones all probabilities are 0.

    Attributes:
        labels: true class numbers, `int64[n]`, `NO_CLASS` where a photo shows none of the classes.
        in_training: whether the model was trained on a photo or on a copy, `bool[n]`.
        novelty: `float64[n]`; NaN of unusable photos.
        sources: `str[n]`.
        hashes: `uint8[n, 8, 8]`.
        names: of the model's classes.
    """

    in_training: Booleans
    novelty: Reals
    sources: npt.NDArray[np.str_]
    hashes: Hashes
    names: list[str]

    @property
    def usable(self) -> Booleans:
        """Whether the model was asked: not of photos that the quality gate refused, `bool[n]`."""
        return np.not_equal(self.verdicts, VERDICTS.index("unusable_photo"))


def named_sources(given: Given) -> dict[str, list[Path]]:
    """The folders of every source, by name, sorted.

    A folder, where it is the only one, may hold sources as `layouts.source_folders` tells them.

    Raises:
        DatasetError: two folders hold the same photos, or two without a NAME have the same one.
    """
    if isinstance(given, Folders):
        return {source: [folder] for source, folder in given.of_source.items()}
    parts = [given] if isinstance(given, Path) else list(given)
    named = [_named(part) for part in parts]
    if len(named) == 1 and named[0][0] == "" and named[0][1].is_dir() and (found := source_folders(named[0][1])):
        return {source: [named[0][1] / source] for source in found}
    sources: dict[str, list[Path]] = {}
    for name, path in named:
        for other in (one for own in sources.values() for one in own):
            one, two = other.resolve(), path.resolve()
            if one.is_relative_to(two) or two.is_relative_to(one):
                raise DatasetError(f"{other} and {path} hold the same photos", "Give each folder once")
        own = name or path.resolve().name
        if not name and own in sources:
            problem = f"{sources[own][0]} and {path} are both named {own!r}, as sources can't be"
            raise DatasetError(problem, "Give NAME=FOLDER, with the same NAME where they are one source")
        sources.setdefault(own, []).append(path)
    return dict(sorted(sources.items()))


def _named(given: Path | str) -> tuple[str, Path]:
    name, is_named, folder = str(given).partition("=")
    if is_named and name and folder and os.sep not in name and not Path(given).exists():
        return name, Path(folder)
    return "", Path(given)


def predict_sources(
    classifier: Classifier, sources: Sources, label_map: Path | None, track: Track, others: Sequence[Path] = ()
) -> tuple[Predicted, dict[str, Beside]]:
    """Every photo of the sources, on all cores; and by source what is told of its folders.

    Copies are one photo group, and photos of one patient or lesion, as the tables beside them say. Photos are of no
    class where the `label_map` says nothing of their folder's, or, without one, where none of a source's folders bears
    a class's name; and in `others`, folders of the sources, whatever they are named.

    Raises:
        DatasetError: no photo of a source can be read, folders of which only some bear a class's name or that look
            alike, or an unusable map or table beside the photos.
    """
    paths: list[tuple[str, str]] = []
    of_folder: dict[Path, int] = {}
    keys: Keys = {}
    about = {source: Beside() for source in sources}
    for source, folders in sources.items():
        for folder in folders:
            own = list(walk(str(folder), about[source].left_out))
            paths += [(source, path) for path in own]
            keys |= about[source].look(folder, own, source)
            within = sorted({Path(path).parent for path in own})
            known, joined = ({}, []) if folder in others else _folders(folder, within, classifier, label_map)
            of_folder |= dict.fromkeys(within, NO_CLASS) | known
            about[source].joined += joined
    for beside in about.values():
        beside.unreadable += [f"{path}: {UNREAD}" for path in beside.left_out[UNREAD]]
    many, threads = classifier.for_many()
    results = in_chunks(lambda photos: _predict(many, [path for _, path in photos]), paths, threads)
    read, kept = [], []
    for (source, path), photo in track(results, f"Predicting {', '.join(sources)}", len(paths)):
        if isinstance(photo, SpectraDermError):
            about[source].unreadable.append(str(photo))
        else:
            kept.append(keys[path])
            read.append((source, of_folder[Path(path).parent], *photo))
    for source in sorted({*sources} - {source for source, *_ in read}):
        problem = f"{', '.join(map(str, sources[source]))}: no photo can be read"
        raise DatasetError(problem, f"First: {about[source].unreadable[0]}")
    of_source, labels, predictions, hashes = zip(*read, strict=True)
    names = classifier.labels
    return Predicted(
        np.array(labels),
        photo_groups(len(read), near_pairs(np.stack(hashes)), kept),
        np.array([[one.probabilities.get(label, 0.0) for label in names] for one in predictions]),
        other=other_of(names),
        sets=np.array([[label in one.prediction_set for label in names] for one in predictions]),
        verdicts=np.array([VERDICTS.index(one.verdict) for one in predictions]),
        in_training=np.array([one.in_training for one in predictions]),
        novelty=np.array([one.novelty for one in predictions], np.float64),
        sources=np.array(of_source),
        hashes=np.stack(hashes),
        names=names,
    ), about


def _predict(classifier: Classifier, paths: Sequence[str]) -> list[tuple[Prediction, Hashes] | SpectraDermError]:
    """A few photos through all stages, decoded and hashed once."""
    hashes: list[Hashes] = []

    def opened(path: str) -> Opened | SpectraDermError:
        found = classifier.opened(path)
        if isinstance(found, SpectraDermError):
            return found
        hashes.append(turned_hashes(found[0]))
        return found[0], hashes[-1]

    said = classifier.predict_opened(map(opened, paths))
    known = iter(hashes)
    return [one if isinstance(one, SpectraDermError) else (one, next(known)) for one in said]


def _folders(
    photos: Path, folders: Sequence[Path], classifier: Classifier, label_map: Path | None
) -> tuple[dict[Path, int], list[str]]:
    """The class number, or -1, of every folder that holds photos; and which are spelled otherwise than their class."""
    within = {folder: folder.relative_to(photos).parts for folder in folders}
    others = [] if label_map else [folder for folder, parts in within.items() if OTHER in map(folded, parts)]
    shown = {label: classifier.display_name(label) for label in classifier.labels}
    wanted = read_label_map(label_map) if label_map else None
    found = match((each for each in folders if each not in others), shown, wanted)
    numbers = dict.fromkeys([*others, *found.lacking], NO_CLASS)
    numbers |= {
        folder: NO_CLASS if label == OTHER else classifier.labels.index(label)
        for folder, label in found.classes.items()
    }
    if found.lacking and (label_map or {*numbers.values()} - {NO_CLASS}):
        folder, name = next(iter(found.lacking.items()))
        classes = ", ".join(classifier.labels)
        if label_map:
            problem = f"{label_map} has no line for folder {folder.name!r}"
            if name != folder.name:
                problem = f"{label_map}: {name!r} is no class of the model"
            raise DatasetError(problem, f"No label means no class; its classes: {classes}")
        raise DatasetError(
            f"{photos}: the model has no class {name!r}, but has others of these folders",
            f"Give a --label-map with the columns folder,label; its classes: {classes}",
        )
    return numbers, found.joined
