"""The JSON of the REST interface, as its documentation describes it. Pydantic's door in serving."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from spectraderm.inference.calibration import Verdict
from spectraderm.inference.model_folder import ModelFolder
from spectraderm.inference.prediction import Prediction
from spectraderm.serving.content import WORDS

NOTICE: str = WORDS["notice"]
BINARY = {"schema": {"type": "string", "format": "binary"}}
WHY = {
    400: "The request is malformed.",
    401: "The key is missing or wrong.",
    404: "There is no such page.",
    405: "Not with this method.",
    408: "The body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is of a kind that is not read.",
    422: "The body can't be read as a photo.",
    429: "Too much waits already; `Retry-After` says when to come again.",
    500: "The server failed.",
    503: "Not ready, about to stop, or the photo waited too long; `Retry-After` says when to come again.",
}
_EXAMPLE: dict[str, Any] = {
    "verdict": "unsure",
    "reason": "It could be Ringworm or Impetigo: the model can't tell which.",
    "label": "FU-ringworm",
    "display_name": "Ringworm",
    "probability": 0.58,
    "probabilities": {"FU-ringworm": 0.58, "BA-impetigo": 0.42},
    "prediction_set": ["FU-ringworm", "BA-impetigo"],
    "coverage": 0.9,
    "novelty": 0.11,
    "in_training": False,
    "heatmap": [],
    "model_id": "spectraderm-discriminant-22c96272",
    "notice": NOTICE,
}


class Answer(BaseModel):
    """What the model says of one photo: a `Prediction`, and what to keep in mind."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE}, protected_namespaces=())

    verdict: Verdict = Field(description="`reason` says why.")
    reason: str = Field(description="One sentence for people.")
    label: str | None = Field(description="The most probable class; null where the photo is unusable.")
    display_name: str = Field(description="The same for people.")
    probability: float | None = Field(description="The calibrated one of `label`.", ge=0, le=1)
    probabilities: dict[str, float] = Field(description="Of every class, most probable first.")
    prediction_set: list[str] = Field(description="The classes that fit.")
    coverage: float = Field(description="Of photos like those learned from, so many have their class in the set.")
    novelty: float | None = Field(description="How unlike the training photos: 0 (like one of them) to 2.")
    in_training: bool = Field(description="The model learned from this photo or a copy of it.")
    heatmap: list[list[float]] = Field(description="Rows of 0..1: where the evidence lies. Empty unless asked for.")
    model_id: str = Field(description="Which model said so.")
    notice: str = Field(description="What to keep in mind.")


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = Field(description="What kind of problem, for programs.", examples=["UnreadablePhoto"])
    problem: str = Field(description="The same for people.", examples=["photo: not a photo in a known format"])
    remedy: str = Field(description="What to do about it; can be empty.", examples=["Use JPEG"])


class Failed(BaseModel):
    """One photo of several that could not be answered for."""

    error: Problem
    notice: str


class Refused(BaseModel):
    """A request that could not be answered."""

    error: Problem
    request_id: str = Field(description="As in the header `X-Request-ID`, and in the server's journal.")


class Score(BaseModel):
    """A class and its calibrated probability, as Hugging Face's image classification has them."""

    label: str
    score: float = Field(ge=0, le=1)


class Parameters(BaseModel):
    """What Hugging Face's clients may ask for."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(default=5, ge=1, le=1000, description="How many classes.")


class Asked(BaseModel):
    """The body of Hugging Face's image classification."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"inputs": "/9j/4AAQSkZJRg..."}})

    inputs: str = Field(
        description="The photo's bytes, base64. Never an address.", json_schema_extra={"format": "byte"}
    )
    parameters: Parameters = Parameters()


class State(BaseModel):
    """How the server is."""

    status: str = Field(examples=["ok"])


class ModelFacts(BaseModel):
    """What is known of the model; `spectraderm.json` explains each."""

    model_config = ConfigDict(protected_namespaces=())

    model_id: str
    labels: list[str] = Field(description="The classes.")
    display_names: dict[str, str] = Field(description="Their names for people.")
    calibration: dict[str, Any] = Field(description="The settings of its verdicts, and what they promise.")
    parity: dict[str, Any] | None = Field(description="How near the exported model is to the one trained.")
    stability: dict[str, Any] | None = Field(description="What changing a photo changes, that must not.")
    recipe: dict[str, Any] | None = Field(description="How it was trained.")
    notice: str


def answer(prediction: Prediction, heatmap: bool) -> dict[str, Any]:
    """An `Answer` as JSON."""
    facts = prediction.to_dict() | {"notice": NOTICE}
    return facts if heatmap else facts | {"heatmap": []}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What FastAPI is told of the answers with these statuses."""
    return {status: {"model": Refused, "description": WHY[status]} for status in statuses}


def form_schema(most: int) -> dict[str, Any]:
    """What a form holds: one to so many files."""
    files = {"type": "array", "minItems": 1, "maxItems": most, "items": BINARY["schema"]}
    return {"schema": {"type": "object", "required": ["photo"], "properties": {"photo": files}}}


def asked_schema() -> dict[str, Any]:
    """The JSON schema of `Asked`, without references that only it would understand."""
    schema = Asked.model_json_schema()
    schema["properties"]["parameters"] = schema.pop("$defs")["Parameters"]
    return schema


def model_facts(model: ModelFolder) -> dict[str, Any]:
    """`ModelFacts` as JSON."""
    more = {name: model.facts.get(name) for name in ("parity", "stability", "recipe")}
    return {
        "model_id": model.model_id,
        "labels": model.labels,
        "display_names": model.display_names,
        "calibration": model.calibration.to_dict(),
        **{name: value if isinstance(value, dict) else None for name, value in more.items()},
        "notice": NOTICE,
    }
