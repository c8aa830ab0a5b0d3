"""Photos for the report: test photos beside their training twins, and the surest errors with where the model looked."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.evaluation.outputs import Outputs
from spectraderm.images.preprocessing import Preprocessing, decode
from spectraderm.images.thumbnails import data_url
from spectraderm.inference.calibration import VERDICTS, Judgement

WRONG, LEAKS = 24, 12
"""How many photos of each kind are shown at most."""
SIDE = 176
"""Longer side of a thumbnail in pixels."""
EVIDENCE = (190, 255, 0)
"""Colour of what counted for the guess: a yellow green that neither skin nor hospital cloth has."""
_STRONGEST = 0.6
_REMEDY = "Run `spectraderm audit PHOTOS --out RUN` first"


@dataclass(frozen=True)
class Leak:
    """A test photo and the photo it is a copy of. Pictures are data URLs, empty where a photo can't be read."""

    path: str
    twin: str
    kind: str
    label: str
    twin_label: str
    twin_split: str
    picture: str
    twin_picture: str


@dataclass(frozen=True)
class Wrong:
    """A test photo that was guessed wrong, and how many copies of it were, too, though less surely.

    `looked` is what the model saw, coloured by how much it counted.
    """

    path: str
    label: str
    guess: str
    probability: float
    verdict: str
    copies: int
    picture: str
    looked: str


def leaks(run: Path, root: Path, display: Mapping[str, str]) -> tuple[list[Leak], dict[str, int]]:
    """Up to `LEAKS` leaked test photos, of every class and kind in turn, and how many there are of each kind."""
    path = run / artifacts.COPIES
    if not path.is_file():
        return [], {}
    columns = ("path", "twin", "kind", "path_split", "twin_split")
    copies = artifacts.read_csv(path, columns, _REMEDY)
    crossing = [copy for copy in copies if copy["path_split"] == "test" and copy["twin_split"] in ("train", "val")]
    rows = artifacts.read_csv(run / artifacts.MANIFEST, ("path", "label"), _REMEDY)
    labels = {row["path"]: display.get(row["label"], row["label"]) for row in rows}
    kinds = {kind: sum(copy["kind"] == kind for copy in crossing) for kind in sorted({c["kind"] for c in crossing})}
    shown = [
        Leak(
            copy["path"],
            copy["twin"],
            copy["kind"],
            labels[copy["path"]],
            labels[copy["twin"]],
            copy["twin_split"],
            _thumbnail(root / copy["path"]),
            _thumbnail(root / copy["twin"]),
        )
        for copy in _spread(crossing, labels)
    ]
    return shown, kinds


def wrong(
    run: Path, root: Path, crossed: Sequence[Outputs], judged: Judgement, config: Mapping[str, Any]
) -> list[Wrong]:
    """The `WRONG` photo groups that were guessed wrong most surely, by calibrated probability, each by one test photo.

    Args:
        run: the run folder.
        root: the folder of photos.
        crossed: the folds whose test photos are the score.
        judged: their test photos, pooled in order.
        config: of the run.
    """
    names = [config["display_names"][label] for label in config["labels"]]
    places = [(fold, int(row)) for fold in crossed for row in np.flatnonzero(fold.splits == "test")]
    guesses, sure = judged.probabilities.argmax(1), judged.probabilities.max(1)
    errors = [i for i, (fold, row) in enumerate(places) if fold.labels[row] != guesses[i]]
    errors.sort(key=lambda i: (-sure[i], str(places[i][0].paths[places[i][1]])))
    of_group: defaultdict[int, list[int]] = defaultdict(list)
    for i in errors:
        of_group[int(places[i][0].groups[places[i][1]])].append(i)
    preprocessing = Preprocessing.from_hub(config["preprocessing"]) if "preprocessing" in config else Preprocessing()
    maps = {fold.fold: _heatmaps(run, fold.fold) for fold in crossed}
    shown = []
    for i, *copies in list(of_group.values())[:WRONG]:
        fold, row = places[i]
        path = str(fold.paths[row])
        shown.append(
            Wrong(
                path,
                names[fold.labels[row]],
                names[guesses[i]],
                float(sure[i]),
                VERDICTS[judged.verdicts[i]],
                len(copies),
                *_seen(root / path, maps[fold.fold].get(row), preprocessing),
            )
        )
    return shown


def coloured(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float16]) -> Image.Image:
    """The model's input `uint8[s, s, 3]` under a class activation map `[h, w]`: the greener, the more it counted.

    Only evidence for the guess is shown, on a scale of its own for each photo (Zhou et al. 2016).
    """
    evidence = np.maximum(np.nan_to_num(heat.astype(np.float32)), 0)
    evidence /= max(float(evidence.max()), 1e-9)
    grid = Image.fromarray((255 * _STRONGEST * evidence).astype(np.uint8))
    seen = Image.fromarray(pixels)
    mask = grid.resize(seen.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", seen.size, EVIDENCE), seen, mask)


def _seen(path: Path, heat: npt.NDArray[np.float16] | None, preprocessing: Preprocessing) -> tuple[str, str]:
    photo = _read(path)
    if photo is None:
        return "", ""
    return data_url(photo, SIDE), "" if heat is None else data_url(coloured(preprocessing(photo), heat), SIDE)


def _heatmaps(run: Path, fold: str) -> dict[int, npt.NDArray[np.float16]]:
    """The maps that a fold kept, by row of its logits; none where the file lacks or is damaged."""
    try:
        with np.load(artifacts.fold_folder(run, fold) / artifacts.HEATMAPS, allow_pickle=False) as stored:
            return {int(row): own for row, own in zip(stored["rows"], stored["maps"], strict=True) if own.ndim == 2}
    except (OSError, ValueError, KeyError, EOFError):
        return {}


def _spread(copies: Sequence[dict[str, str]], labels: Mapping[str, str]) -> list[dict[str, str]]:
    """One of each class in turn, of a class one of each kind in turn."""
    of_kind: defaultdict[tuple[str, str], int] = defaultdict(int)
    turned = []
    for copy in sorted(copies, key=lambda copy: copy["path"]):
        key = (labels[copy["path"]], copy["kind"])
        turned.append((of_kind[key], copy["kind"], copy["path"], copy))
        of_kind[key] += 1
    of_class: defaultdict[str, int] = defaultdict(int)
    ranked = []
    for _, _, path, copy in sorted(turned, key=lambda entry: entry[:3]):
        ranked.append((of_class[labels[path]], labels[path], path, copy))
        of_class[labels[path]] += 1
    return [copy for *_, copy in sorted(ranked, key=lambda entry: entry[:3])][:LEAKS]


def _thumbnail(path: Path) -> str:
    photo = _read(path)
    return data_url(photo, SIDE) if photo else ""


def _read(path: Path) -> Image.Image | None:
    try:
        return decode(path.read_bytes(), path.name).image
    except (OSError, SpectraDermError):
        return None
