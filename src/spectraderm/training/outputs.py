"""What a trained fold leaves behind besides its weights: the logits of all photos, and where its errors looked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectraderm.core.files import write_arrays, write_csv
from spectraderm.core.run import LOGIT_COLUMNS
from spectraderm.data.manifest import Row
from spectraderm.inference.calibration import softmax
from spectraderm.training.dataset import Floats

HEATMAPS_KEPT = 48
"""How many wrongly guessed test photos a fold keeps the class activation maps of."""

Integers = npt.NDArray[np.int64]


def surest_errors(logits: Floats, targets: Integers, tested: npt.NDArray[np.bool_]) -> Integers:
    """Rows of the tested photos that were guessed wrong, `int64[m]`, those with the most probable guess first."""
    wrong = np.flatnonzero(tested & (logits.argmax(1) != targets))
    sure = softmax(logits[wrong]).max(1, initial=0)
    return wrong[np.argsort(-sure, kind="stable")][:HEATMAPS_KEPT].astype(np.int64)


def write_heatmaps(path: Path, rows: Integers, logits: Floats, maps: Floats) -> None:
    """Write `rows int64[m]`, which photos, and `maps float16[m, h, w]`, how much each place counted for the guess.

    Args:
        path: the file, `.npz`.
        rows: of `surest_errors`.
        logits: of all photos, `float32[n, classes]`.
        maps: of those rows and all classes, `float32[m, classes, h, w]`.
    """
    of_guess = maps[np.arange(len(rows)), logits[rows].argmax(1)].astype(np.float16)
    write_arrays(path, rows=rows, maps=of_guess)


def write_logits(path: Path, rows: Sequence[Row], sides: Sequence[str], labels: list[str], logits: Floats) -> None:
    """Write `logits.csv`, last: a fold that has its logits is done."""
    names = [f"logit:{label}" for label in labels]
    records = (
        {
            **dict(zip(LOGIT_COLUMNS, (row.path, row.photo_group, side, row.label), strict=True)),
            **{name: repr(float(value)) for name, value in zip(names, values, strict=True)},
        }
        for row, side, values in zip(rows, sides, logits, strict=True)
    )
    write_csv(path, (*LOGIT_COLUMNS, *names), records)
