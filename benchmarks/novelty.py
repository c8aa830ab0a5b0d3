"""Which score tells best that a photo is like none that were learned from: why `calibration.novelty` is what it is.

    OMP_NUM_THREADS=1 python benchmarks/novelty.py RUN [--near FOLDER] [--far FOLDER]

RUN was trained by photo with k folds and a frozen backbone. Every score is taken out of fold, of the first photo of
each photo group, and told apart from (a) each disease in turn, left out of the training photos, (b) painted nonsense
and painted skin, neither seen by the quality gate, and (c) the folders, which are measured only: the choice is made by
(a) and (b). A table shows AUROC with its 95 % interval by photo group, and the share refused where 95 % of the known
photos pass.

The logit scores of (a) need a head that never saw the disease: a multinomial logistic regression on the features stands
in for it, for known and left-out photos alike. Features of other photos come from RUN/model, or from the default model
where RUN was not exported and has the same backbone; each fold's own head is then applied to them.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from safetensors.numpy import load_file
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.linear_model import LogisticRegression

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError, SpectraDermError
from spectraderm.data.synthetic import paint_photo
from spectraderm.evaluation import outputs
from spectraderm.evaluation.calibrate import crossing
from spectraderm.evaluation.compare import detection
from spectraderm.evaluation.outputs import Outputs
from spectraderm.images.opening import open_photo
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.batch import find
from spectraderm.inference.calibration import novelty, softmax
from spectraderm.inference.engine import Engine
from spectraderm.inference.model_folder import open_model

Reals = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Scores = dict[str, Reals]
SIDE = 224
DEMO_CLASSES = (
    *("BA- cellulitis", "BA-impetigo", "FU-athlete-foot", "FU-nail-fungus"),
    *("FU-ringworm", "PA-cutaneous-larva-migrans", "VI-chickenpox", "VI-shingles"),
)


@dataclass(frozen=True)
class Known:
    """What a score is fitted on: training features `float[m, d]`, their class numbers, and the first of each group."""

    features: Reals
    labels: Integers
    first: Integers


def from_logits(logits: Reals) -> Scores:
    """Energy (Liu et al. 2020), maximum logit (Hendrycks et al. 2022), maximum softmax (Hendrycks & Gimpel 2017)."""
    top = logits.max(1)
    energy = -(top + np.log(np.exp(logits - top[:, None]).sum(1)))
    return {"energy": energy, "maximum logit": -top, "maximum softmax": -softmax(logits).max(1)}


def from_features(photos: Reals, known: Known) -> Scores:
    """Mahalanobis (Lee et al. 2018), relative Mahalanobis (Ren et al. 2021), and k-NN cosine (Sun et al. 2022)."""
    near, far = mahalanobis(photos, known)
    references = known.features[known.first].astype(np.float32)
    return {
        "Mahalanobis": near,
        "relative Mahalanobis": near - far,
        "k-NN cosine, k = 1": novelty(photos.astype(np.float32), references),
        "k-NN cosine, k = 5": fifth_nearest(photos, references.astype(np.float64)),
    }


def mahalanobis(photos: Reals, known: Known) -> tuple[Reals, Reals]:
    """Squared distances `float[n]` to the nearest class, by the covariance that they share, and to all as one class.

    To both covariances the same sphere is added, so that their difference is one of the classes and not of shrinkage:
    as much as Ledoit & Wolf (2004) find best for the first.
    """
    numbers, which = np.unique(known.labels, return_inverse=True)
    means = np.stack([known.features[which == number].mean(0) for number in range(len(numbers))])
    whole = known.features.mean(0)
    within, around = covariance(known.features - means[which]), covariance(known.features - whole)
    share = float(ledoit_wolf_shrinkage(known.features - means[which], assume_centered=True))
    sphere = share / (1 - share) * np.trace(within) / len(within) * np.eye(len(within))
    near, far = whitening(within + sphere), whitening(around + sphere)
    nearest = np.min([distances(photos - mean, near) for mean in means], axis=0)
    return nearest, distances(photos - whole, far)


def covariance(centred: Reals) -> Reals:
    """`float64[d, d]` of `float64[n, d]`."""
    result: Reals = centred.T @ centred / len(centred)
    return result


def whitening(matrix: Reals) -> Reals:
    """`float64[d, d]` that turns a covariance into the identity."""
    result: Reals = np.linalg.inv(np.linalg.cholesky(matrix)).T
    return result


def distances(centred: Reals, white: Reals) -> Reals:
    """Squared lengths `float64[n]` after whitening."""
    result: Reals = ((centred @ white) ** 2).sum(1)
    return result


def fifth_nearest(photos: Reals, references: Reals) -> Reals:
    """Cosine distance to the fifth nearest, `float[n]`."""
    own, theirs = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (photos, references))
    result: Reals = 1 - np.sort(own @ theirs.T, axis=1)[:, -5]
    return result


def logits_of(checkpoint: Path, photos: Reals) -> Reals:
    """What a fold's head, linear or with one hidden layer, says of features. It is all that the checkpoint holds."""
    state = load_file(checkpoint)
    names = sorted(name for name in state if name.endswith(".weight"))
    for number, name in enumerate(names):
        hidden = photos if number == 0 else np.maximum(photos, 0)
        photos = hidden @ state[name].T.astype(np.float64) + state[name.replace("weight", "bias")]
    return photos


