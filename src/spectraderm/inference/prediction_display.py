"""A prediction as people see it in Python: three lines in a console, or the cell of a notebook."""

import base64
import io
import textwrap
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from spectraderm.core.errors import SpectraDermError
from spectraderm.images.decoding import open_photo
from spectraderm.inference.photos_given import Beside, thumbnail
from spectraderm.inference.prediction import JUDGED, percent

if TYPE_CHECKING:
    from spectraderm.inference.prediction import Prediction

_COLUMNS, _LIKELIEST = 100, 3
_STRENGTH = 0.6
"""How much of a photo the strongest evidence covers."""
_COLOUR = np.array([255.0, 60.0, 0.0])
NOTICE = "Not a diagnosis."


def to_lines(prediction: "Prediction") -> str:
    """The photo, verdict and likeliest classes, then the reason: at most three lines of 100 columns."""
    name = Path(prediction.path).name
    head = f"Prediction({f'{name!r}' if name else ''}) {prediction.verdict}"
    shares = ", ".join(f"{label} {percent(share)}" for label, share in _likeliest(prediction))
    first = textwrap.shorten(f"{head}: {shares}" if shares else head, _COLUMNS, placeholder=" ...")
    reason = textwrap.wrap(prediction.reason, _COLUMNS - 2, max_lines=2, placeholder=" ...")
    return "\n".join([_cut(first), *(f"  {line}" for line in reason)])


def to_html(prediction: "Prediction", beside: Beside | None) -> str:
    """Thumbnail, verdict, reason, a bar for each of the likeliest classes, and the heatmap on what the model saw."""
    pictures = _pictures(prediction, beside)
    images = "".join(
        f'<figure style="margin:0"><img alt="{alt}" src="data:image/{kind};base64,{data}" style="max-height:160px">'
        f'<figcaption style="font-size:smaller;opacity:.75">{escape(caption)}</figcaption></figure>'
        for alt, kind, data, caption in pictures
    )
    names = beside.names if beside else {}
    bars = "".join(_bar(names.get(label, label), share) for label, share in _likeliest(prediction))
    verdict = prediction.verdict.replace("_", " ")
    title = f"{verdict}: {prediction.display_name}" if prediction.verdict == "predicted" else verdict
    judged = "" if prediction.verdict == "unusable_photo" else JUDGED[prediction.calibrated_on]
    known = " The model learned from this photo or a copy of it." if prediction.in_training else ""
    return (
        '<div style="display:flex;gap:1em;flex-wrap:wrap;max-width:760px">'
        f'{images}<div style="flex:1;min-width:16em"><b>{escape(title)}</b>'
        f"<p>{escape(prediction.reason)}</p>{bars}"
        f'<p style="font-size:smaller;opacity:.75">{escape(f"{judged}{known} {NOTICE}".strip())}</p></div></div>'
    )


def _likeliest(prediction: "Prediction") -> list[tuple[str, float]]:
    """Few classes with their probabilities; none where the photo is of none of them."""
    shown = 0 if prediction.verdict == "out_of_scope" else _LIKELIEST
    return list(prediction.probabilities.items())[:shown]


def _bar(name: str, share: float) -> str:
    return (
        f'<div style="display:flex;gap:.5em;align-items:center"><span style="width:11em">{escape(name)}</span>'
        f'<span style="flex:1;background:#8883"><span style="display:block;height:.7em;background:#4477aa;'
        f'width:{100 * share:.1f}%"></span></span><span style="width:6em">{percent(share)}</span></div>'
    )


def _pictures(prediction: "Prediction", beside: Beside | None) -> list[tuple[str, str, str, str]]:
    """What is shown of a photo, with its kind, its bytes in base64 and a line below; nothing where it can't be read."""
    if beside is None or beside.error:
        return []
    try:
        photo = open_photo(beside.thumbnail or beside.path)
    except SpectraDermError:  # it was moved since
        return []
    small = beside.thumbnail or thumbnail(photo)
    pictures = [("the photo", "jpeg", base64.b64encode(small).decode(), Path(beside.path).name)]
    if prediction.heatmap and _likeliest(prediction):
        seen = Image.fromarray(beside.preprocessing(photo))
        name = beside.names.get(prediction.label or "", prediction.display_name)
        drawn = base64.b64encode(_overlaid(seen, prediction.heatmap)).decode()
        pictures.append(("heatmap", "png", drawn, f"evidence for {name}"))
    return pictures


def _overlaid(seen: Image.Image, heatmap: list[list[float]]) -> bytes:
    """The model's input with the evidence as colour on it, PNG."""
    values = Image.fromarray((255 * np.array(heatmap)).astype(np.uint8)).resize(seen.size, Image.Resampling.BICUBIC)
    strength = _STRENGTH * np.asarray(values, np.float64)[..., None] / 255
    pixels = np.asarray(seen) * (1 - strength) + _COLOUR * strength
    stream = io.BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8)).quantize(128).save(stream, "PNG")
    return stream.getvalue()


def _cut(line: str) -> str:
    return line if len(line) <= _COLUMNS else f"{line[: _COLUMNS - 4]} ..."
