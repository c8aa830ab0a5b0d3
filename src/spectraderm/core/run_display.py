"""How a run folder shows itself in Python: its figures, its manifest as a table, a line, a notebook's cell."""

import base64
import importlib.util
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectraderm.core.errors import SpectraDermError

if TYPE_CHECKING:
    from spectraderm.core.run import Run

FIGURES = ("confusion_matrix", "reliability", "risk_coverage", "roc", "learning_curve")
"""Of an evaluated run, `<name>.png` each; the last one of a head in closed form only."""
_NUMBERS = ("width", "height", "bytes", "photo_group", "copy_group", "jpeg_quality", "ita")
_WIDEST = 760


def figures(folder: Path) -> dict[str, Path]:
    """The figures that a run folder has, by name: those of `FIGURES`, then each fold's curves as `curves/<fold>`."""
    paths = {name: folder / f"{name}.png" for name in FIGURES}
    paths |= {f"curves/{path.parent.name}": path for path in sorted(folder.glob("folds/*/curves.png"))}
    return {name: path for name, path in paths.items() if path.is_file()}


def table(rows: Sequence[dict[str, str]]) -> Any:  # noqa: ANN401
    """Rows of a manifest as a pandas data frame, with numbers as numbers; as they are where pandas isn't installed."""
    if importlib.util.find_spec("pandas") is None:
        return list(rows)
    import pandas as pd  # noqa: PLC0415 - of use to those who ask for it

    frame = pd.DataFrame(list(rows))
    for name in frame.columns.intersection(_NUMBERS):
        frame[name] = pd.to_numeric(frame[name])
    return frame


def to_line(run: "Run") -> str:
    """A run in one line: its folder, and what is known of it so far."""
    return f"Run({str(run.folder)!r}): {_standing(run)}"


def to_html(run: "Run") -> str:
    """A run as a notebook shows it: the line, its confusion matrix and its reliability diagram."""
    found = run.figures
    data = {name: base64.b64encode(found[name].read_bytes()).decode() for name in FIGURES[:2] if name in found}
    images = (
        f'<img alt="{name.replace("_", " ")}" style="max-width:min(100%,{_WIDEST}px)" '
        f'src="data:image/png;base64,{png}"><br>'
        for name, png in data.items()
    )
    return f"<div><b>{escape(str(run.folder))}</b>: {escape(_standing(run))}<br>{''.join(images)}</div>"


def _standing(run: "Run") -> str:
    try:
        test = run.evaluation["splits"]["test"]
        value, low, high = (100 * test["accuracy"][name] for name in ("value", "low", "high"))
    except SpectraDermError:
        return "not evaluated yet"
    except (KeyError, TypeError):  # nothing was tested, or nothing is to be said of it
        return "evaluated"
    return f"{value:.1f} % of {test['n_photos']} test photos right ({low:.1f} to {high:.1f})"