@dataclass(frozen=True)
class Run:
    """A run folder: its measuring folds and the features of all its photos, in the manifest's order."""

    folder: Path
    folds: list[Outputs]
    features: Reals
    labels: list[str]

    def known(self, fold: Outputs, without: int | None = None) -> Known:
        """A fold's training photos, all or without one class."""
        trained = np.flatnonzero((fold.splits == "train") & (fold.labels != (-1 if without is None else without)))
        first = np.unique(fold.groups[trained], return_index=True)[1]
        return Known(self.features[trained], fold.labels[trained], first.astype(np.int64))

    def tested(self, fold: Outputs) -> Integers:
        """The fold's test photos, the first of every photo group."""
        tested = np.flatnonzero(fold.splits == "test")
        return tested[np.unique(fold.groups[tested], return_index=True)[1]].astype(np.int64)


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises `RunFolderError` where it is not by photo, or its backbone was trained."""
    config = artifacts.read_json(folder / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    folds = crossing(config["protocol"], outputs.read(folder, config))
    if config["protocol"] != "grouped" or len(folds) < 2 or config["recipe"]["train_backbone"]:
        raise RunFolderError(f"{folder} is not by photo in k folds with a frozen backbone", "Give another run")
    features = artifacts.read_array(folder / artifacts.FEATURES, "Train again").astype(np.float64)
    return Run(folder, folds, features, config["labels"])


@dataclass(frozen=True)
class Compared:
    """Scores of photos of the known kind and of others, each score as the share of known photos that score less.

    So that trainings whose scores differ in scale can be pooled. Groups, `int64`, are equal for copies of one photo.
    """

    inside: Scores
    outside: Scores
    inside_groups: Integers
    outside_groups: Integers


def compared(scores: Scores, strange: Booleans, groups: Integers) -> Compared:
    """Of one training: `scores` and `groups` of all photos, and which of them are strange."""
    ranked = {name: _ranks(values, ~strange) for name, values in scores.items()}
    inside, outside = ({name: values[own] for name, values in ranked.items()} for own in (~strange, strange))
    return Compared(inside, outside, groups[~strange], groups[strange])


def pooled(parts: Sequence[Compared]) -> Compared:
    """Several trainings as one."""
    inside, outside = (
        {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}
        for sides in ([part.inside for part in parts], [part.outside for part in parts])
    )
    groups = [np.concatenate(own) for own in zip(*((p.inside_groups, p.outside_groups) for p in parts), strict=True)]
    return Compared(inside, outside, *groups)


def left_out(run: Run) -> Compared:
    """(a) Known test photos and those of a class that was left out of the training photos, each class in turn."""
    parts = []
    for fold in run.folds:
        tested = run.tested(fold)
        for number in range(len(run.labels)):
            known = run.known(fold, without=number)
            scores = from_logits(_quick_head(known, run.features[tested]))
            scores |= from_features(run.features[tested], known)
            parts.append(compared(scores, fold.labels[tested] == number, fold.groups[tested]))
    return pooled(parts)


def elsewhere(run: Run, others: Mapping[str, Reals]) -> dict[str, Compared]:
    """(b), (c) Known test photos and other photos' features, by name; of every fold with its own head."""
    parts: dict[str, list[Compared]] = {name: [] for name in others}
    for fold in run.folds:
        tested, known = run.tested(fold), run.known(fold)
        own = from_logits(fold.logits[tested]) | from_features(run.features[tested], known)
        checkpoint = artifacts.fold_folder(run.folder, fold.fold) / artifacts.CHECKPOINT
        for name, photos in others.items():
            theirs = from_logits(logits_of(checkpoint, photos)) | from_features(photos, known)
            both = {score: np.concatenate([own[score], theirs[score]]) for score in own}
            strange = np.arange(len(tested) + len(photos)) >= len(tested)
            groups = np.concatenate([fold.groups[tested], np.arange(len(photos))])
            parts[name].append(compared(both, strange, groups))
    return {name: pooled(own) for name, own in parts.items()}


