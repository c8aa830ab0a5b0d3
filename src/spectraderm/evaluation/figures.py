"""Curves, reliability, risk and coverage, and the confusion matrix as PNG. With `figure_fonts` Matplotlib's door."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectraderm.core import files
from spectraderm.core.run import HISTORY, Run
from spectraderm.evaluation.curves import Curve
from spectraderm.evaluation.figure_fonts import Labels

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
mpl.rcParams["text.parse_math"] = False  # a dollar in a class name is a dollar
_TRAIN, _VAL, _GREY = "#4477aa", "#cc6633", "#57606a"
_DPI = 130
_HISTORY = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
_COLOURS = 10
"""More classes than Matplotlib has colours are all grey."""
_SMALL = (4.4, 3.3)
"""Inches of a figure that must still be read on a phone."""

History = Sequence[Mapping[str, float]]


def write_curves(run: Run) -> None:
    """Draw loss and accuracy by epoch of every fold that has epochs into `curves.png` beside its `history.csv`."""
    for fold, rows in histories(run).items():
        files.write_bytes(run.fold(fold).curves, curves(rows))


def histories(run: Run) -> dict[str, list[dict[str, float]]]:
    """Each fold's `history.csv` by its name: a row per epoch. A fold that was fitted at once has none."""
    result = {}
    for path in sorted(run.folder.glob(f"folds/*/{HISTORY}")):
        rows = files.read_csv(path, _HISTORY, "Run `spectraderm train RUN --resume`")
        result[path.parent.name] = [{name: float(value) for name, value in row.items()} for row in rows]
    return {fold: rows for fold, rows in result.items() if len(rows) > 1}


def curves(history: History) -> bytes:
    """Two plots side by side: loss and accuracy of training and validation by epoch."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        _by_epoch(axes, [history], metric, marker=".")
        axes.set_title(metric.capitalize())
    return _png(figure)


def learning(folds: Mapping[str, History], metric: str) -> bytes:
    """`loss` or `accuracy` by epoch, a thin line for every fold, of training and of validation photos."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    _by_epoch(figure.subplots(), list(folds.values()), metric, alpha=0.7, lw=1.2)
    return _png(figure)


