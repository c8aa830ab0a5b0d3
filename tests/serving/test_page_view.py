"""What the page shows of an answer, and what it leaves out."""

import base64
import html
import io
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the web page needs the extra `page`")

from conftest import encode, paint
from handmade import write_model
from PIL import Image

from spectraderm.core.errors import MissingExtra, SpectraDermError, UnreadablePhoto
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference.model_folder import ModelFolder, open_model
from spectraderm.inference.prediction import Prediction, unusable
from spectraderm.serving.content import WORDS
from spectraderm.serving.page import view
from spectraderm.serving.page.overlay import Picture, picture
from spectraderm.serving.refusals import TooBusy

SURE = Prediction(
    "predicted", "Sure enough.", "VI-shingles", "Shingles", 0.91, {"VI-shingles": 0.91, "FU-ringworm": 0.07, "o": 0.02},
    ["VI-shingles"], 0.9, 0.01, False, [[0.0, 1.0], [0.0, 0.0]], "by-hand",
)  # fmt: skip
SEEN = Picture("data:image/jpeg;base64,AA", "data:image/webp;base64,AA")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return open_model(write_model(tmp_path_factory.mktemp("m") / "model", ("VI-shingles", "FU-ringworm", "o")))


def shown(known: ModelFolder, said: Prediction | SpectraDermError, seen: Picture | None = SEEN) -> str:
    """The text of the answer, and the address of every picture."""
    code = view.answers([view.Answer(known, said, seen)])
    assert WORDS["notice"] in code
    assert '<a href="#doctor">' in code
    text = re.sub(r"<(?!img)[^>]*>", " ", code)
    return html.unescape(" ".join(text.split()))


def test_a_verdict_comes_first_and_with_what_to_do(known: ModelFolder) -> None:
    text = shown(known, SURE)
    assert text.startswith("It looks most like Shingles 91 % The model found one condition probable enough.")
    for part in ("Sure enough.", "Near the eye", "Ringworm 7 %", "90 of 100", "Shingles lies in the photo", "NHS"):
        assert part in text
    assert SEEN.heat in text
    assert WORDS["in_training"] not in text


def test_doubt_has_bars_but_no_name(known: ModelFolder) -> None:
    text = shown(
        known, replace(SURE, verdict="unsure", prediction_set=["VI-shingles", "FU-ringworm"], in_training=True)
    )
    assert text.startswith("The model can't tell No single")
    assert "What fits this photo Shingles Ringworm Of photos" in text
    assert "91 %" in text
    assert WORDS["in_training"] in text
    assert "NHS" not in text


@pytest.mark.parametrize("verdict", ["out_of_scope", "unusable_photo"])
def test_where_no_label_is_meant_none_is_shown(known: ModelFolder, verdict: str) -> None:
    said = replace(SURE, verdict=verdict) if verdict == "out_of_scope" else unusable("Too dark.", 0.9, "by-hand")  # type: ignore[arg-type]
    text = shown(known, said)
    assert text.startswith(WORDS["verdicts"][verdict]["title"])
    assert said.reason in text
    assert SEEN.photo in text
    assert not re.search(r"Shingles|%|Ringworm", text)
    assert SEEN.heat not in text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnreadablePhoto("photo: not a photo", "Use JPEG"), "This file can't be used Not a photo. Use JPEG."),
        (MissingExtra("photo is a HEIC photo, and its decoder", "heic"), "reads no HEIC photos. Save it as JPEG."),
        (UnreadablePhoto("photo: damaged (<io 0x7f>)", "Save it again"), "Damaged. Save it again."),
        (TooBusy("all places are taken"), "No answer this time All places are taken."),
        (SpectraDermError("/srv/model is gone"), "No answer this time Something went wrong on our side."),
    ],
)
def test_refusals_are_in_plain_words(known: ModelFolder, error: SpectraDermError, said: str) -> None:
    assert said in shown(known, error)
    assert not re.search("pip install|0x7f|/srv", shown(known, error))


def test_what_others_wrote_is_text_and_never_markup(known: ModelFolder) -> None:
    code = view.answers([view.Answer(known, replace(SURE, reason="<script>x</script>", display_name="<u>"))])
    assert "<script" not in code
    assert "<u>" not in code


def test_the_bottom_tells_of_the_conditions_that_the_model_knows(known: ModelFolder) -> None:
    code = view.bottom([known])
    assert re.findall(r"<article><h3>([^<]+)", code) == ["Shingles", "Ringworm"]
    assert WORDS["doctor"]["now"] in code


def pixels(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))


def test_a_picture_is_upright_and_carries_nothing_along() -> None:
    turned = paint(1).getexif()
    turned[0x0112], turned[0x010E] = 6, "at home"
    sent = pixels(picture(encode(paint(1), exif=turned, comment=b"at home"), [], Preprocessing()).photo)
    assert (sent.size, dict(sent.getexif()), sent.info.get("comment")) == ((72, 96), {}, None)


def test_heat_is_where_the_evidence_is() -> None:
    heat = np.asarray(pixels(picture(encode(paint(1)), SURE.heatmap, Preprocessing()).heat).convert("RGBA"))
    strength = heat[..., 3].astype(int)
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    assert row < 72
    assert column > 96
    assert strength.max() > 240
    assert strength[-1].max() < 10


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256)])
@pytest.mark.parametrize("settings", [Preprocessing(64), Preprocessing(64, "crop", 0.75)])
def test_heat_lies_over_what_the_model_saw(size: tuple[int, int], settings: Preprocessing) -> None:
    across, down = np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1])
    ramp = np.stack([*np.meshgrid(across, down), np.zeros(size[::-1])], 2).astype(np.uint8)
    seen = settings(Image.fromarray(ramp)).astype(float) / 2.55  # in percent of the photo
    box = picture(encode(Image.fromarray(ramp), "PNG"), [], settings).box
    edges = seen[0, 0, 0], seen[0, 0, 1], seen[0, -1, 0], seen[-1, 0, 1]
    assert np.allclose((box[0], box[1], box[0] + box[2], box[1] + box[3]), edges, atol=2.5)


def test_no_part_of_the_page_names_another_host(known: ModelFolder) -> None:
    whole = view.head() + view.intake(16) + view.answers([view.Answer(known, SURE, SEEN)])
    asked = re.findall(r"""(?:src|@import|url\(|<link[^>]*href)=?["'(]?\s*(https?:|//)""", whole)
    assert asked == []


def test_the_paintings_are_small_and_plain() -> None:
    files = list((resources.files("spectraderm.serving") / "examples").iterdir())
    assert len(files) == 3
    for file in files:
        data = file.read_bytes()
        assert len(data) < 40_000
        assert not Image.open(io.BytesIO(data)).getexif()