def _quick_head(known: Known, photos: Reals) -> Reals:
    """Logits of a multinomial logistic regression, which takes the place of a head trained without a class."""
    mean, deviation = known.features.mean(0), known.features.std(0) + 1e-6
    head = LogisticRegression(max_iter=200, tol=1e-3, C=0.01)
    head.fit((known.features - mean) / deviation, known.labels)
    result: Reals = head.decision_function((photos - mean) / deviation)
    return result


def _ranks(values: Reals, known: Booleans) -> Reals:
    ordered = np.sort(values[known])
    below, up_to = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    result: Reals = (below + up_to) / 2 / len(ordered)
    return result


class Backbone:
    """What turns other photos into features: RUN/model, or the default model where it has the same backbone."""

    def __init__(self, run: Path) -> None:
        config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
        own = run / artifacts.MODEL
        folder = open_model(own if own.is_dir() else None)
        self.preprocessing = folder.preprocessing
        same = self.preprocessing == Preprocessing.from_hub(config["preprocessing"])
        if folder.facts["backbone"] != config["backbone"] or not same:
            raise RunFolderError(f"{run} has another backbone than the default model", "Run `spectraderm export RUN`")
        self.engine = Engine(folder.network)

    def __call__(self, photos: Iterable[str | Image.Image]) -> Reals:
        """Features `float64[n, channels]`."""
        pixels = (self.preprocessing(open_photo(photo))[None] for photo in photos)
        return np.concatenate([self.engine(each).features for each in pixels]).astype(np.float64)


def painted_nonsense(each: int = 20) -> Iterator[Image.Image]:
    """Noise, stripes, gradients, flat shapes, text and shaded objects: nothing that has skin."""
    for seed in range(each):
        for make in (noise, stripes, gradient, shapes, text, objects):
            yield make(np.random.default_rng(seed))


def painted_skin(each: int = 12) -> Iterator[Image.Image]:
    """The demo's paintings, in which there is only an idea of skin."""
    for label in DEMO_CLASSES:
        for seed in range(each):
            yield paint_photo(label, np.random.default_rng(seed), (SIDE, SIDE))


def noise(random: np.random.Generator) -> Image.Image:
    """Noise of some coarseness."""
    cells = int(random.integers(4, SIDE))
    values = random.integers(0, 256, (cells, cells, 3), np.uint8)
    return Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def stripes(random: np.random.Generator) -> Image.Image:
    """Waves of one colour on another."""
    rows, columns = np.indices((SIDE, SIDE))
    angle, width = random.uniform(0, np.pi), random.uniform(2, 25)
    wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) / width)[..., None] / 2 + 0.5
    return _photo(wave * _colour(random) + (1 - wave) * _colour(random))


