"""The quality gate before the model: what it refuses is answered with a remedy, and never with a condition."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import encode, page, paint, skin
from handmade import write_model
from PIL import Image, ImageFilter

import spectraderm
from spectraderm import Classifier
from spectraderm.data.synthetic import paint_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return spectraderm.load_model(write_model(tmp_path_factory.mktemp("m") / "model"))


def turned(image: Image.Image) -> bytes:
    """A file whose EXIF says to turn it by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, exif=exif)


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "black": (lambda: Image.new("RGB", (300, 200)), "too dark", "daylight"),
    "white": (lambda: Image.new("RGB", (300, 200), "white"), "too bright", "without flash"),
    "blank": (lambda: Image.new("RGB", (300, 200), (200, 150, 120)), "one colour", "photo of the skin"),
    "blurred": (lambda: skin((300, 200)).filter(ImageFilter.GaussianBlur(20)), "blurred", "focused"),
    "text": (lambda: page((800, 600)), "not look like a photo", "page of text"),
    "narrow": (lambda: paint(1, (300, 63)), "too small: 300x63", "as the camera took it"),
    "turned and narrow": (lambda: turned(paint(1, (300, 63))), "too small: 63x300", "as the camera took it"),
    "turned and black": (lambda: turned(Image.new("RGB", (300, 200))), "too dark", "daylight"),
    "transparent": (lambda: Image.new("RGBA", (300, 200)), "too bright", "without flash"),
    "grey array": (lambda: np.zeros((200, 300), np.uint8), "too dark", "daylight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_shows_nothing_is_never_given_to_the_model(
    name: str, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "engine", lambda _: pytest.fail("the model was asked"))
    make, problem, remedy = REFUSED[name]
    said = model.predict(make())
    assert said.verdict == "unusable_photo"
    assert problem in said.reason
    assert remedy in said.reason
    assert (said.label, said.display_name, said.probability, said.novelty) == (None, "", None, None)
    assert (said.probabilities, said.prediction_set, said.heatmap, said.in_training) == ({}, [], [], False)
    assert (said.model_id, said.coverage) == ("by-hand", 0.9)


@pytest.mark.parametrize(
    "photo",
    [
        skin((400, 300)),
        skin((400, 300)).convert("L"),
        paint(1, (64, 64)),
        turned(paint(2, (90, 64))),
        encode(paint_photo("FU-ringworm", np.random.default_rng(0), (200, 160)), quality=30),
        skin((400, 300)).filter(ImageFilter.GaussianBlur(5)),  # soft, but usable
    ],
)
def test_photos_pass(photo: Any, model: Classifier) -> None:  # noqa: ANN401
    said = model.predict(photo)
    assert said.verdict != "unusable_photo"
    assert said.label in model.labels


def test_the_gate_judges_what_the_model_would_see(model: Classifier) -> None:
    """An opaque corner of a transparent photo is lifted onto white before anything is measured."""
    layer = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    layer.paste(skin((40, 30)), (0, 0))
    flat = Image.new("RGB", (400, 300), "white")
    flat.paste(skin((40, 30)), (0, 0))
    assert model.predict(layer) == model.predict(flat)
    assert model.predict(layer).verdict == "unusable_photo"
