"""Curves and the confusion matrix as PNG. Matplotlib's door."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from spectraderm import artifacts

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"})
mpl.rcParams["text.parse_math"] = False  # a dollar in a class name is a dollar
_TRAIN, _VAL = "#4477aa", "#cc6633"


def write_curves(run: Path) -> None:
    """Draw loss and accuracy by epoch of every fold into `curves.png` beside its `history.csv`."""
    for history in sorted(run.glob(f"folds/*/{artifacts.HISTORY}")):
        with history.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        artifacts.write_bytes(history.with_name(artifacts.CURVES), curves(rows))


def curves(history: Sequence[dict[str, float]]) -> bytes:
    """Two plots side by side: loss and accuracy of training and validation by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(epochs, [row[f"train_{what}"] for row in history], color=_TRAIN, marker=".", label="training")
        axes.plot(epochs, [row[f"val_{what}"] for row in history], color=_VAL, marker=".", label="validation")
        axes.set(xlabel="epoch", ylabel=what, title=what.capitalize())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(0, 1.02 if what == "accuracy" else None)
        axes.grid(alpha=0.3)
        axes.legend()
    return _png(figure)


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> bytes:
    """Two heat maps side by side: counts, and each row as shares of its true class."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6 + 0.9 * len(names), 2.4 + 0.42 * len(names)), layout="constrained")
    for axes, values, title in zip(figure.subplots(1, 2), (counts, shares), ("Photos", "Share of row"), strict=True):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="guess", title=title)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.spines[:].set_visible(False)
        for row, column in np.ndindex(*counts.shape):
            text = f"{values[row, column]:.2f}".removeprefix("0") if values is shares else str(values[row, column])
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.axes[0].set_ylabel("true class")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Software": None}}  # the same bytes from the same numbers
    figure.savefig(buffer, format="png", dpi=110, **options)
    return buffer.getvalue()
