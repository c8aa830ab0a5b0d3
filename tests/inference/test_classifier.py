import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, page, paint, skin
from handmade import LABELS, calibration, write_model
from PIL import Image, ImageFilter

import spectraderm
from spectraderm import Classifier, Prediction
from spectraderm.core import Choice
from spectraderm.core.errors import ModelFolderError, UnreadablePhoto
from spectraderm.core.files import array_bytes
from spectraderm.data.synthetic import paint_photo
from spectraderm.images import perceptual_hash as hashing
from spectraderm.images.decoding import MAX_BYTES, PhotoLike
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import softmax
from spectraderm.inference.engine import Answer

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def pixels(image: Image.Image) -> Pixels:
    return np.array(image)


class Says:
    """An engine that always gives the same answer."""

    def __init__(self, logits: list[float], features: list[float]) -> None:
        maps = np.zeros((1, len(logits), 7, 7), np.float32)
        self.answer = Answer(np.array([logits], np.float32), np.array([features], np.float32), maps)

    def __call__(self, _: Pixels) -> Answer:
        return self.answer


def test_an_image_given_to_predict_is_not_changed(model: Classifier) -> None:
    with Image.open(io.BytesIO(sideways(paint(1)))) as opened:
        first = model.predict(opened)
        assert opened.getexif()[0x0112] == 6
        assert model.predict(opened) == first


def test_a_list_is_answered_in_order(model: Classifier) -> None:
    photos = [paint(seed) for seed in range(4)]
    answers = model.predict(photos)
    assert answers == [model.predict(photo) for photo in photos]
    assert len({answer.probability for answer in answers}) == 4
    assert model.predict(tuple(photos)) == answers
    assert model.predict([]) == []


def test_predictions_are_whole(model: Classifier) -> None:
    for seed in range(5):
        answer = model.predict(paint(seed))
        assert sorted(answer.probabilities) == sorted(LABELS)
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.label == next(iter(answer.probabilities))
        assert answer.probability == answer.probabilities[answer.label]
        assert answer.display_name == {"BA- a": "A", "b-c": "B c", "d": "D"}[answer.label]
        assert answer.model_id == "by-hand"
        assert json.loads(json.dumps(answer.to_dict(), allow_nan=False)) == answer.to_dict()


NEAR, FAR = [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("likely", "features", "verdict", "fitting"),
    [
        ((0.9, 0.06, 0.04), NEAR, "predicted", 1),
        ((0.53, 0.41, 0.06), NEAR, "unsure", 2),  # likely enough, but two fit
        ((0.48, 0.3, 0.22), NEAR, "unsure", 2),  # one fits, but it is not likely enough: the next beside it
        ((0.36, 0.33, 0.31), NEAR, "unsure", 2),  # none fits
        ((0.36, 0.33, 0.31), FAR, "out_of_scope", 1),
    ],
)
def test_verdicts(likely: tuple[float, ...], features: list[float], verdict: str, fitting: int, tmp_path: Path) -> None:
    """By the model's own temperature and coverage."""
    settings = {"calibration": calibration(3, temperature=2.0, coverage=0.8)}
    model = spectraderm.load_model(write_model(tmp_path / "m", facts=settings))
    model.engine = Says((2 * np.log(likely)).tolist(), features)  # type: ignore[assignment]
    said = model.predict(paint(1))
    assert (said.verdict, said.label, said.coverage) == (verdict, "BA- a", 0.8)
    assert said.prediction_set == list(LABELS[:fitting])
    assert list(said.probabilities.values()) == pytest.approx(likely, abs=1e-6)
    assert said.novelty == pytest.approx(1 - sum(features) / np.linalg.norm(features) / np.sqrt(3), abs=1e-6)


REFUSED: dict[str, tuple[Callable[[], PhotoLike], str, str]] = {
    "black": (lambda: Image.new("RGB", (300, 200)), "too dark", "daylight"),
    "blurred": (lambda: skin((300, 200)).filter(ImageFilter.GaussianBlur(20)), "blurred", "focused"),
    "text": (lambda: page((800, 600)), "not look like a photo", "page of text"),
    "turned and narrow": (lambda: sideways(paint(1, (300, 63))), "too small: 63x300", "as the camera took it"),
    "transparent": (lambda: Image.new("RGBA", (300, 200)), "too bright", "without flash"),
    "grey array": (lambda: np.zeros((200, 300), np.uint8), "too dark", "daylight"),
}


