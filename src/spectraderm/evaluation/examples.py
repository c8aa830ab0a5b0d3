"""Photos for the report: test photos beside their training twins, and the surest errors with where the model looked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm.core import files
from spectraderm.core.errors import SpectraDermError
from spectraderm.core.run import COPIES, Run
from spectraderm.data.gallery import in_turn
from spectraderm.evaluation.bootstrap import Judged
from spectraderm.evaluation.outputs import FoldOutputs, pool
from spectraderm.images.decoding import decode
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.images.thumbnails import data_url
from spectraderm.inference.prediction import VERDICTS

WRONG, LEAKS = 24, 12
"""How many photos of each kind are shown at most."""
SIDE = 176
"""Longer side of a thumbnail in pixels."""
EVIDENCE = (190, 255, 0)
"""Colour of what counted for the guess: a yellow green that neither skin nor hospital cloth has."""
_STRONGEST = 0.6
_REMEDY = "Run `spectraderm audit PHOTOS --out RUN` first"

Row = dict[str, str]


def leaks(run: Run, display: Mapping[str, str]) -> tuple[list[Row], dict[str, int]]:
    """Up to `LEAKS` leaked test photos, of every class and kind in turn, and how many there are of each kind.

    Each has `path` and `twin`, the photo that it is a copy of, with their labels and pictures: data URLs, empty where
    a photo can't be read.
    """
    if not run.path(COPIES).is_file():
        return [], {}
    columns = ("path", "twin", "kind", "path_split", "twin_split")
    copies = files.read_csv(run.path(COPIES), columns, _REMEDY)
    crossing = [copy for copy in copies if copy["path_split"] == "test" and copy["twin_split"] in ("train", "val")]
    labels = {row["path"]: display.get(row["label"], row["label"]) for row in run.rows}
    crossing.sort(key=lambda copy: copy["path"])
    by_kind = in_turn(crossing, lambda copy: (labels[copy["path"]], copy["kind"]))
    shown = []
    for copy in in_turn(by_kind, lambda copy: labels[copy["path"]])[:LEAKS]:
        path, twin = copy["path"], copy["twin"]
        pictures = {"picture": _thumbnail(run.photos / path), "twin_picture": _thumbnail(run.photos / twin)}
        shown.append({**copy, "label": labels[path], "twin_label": labels[twin], **pictures})
    return shown, dict(sorted(Counter(copy["kind"] for copy in crossing).items()))


def wrong(run: Run, crossed: Sequence[FoldOutputs], judged: Judged) -> list[dict[str, Any]]:
    """The `WRONG` photo groups that were guessed wrong most surely, by calibrated probability, each by one test photo.

    `judged` are the test photos of `crossed`, pooled in order. Of each photo there are `path`, `label`, `guess`,
    `probability` and `verdict`; `copies`, how many copies of it were guessed wrong, too, though less surely; and as
    data URLs its `picture` and `heatmap`, the model's input coloured by how much each place counted.
    """
    config, root = run.config, run.photos
    names = [config["display_names"][label] for label in config["labels"]]
    test = pool(crossed)
    rows = [(fold.fold, row) for fold in crossed for row in np.flatnonzero(fold.splits == "test").tolist()]
    guesses, confidence = judged.guesses, judged.confidence
    margins = np.diff(np.sort(test.logits, axis=1)[:, -2:])[:, 0]  # tell apart what rounds to the same probability
    of_group: dict[int, list[int]] = {}
    missed = np.flatnonzero(guesses != test.labels).tolist()
    for i in sorted(missed, key=lambda i: (-confidence[i], -margins[i], test.paths[i])):
        of_group.setdefault(int(test.groups[i]), []).append(i)
    preprocessing = Preprocessing.from_hub(config["preprocessing"]) if "preprocessing" in config else Preprocessing()
    heatmaps = {fold.fold: _heatmaps(run, fold.fold) for fold in crossed}
    shown = []
    for i, *copies in list(of_group.values())[:WRONG]:
        path, (fold, row), picture, heatmap = str(test.paths[i]), rows[i], "", ""
        if photo := _read(root / path):
            heat, picture = heatmaps[fold].get(row), data_url(photo, SIDE)
            heatmap = "" if heat is None else data_url(overlay(preprocessing(photo), heat), SIDE)
        guess, verdict = names[guesses[i]], VERDICTS[judged.verdicts[i]]
        said = {"guess": guess, "probability": float(confidence[i]), "verdict": verdict, "copies": len(copies)}
        shown.append({"path": path, "label": names[test.labels[i]], **said, "picture": picture, "heatmap": heatmap})
    return shown


def overlay(pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float16]) -> Image.Image:
    """The model's input `uint8[s, s, 3]` under a class activation map `[h, w]`: the greener, the more it counted.

    Only evidence for the guess is shown, on a scale of its own for each photo (Zhou et al. 2016).
    """
    evidence = np.maximum(np.nan_to_num(heat.astype(np.float32)), 0)
    evidence /= max(float(evidence.max()), 1e-9)
    grid, photo = Image.fromarray((255 * _STRONGEST * evidence).astype(np.uint8)), Image.fromarray(pixels)
    mask = grid.resize(photo.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", photo.size, EVIDENCE), photo, mask)


def _heatmaps(run: Run, fold: str) -> dict[int, npt.NDArray[np.float16]]:
    """The maps that a fold kept, by row of its logits; none where the file lacks or is damaged."""
    try:
        with np.load(run.fold(fold).heatmaps, allow_pickle=False) as stored:
            return {int(row): one for row, one in zip(stored["rows"], stored["maps"], strict=True) if one.ndim == 2}
    except (OSError, ValueError, KeyError, EOFError):
        return {}


def _thumbnail(path: Path) -> str:
    photo = _read(path)
    return data_url(photo, SIDE) if photo else ""


def _read(path: Path) -> Image.Image | None:
    try:
        return decode(path.read_bytes(), path.name).image
    except (OSError, SpectraDermError):
        return None
