"""Names of folders: which are a split's, which can be a class's, and which of a model's classes a folder holds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from spectraderm.core import OTHER
from spectraderm.core.errors import DatasetError
from spectraderm.core.names import ONE_FOLDER, check_name, folded, join, look_alikes, same, spelled

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "test_set"), "test"),
}
_SPLITS = {folded(name): split for name, split in SPLIT_FOLDERS.items()}
NO_CLASS_NAME = (
    "A split holds class folders and stands beside the others, <split>/<class>; a class needs another name than "
    "`train`, `val`, `test` and the like"
)


@dataclass(frozen=True)
class ClassFolders:
    """What folders hold: `classes` by folder, `other` among them; `lacking`, names that are no class's, by folder.

    `joined` says which of the folders are spelled otherwise than their class, and than its name for people.
    """

    classes: dict[Path, str]
    lacking: dict[Path, str]
    joined: list[str]


def split_of(folder: str) -> str:
    """The split that a folder of this name holds: `train`, `val` or `test`; or nothing."""
    return _SPLITS.get(folded(folder), "")


def check_class(name: str, where: object) -> None:
    """Refuse a class of this name, with what to do: `where` it stands is told. See `core.names.check_name`.

    Raises:
        DatasetError: it can't be shown, or is that of a split.
    """
    check_name(name, where)
    if split_of(name):
        raise DatasetError(f"{where}: {name!r} is the name of a split, where a class should be", NO_CLASS_NAME)


def match(
    folders: Iterable[Path], display_names: Mapping[str, str], label_map: Mapping[str, str] | None = None
) -> ClassFolders:
    """Tell the classes of folders by their names, compared as `core.names.join` does.

    A folder may bear a class's name or that for people, which `display_names` has by class; or what a `label_map` says
    by its name, where nothing is `other`.

    Raises:
        DatasetError: a name looks like two classes; or two folders beside each other look alike, and are not two
            classes of the model.
    """
    folders, wanted = list(folders), label_map or {}
    lines = join((folder.name for folder in folders), wanted)
    names = {folder: wanted.get(lines.get(folder.name, ""), folder.name) for folder in folders}
    names = {folder: name if same(name) else OTHER for folder, name in names.items()}
    shown = {name: label for label, name in display_names.items()}
    known = join(names.values(), [*display_names, OTHER], shown)
    classes = {folder: known[name] for folder, name in names.items() if name in known}
    lacking = {folder: name for folder, name in names.items() if name not in known}
    for folder, name in lacking.items():
        if near := sorted({label for one, label in shown.items() if folded(name) in (folded(one), folded(label))}):
            problem = f"{str(folder)!r}: {name!r} looks like {' and '.join(map(repr, near))} of the model"
            raise DatasetError(problem, "Name the folder exactly as the one that it holds")
    beside = defaultdict[Path, list[str]](list)
    for folder in folders:
        if folder.name not in lines:
            beside[folder.parent].append(folder.name)
    for parent, group in ((parent, group) for parent, own in beside.items() for group in look_alikes(own)):
        if len({classes.get(parent / name) for name in group} - {None}) < len(group):
            one, two = (str(parent / name) for name in group[:2])
            problem = f"{one!r} and {two!r} look alike, but lie beside each other"
            raise DatasetError(problem, f"Look whether they are one class: {ONE_FOLDER}")
    exact = {**dict.fromkeys([*display_names, OTHER]), **shown}
    loose = (
        folder for folder in classes if names[folder] not in exact or lines.get(folder.name, folder.name) != folder.name
    )
    joined = [spelled(folder, names[folder], classes[folder]) for folder in loose if classes[folder] != OTHER]
    return ClassFolders(classes, lacking, joined)
