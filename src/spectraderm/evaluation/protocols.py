"""The same model measured in every way there is, side by side, with what needs no model: which number to believe.

Baselines are the floor under every score, on the very same photos: programs that never look at a disease.
`majority_class` guesses the most frequent training class; `hash_look_up` the class of the training photo with the
nearest perceptual hash, in any turn; `metadata` goes by file size, format, dimensions and JPEG quality; `pixels_8x8` by
the photo shrunk to 8x8.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from spectraderm.core import files
from spectraderm.core.errors import RunFolderError
from spectraderm.core.resampling import interval
from spectraderm.core.run import EXTERNAL, MEASUREMENTS, ORIGINAL, Run
from spectraderm.data import shortcuts
from spectraderm.evaluation import metrics
from spectraderm.evaluation.bootstrap import Integers, Scored, resample, weights
from spectraderm.evaluation.by_source import over_sources
from spectraderm.evaluation.formatting import score
from spectraderm.evaluation.outputs import FoldOutputs, pool
from spectraderm.images.perceptual_hash import nearest_of

TITLES = {
    "original": "original: the folders as they came",
    "without-copies": "of these, test photos that are no copies",
    "grouped": "grouped by photo: no copy crosses",
    "deduplicated": "deduplicated: the folders less the copies",
    "by-source": "by source: whole sources left out",
}
SHOWN = ("n_photos", "n_groups", "accuracy", "group_accuracy", "balanced_accuracy", "macro_f1")
BASELINES = ("majority_class", "hash_look_up", "metadata", "pixels_8x8")
EXTERNAL_ROW = "external:"
"""Before the name of a row about photos from elsewhere."""
MEAN_ROW = f"{EXTERNAL_ROW}every source"
"""The row that is the mean of those."""
_AUDIT_AGAIN = "Run `spectraderm audit` again, into a new run folder"

Measurements = Mapping[str, npt.NDArray[Any]]


def protocols(
    run: Run,
    protocol: str,
    folds: Sequence[FoldOutputs],
    crossed: Sequence[FoldOutputs],
    measurements: Measurements,
    sources: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """A row per protocol, the one to believe least first; `believe` marks the one to believe most, if there is any.

    `crossed` are those of the `folds` whose test photos are the score of the run, whose own protocol is `protocol`;
    `sources` is that score by source, see `by_source`.
    """
    original = crossed if protocol == "original" else [fold for fold in folds if fold.fold == ORIGINAL]
    rows = _original_rows(original[0], measurements, folds[0].seed) if original else []
    if protocol != "original":
        words = "Believe it for new photos of the same collection; those of other people and cameras are harder."
        if protocol == "by-source":
            words = "Believe it for photos of a source that it has never seen." + _of_sources(sources)
            if left := len(folds[0]) - sum(int((fold.splits == "test").sum()) for fold in crossed):
                words += f" {left} are left out: copies across sources, or of a class that no other source has."
        floor = baselines(crossed, measurements, folds[0].seed)
        rows.append(_row(protocol, TITLES[protocol], metrics.scores(pool(crossed).scored()), words, baselines=floor))
    rows += _external_rows(run)
    clean = [row for row in rows if not row["leaked"]]
    whole = [row for row in clean if row["name"] != "without-copies"] or clean
    external = [row for row in whole if row["name"].startswith(EXTERNAL_ROW)]
    external = [row for row in external if not row["chosen_on"]] or external
    for row in [max(external, key=lambda row: row["n_groups"])] if external else whole[-1:]:
        row["believe"] = True
    return rows


def external_results(run: Run) -> list[dict[str, Any]]:
    """What `evaluate MODEL PHOTOS` wrote about other folders of photos, in order of name."""
    paths = sorted(run.path(EXTERNAL).glob("*.json"))
    return [files.read_json(path, "Delete it, and evaluate on those photos again") for path in paths]


def read_measurements(run: Run, photos: int) -> Measurements:
    """The audit's measurements of so many photos. Raises `RunFolderError` where they lack or are of others."""
    path = run.path(MEASUREMENTS)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ("hashes", "metadata", "pixels_8x8")}
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise RunFolderError(f"{path} can't be read ({error})", _AUDIT_AGAIN) from error
    if any(len(array) != photos for array in arrays.values()):
        raise RunFolderError(f"{path} is not of the {photos} photos of this run", _AUDIT_AGAIN)
    return arrays


