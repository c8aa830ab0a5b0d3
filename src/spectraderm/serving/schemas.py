"""The JSON of the REST interface, as its documentation describes it. Pydantic's door in serving."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from spectraderm.inference.prediction import Prediction
from spectraderm.serving.bodies import TOP_K
from spectraderm.serving.content import WORDS
from spectraderm.serving.refusals import REFUSALS

NOTICE: str = WORDS["notice"]
BINARY = {"schema": {"type": "string", "format": "binary"}}


@dataclass(frozen=True)
class Answer(Prediction):  # noqa: D101 - documented as `Prediction`, below
    notice: str = NOTICE


Answer.__doc__ = Prediction.__doc__


class About(BaseModel):
    """A model: what it knows, how often it was right, and what it promises."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model_id: str = Field(description="What its predictions call it.")
    labels: list[str] = Field(description="The conditions that it knows, as their folders were named.")
    display_names: dict[str, str] = Field(description="The same for people.")
    training_photos: int = Field(description="How many different photos it learned from; copies are not counted.")
    experience: str = Field(description="How often its first guess was right on photos from places it had never seen.")
    promise: str = Field(description="How often its verdict `predicted` is right, and how often others get one.")
    calibration: dict[str, Any] = Field(
        description="What its verdicts rest on: `home`, set on photos of the collection that it learned from, and, "
        "where it was measured there, `elsewhere`, set on photos of other sources. `expected` in it says by source, "
        "left out in turn, what to expect of the next one."
    )
    notice: str = Field(description="What it is not.")


class Problem(BaseModel):
    """Why there is no prediction."""

    type: str = Field(description="The kind of problem, for programs.", examples=["UnreadablePhoto"])
    problem: str = Field(description="The same for people.", examples=["photo: not a photo in a known format"])
    remedy: str = Field(description="What to do about it; can be empty.", examples=["Use JPEG"])


class Failed(BaseModel):
    """One photo of several that has no prediction."""

    error: Problem
    notice: str


class Refused(BaseModel):
    """A refused request."""

    error: Problem
    request_id: str = Field(description="As in the header `X-Request-ID` and in the access log.")


class Score(BaseModel):
    """A class and its calibrated probability, as Hugging Face's image classification has them."""

    label: str
    score: float = Field(ge=0, le=1)


INPUTS: dict[str, Any] = {
    "type": "object",
    "description": "The body of Hugging Face's image classification.",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "inputs": {
            "type": "string",
            "format": "byte",
            "minLength": 4,
            "description": "The photo's bytes as base64, with or without line breaks, or a `data:` URL; no address.",
        },
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "top_k": {
                    "type": "integer",
                    "default": TOP_K[0],
                    "minimum": 1,
                    "maximum": TOP_K[1],
                    "description": "How many classes.",
                }
            },
        },
    },
    "example": {"inputs": "/9j/4AAQSkZJRg..."},
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's `responses` for these statuses."""
    why = {500: "The server failed."} | dict(REFUSALS.values())
    return {status: {"model": Refused, "description": why[status]} for status in statuses}
