"""What the page shows, as HTML: an answer, a refusal, and what stands around them. Knows nothing of Gradio."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2

from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import Prediction
from spectraderm.inference.reasons import percent
from spectraderm.serving.content import WORDS, condition
from spectraderm.serving.page.overlay import Picture
from spectraderm.serving.refusals import Refusal, status_of, told

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("spectraderm.serving.page"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_FILES = resources.files("spectraderm.serving.page")


@dataclass(frozen=True)
class Answer:
    """What one model says of a photo; `said` may be why it says nothing, and `picture` is None where none is shown."""

    about: ModelFolder
    said: Prediction | SpectraDermError
    picture: Picture | None = None


@dataclass(frozen=True)
class Bar:
    """One condition: its calibrated probability in words and as a share, and whether it is in the prediction set."""

    name: str
    percent: str
    share: float
    fits: bool


def part(name: str, **facts: object) -> str:
    """The HTML of one part of the page: the template of that name, with `words.json` and these facts."""
    return _TEMPLATES.get_template(f"{name}.html.j2").render(words=WORDS, page=WORDS["page"], **facts)


def head() -> str:
    """Style and script, for the page's `<head>`: nothing is asked of another host."""
    style, script = (_text(f"templates/page.{kind}") for kind in ("css", "js"))
    return f"<style>{style}</style><script>{script}</script>"


def intake(megabytes: float) -> str:
    """Painted photos to try, as buttons; the photo itself is the page's other half."""
    paintings = sorted((resources.files("spectraderm.serving") / "examples").iterdir(), key=lambda file: file.name)
    urls = [f"data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()}" for file in paintings]
    return part("intake", examples=urls, megabytes=f"{megabytes:g}", most=int(1e6 * megabytes))


def bottom(abouts: Sequence[ModelFolder]) -> str:
    """When to see a doctor, the conditions that the models know, and which models these are."""
    labels = dict.fromkeys(label for about in abouts for label in about.labels)
    known = [found for found in map(condition, labels) if found]
    return part("bottom", known_conditions=known, models=[about.model_id for about in abouts])


def answers(given: Sequence[Answer]) -> str:
    """What all models say of one photo, side by side; one model's name is left to the page's end."""
    return part("answers", cards=[_card(one) for one in given], named=len(given) > 1)


def _card(given: Answer) -> dict[str, object]:
    if isinstance(given.said, SpectraDermError):
        title, why = _refusal(given.said)
        return {"model": given.about.model_id, "refused": title, "why": why}
    said, calibration = given.said, given.about.calibration
    judged = said.verdict in ("predicted", "unsure")
    return {
        "model": said.model_id,
        "refused": "",
        "verdict": said.verdict,
        "reason": said.reason,
        "name": said.display_name if said.verdict == "predicted" else "",
        "probability": percent(said.probability or 0.0),
        "likeliest": said.display_name,
        "in_training": said.in_training,
        "bars": _bars(given.about, said) if judged else [],
        "coverage": f"{100 * calibration.coverage:g}",
        "condition": condition(said.label) if said.verdict == "predicted" and said.label else None,
        "picture": given.picture,
    }


def _bars(about: ModelFolder, said: Prediction) -> list[Bar]:
    return [
        Bar(about.display_names.get(label, label), percent(share), share, label in said.prediction_set)
        for label, share in said.probabilities.items()
    ]


def _refusal(error: SpectraDermError) -> tuple[str, str]:
    """A title, and what is wrong and what to do about it, in sentences."""
    page, status = WORDS["page"], status_of(error)
    if status >= 500 and not isinstance(error, Refusal):
        return page["no_answer"], page["failed"]
    words = told(error)
    parts = [words["problem"].removeprefix("photo: "), words["remedy"]]
    sentences = [text.strip().rstrip(".") for text in parts if text.strip()]
    title = page["refused"] if status in (400, 413, 422) else page["no_answer"]
    return title, " ".join(f"{text[:1].upper()}{text[1:]}." for text in sentences)


def _text(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