def baselines(folds: Sequence[FoldOutputs], measurements: Measurements, seed: int) -> dict[str, Any]:
    """Each baseline's `accuracy`, `group_accuracy` and `balanced_accuracy`, learned and scored as the folds were."""
    tests, result = pool(folds), {}
    for name in BASELINES:
        guesses = np.concatenate([_guesses(name, fold, measurements, seed) for fold in folds])
        every = Scored(tests.labels, tests.groups, np.eye(tests.logits.shape[1])[guesses], other=tests.other)
        scored = every.take(~tests.is_other)
        statistic = metrics.guess_statistic(scored)
        by_file, by_group = (resample(statistic, weights(scored.groups, by_group=once)) for once in (False, True))
        accuracies = {"accuracy": by_file["accuracy"], "group_accuracy": by_group["accuracy"]}
        accuracies["balanced_accuracy"] = by_file["balanced_accuracy"]
        result[name] = {metric: interval(values) for metric, values in accuracies.items()}
    return result


def _guesses(name: str, fold: FoldOutputs, measurements: Measurements, seed: int) -> Integers:
    """A baseline's guesses of a fold's test photos, `int64[n]`."""
    test = np.flatnonzero(fold.splits == "test")
    train = np.flatnonzero(np.isin(fold.splits, ("train", "val")))  # nothing is tuned, so nothing is held back
    guesses: Integers
    if name == "majority_class":
        guesses = np.full(len(test), np.bincount(fold.labels[train]).argmax())
    elif name == "hash_look_up":
        hashes = measurements["hashes"]
        guesses = fold.labels[train[nearest_of(hashes[test], hashes[train][:, 0])]]
    else:
        guesses = shortcuts.guess(measurements[name], fold.labels, train, test, seed).argmax(1)
    return guesses


def _original_rows(fold: FoldOutputs, measurements: Measurements, seed: int) -> list[dict[str, Any]]:
    """The folders as they came, and of these, where some test photos are copies and some not, the others alone."""
    test = fold.of("test").own
    clean = ~np.isin(test.groups, fold.groups[np.isin(fold.splits, ("train", "val"))])
    leaked = int((~clean).sum())
    words = "No copies were found: believe it for photos of the same collection."
    if leaked:
        words = f"Do not believe it: {leaked} of {len(test)} test photos are copies of photos it learned from."
    scores, floor = metrics.scores(test.scored()), baselines([fold], measurements, seed)
    rows = [_row("original", TITLES["original"], scores, words, leaked, baselines=floor)]
    if 0 < leaked < len(test):
        words = "Honest, but few photos, and perhaps not of every class."
        scores = metrics.scores(test.scored().take(clean))
        rows.append(_row("without-copies", TITLES["without-copies"], scores, words))
    return rows


def _row(
    name: str, title: str, scores: Mapping[str, Any], words: str, leaked: int = 0, **more: object
) -> dict[str, Any]:
    head = {"name": name, "title": title, "believe": False, "leaked": leaked}
    return {**head, **{key: scores[key] for key in SHOWN}, "words": words, **more}


def _external_rows(run: Run) -> list[dict[str, Any]]:
    """The rows of other folders with photos of classes that the model knows."""
    rows = []
    for result in external_results(run):
        if result.get("scores"):
            name, chosen, words = result["name"], bool(result.get("chosen_on")), "Believe it for photos from elsewhere."
            if chosen:
                words = "A recipe was chosen by its score on these photos, which therefore flatters."
            if result["in_training"]:
                words += f" {result['in_training']} more are left out: it learned from them, or from copies of them."
            title = f"other photos: {name}{', chosen on' if chosen else ''}"
            rows.append(_row(f"{EXTERNAL_ROW}{name}", title, result["scores"], words, chosen_on=chosen))
    clean = [row for row in rows if not row["chosen_on"]]
    averaged = clean if len(clean) > 1 else rows
    summary = over_sources({row["name"].removeprefix(EXTERNAL_ROW): row for row in averaged}, SHOWN[2:])
    if summary:
        counts = {name: sum(row[name] for row in averaged) for name in SHOWN[:2]}
        words, title = "Believe it for photos from elsewhere", f"mean of {len(averaged)} sources elsewhere"
        chosen = len(clean) < len(averaged)
        if chosen:
            title += ", chosen on"
            words = "It flatters, for a recipe was chosen on them: at a new place expect less"
        words += f"; each source weighs the same.{_worst(summary, averaged)}"
        rows.append(_row(MEAN_ROW, title, counts | summary["mean_over_sources"], words, chosen_on=chosen))
    return rows


def _of_sources(sources: Mapping[str, Any]) -> str:
    """The mean over sources and the worst of them, as a sentence."""
    means, parts = sources["mean_over_sources"], sources["by_source"]
    rows = [{"name": name, **own} for name, own in parts.items()]
    return f" The mean of {means['n_sources']} is {score(means['group_accuracy'])}.{_worst(sources, rows)}"


def _worst(sources: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    worst = sources["worst_source"]
    own = next(row for row in rows if row["name"].removeprefix(EXTERNAL_ROW) == worst)
    return f" The worst is {worst}: {score(own['group_accuracy'])}."