def by_photos(points: Sequence[Mapping[str, Any]]) -> bytes:
    """Accuracy with its interval by the number of photo groups that were trained on."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes, trained = figure.subplots(), [one["train_groups"] for one in points]
    value, low, high = ([one["group_accuracy"][name] for one in points] for name in ("value", "low", "high"))
    axes.fill_between(trained, low, high, color=_TRAIN, alpha=0.2, lw=0, label="95 % interval")
    axes.plot(trained, value, color=_TRAIN, marker="o", label="accuracy, each photo once")
    for x, y in zip(trained, value, strict=True):
        axes.annotate(f"{100 * y:.0f} %", (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(
        trained, [f"{count}\n{100 * one['share']:.0f} %" for count, one in zip(trained, points, strict=True)]
    )
    axes.set(xlabel="different photos trained on, and their share of all", ylabel="share of test photos right")
    axes.set(xlim=(0, max(trained) * 1.08), ylim=(max(0, np.floor(10 * min(low) - 0.5) / 10), 1.03))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _png(figure)


def roc(curves: Sequence[tuple[str, Curve]], mean: Curve, area: float | None, labels: Labels) -> bytes:
    """ROC curves of classes against the rest, by the names that `labels` draws, and their mean with its area."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes, few = figure.subplots(), len(curves) <= _COLOURS
    for name, (fpr, tpr) in curves:
        axes.plot(fpr, tpr, lw=1, color=None if few else _GREY, alpha=1 if few else 0.3, label=name if few else None)
    axes.plot(*mean, color="black", lw=1.8, label="macro mean" if area is None else f"macro mean: AUC {area:.3f}")
    axes.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--", label="guessing")
    axes.set(xlabel="false positive rate", ylabel="true positive rate (recall)", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", prop={"family": labels.families, "size": 6.5}, labelspacing=0.25)
    return _png(figure)


def reliability(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """How often guesses come true by how sure they were: a point per bin, below it how many photos the bin holds."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1.2])
    filled = [one for one in bins if one["confidence"] is not None]
    above.plot([0, 1], [0, 1], color=_GREY, lw=1, ls="--", label="as it should be")
    sizes = [16 + 1.2 * one["n_photos"] ** 0.5 * 4 for one in filled]
    confidence, accuracy = ([one[name] for one in filled] for name in ("confidence", "accuracy"))
    above.plot(confidence, accuracy, color=_TRAIN, lw=1)
    above.scatter(confidence, accuracy, sizes, color=_TRAIN, zorder=3, label="measured")
    above.set(ylabel="share right", xlim=(0, 1), ylim=(0, 1.03))
    above.grid(alpha=0.3)
    above.legend(loc="upper left")
    middles, width = [(one["low"] + one["high"]) / 2 for one in bins], bins[0]["high"] - bins[0]["low"]
    bars = below.bar(middles, [one["n_photos"] for one in bins], 0.9 * width, color=_TRAIN)
    below.bar_label(bars, [str(one["n_photos"] or "") for one in bins], fontsize=6.5, padding=1)
    below.set(xlabel="probability of the guess", ylabel="photos")
    below.margins(y=0.35)
    return _png(figure)


def risk_coverage(curve: Sequence[Mapping[str, float]], share: float | None, risk: float | None) -> bytes:
    """How often the surest guesses are wrong by how many are kept; `share` and `risk` are where the model works."""
    figure = Figure(figsize=_SMALL, layout="constrained")
    axes = figure.subplots()
    axes.plot([one["coverage"] for one in curve], [one["risk"] for one in curve], color=_TRAIN, label="the surest kept")
    if share is not None and risk is not None:
        axes.plot([share], [risk], color=_VAL, marker="D", ls="", label="verdict \u201cpredicted\u201d")
    axes.set(xlabel="share of photos answered", ylabel="share wrong among these", xlim=(0, 1.02))
    axes.set_ylim(0, max([one["risk"] for one in curve] + [risk or 0, 0.05]) * 1.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return _png(figure)


def confusion(matrix: Sequence[Sequence[int]], labels: Labels) -> bytes:
    """Two heat maps side by side: counts, and each row as shares of its true class.

    `labels` are those of the guesses; the first of them are the true classes.
    """
    names, fonts = labels.drawn, {"fontfamily": labels.families}
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(6 + 0.9 * len(names), 2.4 + 0.42 * len(names)), layout="constrained")
    for axes, values, title in zip(figure.subplots(1, 2), (counts, shares), ("Photos", "Share of row"), strict=True):
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="guess", title=title)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", **fonts)
        axes.set_yticks(range(len(counts)), names[: len(counts)], **fonts)
        axes.spines[:].set_visible(False)
        for row, column in zip(*counts.nonzero(), strict=True):
            text = f"{values[row, column]:.2f}".removeprefix("0") if values is shares else str(values[row, column])
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.axes[0].set_ylabel("true class")
    return _png(figure)


def _by_epoch(axes: Axes, histories: Sequence[History], metric: str, **style: Any) -> None:  # noqa: ANN401
    """A line of training and one of validation photos for every history."""
    for side, colour, name in (("train", _TRAIN, "training"), ("val", _VAL, "validation")):
        for number, rows in enumerate(histories):
            values, label = [row[f"{side}_{metric}"] for row in rows], None if number else name
            axes.plot([row["epoch"] for row in rows], values, color=colour, label=label, **style)
    axes.set(xlabel="epoch", ylabel=metric)
    axes.locator_params(axis="x", integer=True)
    axes.set_ylim(0, 1.02 if metric == "accuracy" else None)
    axes.grid(alpha=0.3)
    axes.legend()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()  # without the name of the software: the same bytes from the same numbers
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
