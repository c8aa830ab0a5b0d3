"""How much `adapt` gains on photos of one source: some are drawn per class, the others measure.

    python benchmarks/adapt.py MODEL TARGET [--near NEAR] [--counts 1 2 5 10] [--draws 5] [--new LABEL ...]

TARGET holds class folders of the model's classes, NEAR photos of other diseases: 20 of them are given as `other`, the
others measure what is answered all the same. `--new` takes folders of NEAR as new classes. Features are computed once.
Prints Markdown tables: means over the draws, in per cent.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core import OTHER
from spectraderm.core.names import join
from spectraderm.core.progress import progress
from spectraderm.data import own_photos
from spectraderm.evaluation import before_after
from spectraderm.evaluation.fitting import Settings
from spectraderm.evaluation.outputs import Outputs
from spectraderm.inference.calibration import novelty
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.training.adapt import ClosedForm, Own, closed_form, cross_validate, folds_of, own_features

OTHERS = 20
"""Photos of NEAR that are given as `other`."""
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Photos:
    """All photos of a source, with the base model's logits; `labels` are names of classes or `other`."""

    own: Own
    before: npt.NDArray[np.float64]
    names: npt.NDArray[np.str_]
    seconds: float


def read(folder: ModelFolder, target: Path, near: Path | None) -> Photos:
    """Features and logits of all photos of a source."""
    with progress() as track:
        parts = [own_photos.read(root, folder.preprocessing, None, track) for root in (target, near) if root]
        start, engine = time.perf_counter(), Engine(folder.network, folder.preprocessing)
        features, before = own_features(engine, np.concatenate([part.pixels for part in parts]), track)
    groups = own_photos.copies(np.concatenate([part.hashes for part in parts]))
    joined = join(parts[0].folders, folder.labels, folder.display_names)
    names = [joined.get(name, name) for name in parts[0].folders]
    names += [f"near:{name}" for part in parts[1:] for name in part.folders]
    own = Own(features, np.zeros(len(names), np.int64), groups, groups)
    return Photos(own, before.astype(np.float64), np.array(names), (time.perf_counter() - start) / len(names))


def drawn(photos: Photos, candidates: Rows, count: int, seed: int) -> Rows:
    """So many photo groups of the candidates, with all their photos; at most half of them."""
    groups = np.unique(photos.own.groups[candidates])
    chosen = np.random.default_rng(seed).permutation(groups)[: min(count, len(groups) // 2)]
    return candidates & np.isin(photos.own.groups, chosen)


def one_draw(
    folder: ModelFolder, form: ClosedForm, photos: Photos, count: int, seed: int, others: int, new: list[str]
) -> dict[str, float]:
    """Adapt to one draw, and measure on the rest."""
    near = np.char.startswith(photos.names, "near:")
    classes = [*folder.labels, *(f"near:{name}" for name in new), OTHER]
    target = {name: number for number, name in enumerate(classes)}
    labels = np.array([target.get(name, len(classes) - 1) for name in photos.names])
    learned = np.zeros(len(labels), bool)
    for name in np.unique(photos.names[~near | np.isin(photos.names, classes)]):
        learned |= drawn(photos, photos.names == name, count, seed)
    if others:
        learned |= drawn(photos, labels == len(classes) - 1, others, seed)
    other = len(classes) - 1 if others else None
    start, form = time.perf_counter(), replace(form, other=other)
    own = replace(photos.own, targets=labels).take(learned)
    crossed = cross_validate(form, folder.references, own, folds_of(own.targets, own.groups, seed))
    held = Outputs(own.targets, own.groups, *crossed, other=other)
    settings = Settings(folder.calibrations.home.coverage, folder.calibrations.home.set_method)
    calibration, _ = before_after.calibrate_own(held, settings)
    said = before_after.score(held, photos.before[learned], classes)
    weights, bias = form.refit(own).solve()
    seconds = time.perf_counter() - start
    features = photos.own.features[~learned, 0]
    logits = features.astype(np.float64) @ weights.T + bias
    judged = calibration.judge(logits, novelty(features, np.concatenate([folder.references, own.references])))
    rest, guesses = labels[~learned], logits.argmax(1)
    known, foreign = rest < len(folder.labels), rest == len(classes) - 1
    answered, right = (judged.verdicts == 0) & (guesses != other), guesses == rest
    measured = {
        "before": (photos.before[~learned].argmax(1) == rest)[known].mean(),
        "after": right[known].mean(),
        "its own word": said["known"]["after"]["value"],
        "90 % set holds": judged.sets[np.arange(len(rest)), np.minimum(rest, logits.shape[1] - 1)][known].mean(),
        "promise": calibration.promised_accuracy or 0.0,
        "predicted": answered[known].mean(),
        "right of these": right[known & answered].mean() if (known & answered).any() else np.nan,
        "near predicted": answered[foreign].mean() if foreign.any() else np.nan,
        "near named": (guesses != other)[foreign].mean() if foreign.any() else np.nan,
    }
    for name in new:
        measured[f"{name} found"] = right[rest == target[f"near:{name}"]].mean()
    return {**{name: 100 * float(value) for name, value in measured.items()}, "seconds": seconds}


def table(title: str, rows: dict[str, list[dict[str, float]]]) -> None:
    """A line per count, means over draws."""
    columns = list(next(iter(rows.values()))[0])
    print(f"\n{title}\n\n| photos a class | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, draws in rows.items():
        values = (np.array([draw[column] for draw in draws]) for column in columns)
        shown = (f"{np.nanmean(own):.1f}" if np.isfinite(own).any() else "–" for own in values)
        print(f"| {name} | {' | '.join(shown)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="model folder")
    parser.add_argument("target", type=Path)
    parser.add_argument("--near", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--new", nargs="*", default=[])
    given = parser.parse_args()
    folder = open_model(given.model)
    form, photos = closed_form(folder), read(folder, given.target, given.near)
    print(f"{folder.model_id}, {given.target.name}: {len(photos.names)} photos, {photos.seconds:.2f} s each")

    def draws(count: int, others: int, new: list[str]) -> list[dict[str, float]]:
        return [one_draw(folder, form, photos, count, seed, others, new) for seed in range(given.draws)]

    table("Without other", {str(count): draws(count, 0, []) for count in given.counts})
    if given.near:
        table(f"With {OTHERS} photos of other", {str(count): draws(count, OTHERS, []) for count in given.counts})
    for name in given.new:
        table(
            f"With the new class {name}", {str(count): draws(count, 0, [name]) for count in given.counts if count > 1}
        )


if __name__ == "__main__":
    main()