def sideways(image: Image.Image) -> bytes:
    """A file whose EXIF says to turn it by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, exif=exif)


@pytest.mark.parametrize("name", REFUSED)
def test_a_photo_that_shows_nothing_is_answered_with_a_remedy_and_never_with_a_condition(
    name: str, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "engine", lambda _: pytest.fail("the network was asked"))
    make, problem, remedy = REFUSED[name]
    said = model.predict(make())
    assert problem in said.reason
    assert remedy in said.reason
    own = {"coverage": 0.9, "calibrated_on": "home", "model_id": "by-hand"}
    assert said == Prediction(verdict="unusable_photo", reason=said.reason, **own)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choice", "places"),
    [("auto", ["elsewhere", "home"]), ("home", ["home", "home"]), ("elsewhere", ["elsewhere", "elsewhere"])],
)
def test_by_what_a_new_photo_and_one_in_training_are_judged(choice: Choice, places: list[str], tmp_path: Path) -> None:
    grey, new = Image.new("RGB", (99, 99), (90, 90, 90)), paint(1)
    both = {"calibration": calibration(3, elsewhere={"temperature": 9.0, "coverage": 0.7})}
    model = spectraderm.load_model(write_model(tmp_path / "m", facts=both), calibration=choice)
    model.engine = Says([2.0, 1.0, 0.0], NEAR)  # type: ignore[assignment]
    known = np.zeros((8, 8), np.uint8)  # this hash is in training
    [again] = model.predict_opened([(new, known)])
    assert isinstance(again, Prediction)
    said = [model.predict(new), again]
    assert [one.in_training for one in said] == [False, True]
    assert [one.calibrated_on for one in said] == places
    wanted = {
        "home": (softmax(np.array([[2.0, 1, 0]]))[0, 0], 0.9),
        "elsewhere": (softmax(np.array([[2.0, 1, 0]]), 9)[0, 0], 0.7),
    }
    for one in said:
        assert (one.probability, one.coverage) == pytest.approx(wanted[one.calibrated_on])
    assert model.predict(grey).verdict == "unusable_photo"
    assert model.predict(grey).calibrated_on == ("home" if choice == "home" else "elsewhere")


def test_elsewhere_is_not_had_from_a_model_that_was_never_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="spectraderm calibrate MODEL --external PHOTOS"):
        spectraderm.load_model(write_model(tmp_path / "m"), calibration="elsewhere")


def test_quality_is_judged_on_what_the_network_would_get(model: Classifier) -> None:
    """An opaque corner of a transparent photo is lifted onto white before anything is measured."""
    layer, flat = Image.new("RGBA", (400, 300), (0, 0, 0, 0)), Image.new("RGB", (400, 300), "white")
    for image in (layer, flat):
        image.paste(skin((40, 30)), (0, 0))
    assert model.predict(layer) == model.predict(flat)
    assert model.predict(layer).verdict == "unusable_photo"


def test_a_copy_of_a_photo_that_was_learned_from_is_known(tmp_path: Path) -> None:
    learned = [paint(seed, (240, 180)) for seed in (7, 8)]
    known = np.stack([hashing.turned_hashes(photo)[0] for photo in learned])
    model = spectraderm.load_model(write_model(tmp_path / "m", files={model_folder.HASHES: array_bytes(known)}))
    turns: list[Image.Transpose | None] = [None, *Image.Transpose]
    for photo in learned:
        for turn in turns:
            copy = photo if turn is None else photo.transpose(turn)
            assert model.predict(copy).in_training
            assert model.predict(encode(copy.resize((150, 150)), "WEBP", quality=60)).in_training
    assert not any(said.in_training for said in model.predict([paint(seed, (240, 180)) for seed in range(10, 40)]))
    assert not model.predict(Image.new("RGB", (200, 200))).in_training


@pytest.mark.parametrize(
    ("logits", "features"), [([np.nan, 1, 2], NEAR), ([0, np.inf, 1], NEAR), ([0, 1, 2], [np.nan] * 3)]
)
def test_answers_that_are_no_numbers_never_become_a_prediction(
    logits: list[float], features: list[float], model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "engine", Says(logits, features))
    with pytest.raises(ModelFolderError, match="by-hand answers with what is no number"):
        model.predict(paint(1))


def test_the_default_model_knows_eight_conditions() -> None:
    default = spectraderm.load_model()
    answer = default.predict(paint_photo("FU-ringworm", np.random.default_rng(1), (200, 160)))
    assert len(default.labels) == len(answer.probabilities) == len(default.calibrations.home.thresholds) == 8
    assert {"BA- cellulitis", "VI-shingles"} <= set(default.labels)
    assert default.display_name("BA- cellulitis") == "Cellulitis"
    heatmap = np.array(answer.heatmap)
    assert (heatmap.shape, heatmap.min() >= 0, heatmap.max()) == ((14, 14), True, 1)


def test_the_heatmap_shows_where_the_evidence_lies(model: Classifier) -> None:
    """The model is linear in colour: with one bright corner, the evidence for its guess is there."""
    array = pixels(paint(1, (224, 224))) // 3
    array[:32, 192:] = 255
    heatmap = np.array(model.predict(array).heatmap)
    assert heatmap.shape == (7, 7)
    assert heatmap[0, 6] == 1
    assert np.sort(heatmap.ravel())[-2] < 0.6


def test_arrays_may_be_grey_or_have_alpha(model: Classifier) -> None:
    colour = pixels(paint(3))
    grey = colour[..., 0]
    assert model.predict(grey) == model.predict(np.stack([grey] * 3, -1))
    opaque = np.dstack([colour, np.full(grey.shape, 255, np.uint8)])
    assert model.predict(opaque) == model.predict(colour)
    assert (model.pixels(opaque * np.array([1, 1, 1, 0], np.uint8)) == 255).all()
    assert model.predict(colour[:, ::-1]) == model.predict(np.ascontiguousarray(colour[:, ::-1]))


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float32", (50, 50, 3)), ("bool", (50, 50)), ("uint8", (50, 50, 2)), ("uint8", (1, 50, 50, 3)), ("uint8", (50,)),
     ("uint8", (0, 50, 3)), ("uint8", (16, 400, 3)), ("uint8", (8001, 8000))],
)  # fmt: skip
def test_other_arrays_are_refused(dtype: str, shape: tuple[int, ...], model: Classifier) -> None:
    with pytest.raises(UnreadablePhoto):
        model.predict(np.zeros(shape, dtype))


def test_bytes_and_files_and_images_that_are_no_photo_are_refused(model: Classifier, tmp_path: Path) -> None:
    broken = encode(paint(1))[:2000]
    (tmp_path / "mine.jpg").write_bytes(broken)
    with pytest.raises(UnreadablePhoto):
        model.predict(broken)
    with pytest.raises(UnreadablePhoto, match=r"mine\.jpg"):
        model.predict(tmp_path / "mine.jpg")
    with Image.open(io.BytesIO(broken)) as image, pytest.raises(UnreadablePhoto):
        model.predict(image)


def test_a_huge_file_is_refused_unread(model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("was read"))
    with pytest.raises(UnreadablePhoto, match=r"huge\.jpg: more than 100 MB"):
        model.predict(tmp_path / "huge.jpg")


def test_predicting_needs_neither_torch_nor_its_company(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encode(paint(1)))
    folder = write_model(tmp_path / "model")
    heavy = ("torch", "transformers", "sklearn", "matplotlib", "pydantic", "scipy", "onnx", "faiss", "huggingface_hub")
    code = f"""
import sys, spectraderm
assert "numpy" not in sys.modules
assert spectraderm.load_model({str(folder)!r}).predict({str(tmp_path / "photo.jpg")!r}).label
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