def gradient(random: np.random.Generator) -> Image.Image:
    """From one colour to another."""
    rows, columns = np.indices((SIDE, SIDE)) / SIDE
    share = (random.random() * rows + random.random() * columns)[..., None]
    return _photo(share * _colour(random) + (1 - share) * _colour(random) + random.normal(0, 3, (SIDE, SIDE, 3)))


def shapes(random: np.random.Generator) -> Image.Image:
    """Flat rectangles and ellipses."""
    image = Image.new("RGB", (SIDE, SIDE), _name(random))
    for _ in range(random.integers(3, 15)):
        (left, right), (top, bottom) = np.sort(random.integers(0, SIDE, (2, 2)), axis=1).tolist()
        draw = ImageDraw.Draw(image)
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((left, top, right, bottom), _name(random))
    return image


def text(random: np.random.Generator) -> Image.Image:
    """Lines of letters."""
    image, size = Image.new("RGB", (SIDE, SIDE), _name(random)), int(random.integers(9, 30))
    ink, font = _name(random), ImageFont.load_default(size)
    for top in range(4, SIDE, size + 4):
        line = "".join(random.choice(list("abcdefghij klmnop qrstuvw xyz"), 60))
        ImageDraw.Draw(image).text((4, top), line, ink, font)
    return image


def objects(random: np.random.Generator) -> Image.Image:
    """Shaded balls before a textured ground."""
    pixels = np.asarray(noise(random), np.float64) * 0.3 + 0.7 * _colour(random)
    rows, columns = np.indices((SIDE, SIDE))
    for _ in range(random.integers(1, 6)):
        row, column, radius = random.uniform((0, 0, 15), (SIDE, SIDE, 80))
        down, right = (rows - row) / radius, (columns - column) / radius
        light = np.clip(0.6 - 0.5 * down - 0.4 * right, 0.1, 1.2)[..., None]
        pixels = np.where((down**2 + right**2 < 1)[..., None], light * _colour(random), pixels)
    return _photo(pixels)


def _colour(random: np.random.Generator) -> Reals:
    return random.uniform(0, 255, 3)


def _name(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in _colour(random))
    return red, green, blue


def _photo(values: Reals) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def report(columns: Mapping[str, Compared]) -> None:
    """Print a table: a line per score, and per column its AUROC and the share refused."""
    print("AUROC (95 % interval by photo group); % refused at 95 % kept\n")
    print(" ".join([f"{'score':22}", *(f"{name:>27}" for name in columns)]))
    for score in next(iter(columns.values())).inside:
        cells = []
        for own in columns.values():
            found = detection(own.inside[score], own.outside[score], own.inside_groups, own.outside_groups)
            area, passed = found["auroc"], found["fpr_at_95"]
            interval = f"{area['value']:.3f} ({area['low']:.3f}-{area['high']:.3f})"
            cells.append(f"{interval:>20}; {100 * (1 - passed['value']):5.1f}")
        print(" ".join([f"{score:22}", *(f"{cell:>27}" for cell in cells)]))
    print(
        " ".join([f"{'photos (of groups)':22}", *(f"{len(np.unique(c.outside_groups)):>27}" for c in columns.values())])
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--near", help="photos of skin, of no class of the run; measured only")
    parser.add_argument("--far", help="photos of other things; measured only")
    arguments = parser.parse_args()
    run, features = read_run(arguments.run), Backbone(arguments.run)
    others = {"painted nonsense": features(painted_nonsense()), "painted skin": features(painted_skin())}
    given = {"near": arguments.near, "far": arguments.far}
    others |= {name: features(find(folder)) for name, folder in given.items() if folder}
    report({"a class left out": left_out(run), **elsewhere(run, others)})


if __name__ == "__main__":
    try:
        main()
    except SpectraDermError as error:
        sys.exit(f"error: {error}")
