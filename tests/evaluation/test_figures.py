import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import write_csv
from spectraderm.core.run import Run
from spectraderm.evaluation import figures
from spectraderm.evaluation.figure_fonts import labels

BINS = [
    {"low": i / 5, "high": (i + 1) / 5, "n_photos": i, "confidence": i / 5 + 0.1 if i else None, "accuracy": i / 5}
    for i in range(5)
]
CURVE = [{"coverage": i / 10, "risk": i / 40, "threshold": 1 - i / 10} for i in range(1, 11)]
EPOCHS = [{"epoch": n, **{f"{s}_{w}": 1 / n for s in ("train", "val") for w in ("loss", "accuracy")}} for n in (1, 2)]
ROC = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0]))
POINTS = [
    {"share": n / 4, "train_groups": 10 * n, "group_accuracy": {"value": n / 5, "low": n / 6, "high": n / 4}}
    for n in range(1, 5)
]
DRAWN = {
    "curves": lambda: figures.curves(EPOCHS),
    "learning": lambda: figures.learning({"fold-1": EPOCHS, "fold-2": EPOCHS}, "loss"),
    "reliability": lambda: figures.reliability(BINS),
    "risk_coverage": lambda: figures.risk_coverage(CURVE, 0.5, 0.1),
    "by_photos": lambda: figures.by_photos(POINTS),
    "roc": lambda: figures.roc([("a", ROC), ("c", ROC)], ROC, 0.75, labels(["a", "c"])),
    "confusion": lambda: figures.confusion([[3, 1], [0, 4]], labels(["a $x^{$ b", "c"])),
}


def pixels(data: bytes) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


def orange(data: bytes) -> int:
    return int((np.abs(pixels(data) - (0xCC, 0x66, 0x33)).sum(2) < 12).sum())


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_figure_is_a_picture_and_the_same_bytes_each_time(name: str) -> None:
    data = DRAWN[name]()
    assert min(pixels(data).shape[:2]) > 200
    assert len(np.unique(pixels(data).reshape(-1, 3), axis=0)) > 10
    assert b"matplotlib" not in data.lower()
    assert DRAWN[name]() == data


def test_the_point_of_work_is_marked_where_there_is_one() -> None:
    assert orange(figures.risk_coverage(CURVE, 0.5, 0.1)) > orange(figures.risk_coverage(CURVE, None, None)) == 0


def test_curves_lie_beside_the_history_of_every_fold(tmp_path: Path) -> None:
    for fold in ("final", "fold-1"):
        write_csv(Run(tmp_path).fold(fold).history, list(EPOCHS[0]), EPOCHS)
    figures.write_curves(Run(tmp_path))
    assert figures.histories(Run(tmp_path)) == {"final": EPOCHS, "fold-1": EPOCHS}
    for fold in ("final", "fold-1"):
        assert (Run(tmp_path).fold(fold).curves).read_bytes() == figures.curves(EPOCHS)
    write_csv(Run(tmp_path).fold("fold-1").history, list(EPOCHS[0]), EPOCHS[:1])
    assert list(figures.histories(Run(tmp_path))) == ["final"]  # what was fitted at once has no epochs to draw
    write_csv(Run(tmp_path).fold("final").history, ["epoch", "train_loss"], [{"epoch": 1, "train_loss": 1}])
    with pytest.raises(RunFolderError, match=r"history\.csv"):
        figures.histories(Run(tmp_path))
