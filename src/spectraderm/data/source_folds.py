"""`by-source`: one fold a source, trained on all others and tested on that one: what a next one will see."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from spectraderm.core import OTHER
from spectraderm.core.errors import SplitError
from spectraderm.core.run import FINAL
from spectraderm.data.folds import EXCLUDED, FOLD_VALIDATION, Fold, cut, of_paths, shuffled
from spectraderm.data.manifest import Row

_GIVE = "Give several folders, a source each (`run A B`), or name it in a column source of metadata.csv"
_GROUPED = "Add sources with other classes, or use --split grouped"


def make(rows: Sequence[Row], seed: int) -> list[Fold]:
    """The fold `final` on all photos, then a fold a source, in order of their names.

    In the fold of a source, its own photo groups are tested and all groups without a photo of it train or validate. A
    group with photos of several sources is excluded in the folds of these, so that it is tested in none and no copy of
    a tested photo is ever trained on; so are photos of a class that no other source has, which can't be learned there;
    but photos of `other` are tested where no other source has such, for to refuse them needs no example. Every other
    photo is tested exactly once.

    Raises:
        SplitError: a photo has no source, there is only one, a class has one photo group, or without some source fewer
            than two classes are left to train on, or none of its own classes is.
    """
    if lacking := [row.path for row in rows if not row.source]:
        raise SplitError(f"{len(lacking)} photos have no source, {lacking[0]} for one", _GIVE)
    sources = sorted({row.source for row in rows})
    if len(sources) < 2:
        raise SplitError(f"all photos are of source {sources[0]!r}, two sources are needed", _GIVE)
    classes = shuffled(rows, (), seed, 2, "photo groups", "Add other photos of it (copies do not count)")
    made = [Fold(FINAL, seed, of_paths(rows, cut(classes, FOLD_VALIDATION)))]
    for number, source in enumerate(sources, 1):
        made.append(Fold(f"fold-{number}", seed + number, _leave_out(rows, source, classes)))
    return made


def check(rows: Sequence[Row], folds: Sequence[Fold]) -> None:
    """Prove the folds beside `final`: one of every source, each as `make` says. Raises `SplitError`."""
    by_path, of_group, tested = {row.path: row for row in rows}, _sources_of_groups(rows), []
    for fold in folds:
        sources = sorted({by_path[path].source for path, name in fold.splits.items() if name == "test"})
        if len(sources) != 1:
            raise SplitError(f"fold {fold.name} tests {len(sources)} sources, not one", "Split again")
        tested += sources
        for problem in _problems(fold, rows, sources[0], of_group):
            raise SplitError(f"fold {fold.name}: {problem}", "Split again")
    if sorted(tested) != sorted({row.source for row in rows}):
        raise SplitError("the folds do not test every source exactly once", "Split again")


def _leave_out(rows: Sequence[Row], source: str, classes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The split of every path in the fold of a source; `classes` are the photo groups of each, shuffled."""
    of_group = _sources_of_groups(rows)
    rest = {label: [group for group in groups if source not in of_group[group]] for label, groups in classes.items()}
    splits = {group: "train" for groups in rest.values() for group in groups}
    splits |= cut({label: groups for label, groups in rest.items() if len(groups) > 1}, FOLD_VALIDATION)
    trained = {row.label for row in rows if splits.get(row.photo_group) == "train"}
    if (count := len(trained - {OTHER})) < 2:
        raise SplitError(
            f"without source {source!r} photos of {count} classes are left to train on, two are needed", _GROUPED
        )

    def split(row: Row) -> str:
        tested = of_group[row.photo_group] == {source} and row.label in {*trained, OTHER}
        return splits.get(row.photo_group, "test" if tested else EXCLUDED)

    named = {row.path: split(row) for row in rows}
    if "test" not in named.values():
        raise SplitError(f"source {source!r} has no photos of its own of a class that others have", _GROUPED)
    return named


def _problems(fold: Fold, rows: Sequence[Row], source: str, of_group: Mapping[int, set[str]]) -> Iterator[str]:
    """Photos that are not where the fold of that source must have them."""
    trained = {row.label for row in rows if fold.splits[row.path] == "train"}
    for row in rows:
        allowed: tuple[str, ...] = (EXCLUDED,)
        if source not in of_group[row.photo_group]:
            allowed = ("train", "val")
        elif of_group[row.photo_group] == {source} and row.label in {*trained, OTHER}:
            allowed = ("test",)
        if fold.splits[row.path] not in allowed:
            yield f"{row.path} must not be in {fold.splits[row.path]}"


def _sources_of_groups(rows: Sequence[Row]) -> dict[int, set[str]]:
    sources: defaultdict[int, set[str]] = defaultdict(set)
    for row in rows:
        sources[row.photo_group].add(row.source)
    return dict(sources)
