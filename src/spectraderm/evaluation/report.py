"""An evaluated run -> `report.html` in one file, the model card, and the confusion matrix as PNG and CSV."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from spectraderm import artifacts
from spectraderm.errors import SpectraDermError
from spectraderm.evaluation import figures
from spectraderm.evaluation.evaluate import PROTOCOLS, Logits, measuring, read_logits
from spectraderm.preprocessing import decode

CONFUSION_CSV, CONFUSION_PNG = "confusion_matrix.csv", "confusion_matrix.png"
WORST = 48
"""How many wrong photos the report shows, the surest first."""
_THUMBNAIL = 144


def write_report(run: Path, evaluation: dict[str, Any]) -> None:
    """Write `report.html`, `README.md` (the card), `curves.png` per fold, and the confusion matrix into a run folder.

    The report holds thumbnails of the photos: share it only where the photos may be shared.
    """
    config = artifacts.read_json(run / artifacts.CONFIG, "Run `spectraderm train RUN` first")
    audit = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit PHOTOS --out RUN` first")
    environment = artifacts.read_json(run / artifacts.ENVIRONMENT, "Run `spectraderm train RUN` first")
    names = [config["display_names"][label] for label in config["labels"]]
    figures.write_curves(run)
    picture = figures.confusion(evaluation["confusion_matrix"], names)
    artifacts.write_bytes(run / CONFUSION_PNG, picture)
    _write_confusion(run / CONFUSION_CSV, config["labels"], evaluation["confusion_matrix"])
    content = {
        "config": config,
        "audit": audit,
        "environment": environment,
        "evaluation": evaluation,
        "protocol": PROTOCOLS[evaluation["protocol"]],
        "display": config["display_names"],
        "score": score,
        "percent": percent,
    }
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("spectraderm.evaluation"),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"yaml": json.dumps, "plain": _plain, "pathless": _pathless}  # JSON strings are YAML strings
    card = templates.get_template("card.md.j2").render(content)
    artifacts.write_bytes(run / artifacts.CARD, card.encode())
    folds = read_logits(run, config)
    wrong = _wrong(Path(audit["root"]), measuring(config["protocol"], folds), config)
    curves = (artifacts.fold_folder(run, artifacts.FINAL) / artifacts.CURVES).read_bytes()
    pictures = {"curves": _data_url(curves, "png"), "confusion": _data_url(picture, "png"), "wrong": wrong}
    html = templates.get_template("report.html.j2").render(content | pictures)
    artifacts.write_bytes(run / artifacts.REPORT, html.encode())


def percent(value: float | None) -> str:
    """A share as people read it: `0.8732` -> `87.3 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def score(metric: dict[str, float]) -> str:
    """A metric with its interval: `87.3 % (84.9–89.6)`."""
    return f"{percent(metric['value'])} ({100 * metric['low']:.1f}–{100 * metric['high']:.1f})"


def _plain(text: str) -> str:
    """A name in Markdown that means nothing but itself."""
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", text)


def _pathless(name: str) -> str:
    """A backbone's name; of an absolute path only the last part, for cards are published."""
    return Path(name).name if Path(name).is_absolute() else name


def _wrong(root: Path, folds: list[Logits], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The test photos guessed wrong, the surest first, with thumbnails where the photos can still be read."""
    labels, display = config["labels"], config["display_names"]
    rows = [
        (float(fold.confidence[i]), fold.paths[i], labels[fold.guessed.labels[i]], labels[fold.guessed.guesses[i]])
        for fold in folds
        for i in np.flatnonzero((fold.splits == "test") & (fold.guessed.labels != fold.guessed.guesses))
    ]
    return [
        {
            "path": path,
            "true": display[label],
            "guess": display[guess],
            "probability": confidence,
            "picture": _thumbnail(root / path),
        }
        for confidence, path, label, guess in sorted(rows, key=lambda row: (-row[0], row[1]))[:WORST]
    ]


def _thumbnail(path: Path) -> str:
    try:
        image = decode(path.read_bytes(), str(path)).image
    except (OSError, SpectraDermError):
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    image.info.clear()  # Pillow would copy a comment
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return _data_url(buffer.getvalue(), "jpeg")


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _write_confusion(path: Path, labels: list[str], matrix: list[list[int]]) -> None:
    """Per true class: how many photos, then counts per guess, then the same as shares of the row."""
    columns = ["true", "photos", *(f"guess:{label}" for label in labels), *(f"share:{label}" for label in labels)]
    rows = []
    for label, counts in zip(labels, matrix, strict=True):
        total = sum(counts)
        shares = [round(count / total, 4) if total else 0.0 for count in counts]
        rows.append(dict(zip(columns, (label, total, *counts, *shares), strict=True)))
    artifacts.write_csv(path, columns, rows)
