import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import encode, paint, put
from PIL import Image

import spectraderm as sd
from spectraderm.inference.prediction_display import _overlaid


def test_three_short_lines_say_what_matters(model: sd.Classifier, here: Path) -> None:
    put("photo.jpg")
    answer = replace(model.predict("photo.jpg"), verdict="unsure", reason="word " * 90)
    answer = answer.with_photo(model.predict("photo.jpg")._beside)  # type: ignore[arg-type]
    lines = repr(answer).splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("Prediction('photo.jpg') unsure: ")
    assert all(label in lines[0] for label in answer.probabilities)
    long = replace(answer, probabilities={"x" * 300: 0.9, **answer.probabilities}, verdict="predicted")
    assert max(map(len, repr(long).splitlines())) <= 100
    assert "b-c" not in repr(replace(answer, verdict="out_of_scope"))


def test_a_notebook_shows_photo_verdict_bars_and_heatmap(model: sd.Classifier, here: Path) -> None:
    put("<b>.jpg")
    for photo in ("<b>.jpg", encode(paint(1)), paint(1)):
        answer = replace(model.predict(photo), verdict="predicted").with_photo(model.predict(photo)._beside)  # type: ignore[arg-type]
        page = answer._repr_html_()
        assert page.count("data:image/") == 2
        assert (page.count("height:.7em"), "Not a diagnosis" in page, "<b>.jpg" in page) == (3, True, False)
        assert len(page) < 60_000
    Path("<b>.jpg").unlink()
    gone = pickle.loads(pickle.dumps(answer))
    assert "data:image/" not in gone._repr_html_()
    refused = model.predict([b"none"])[0]._repr_html_()
    assert ("data:image/" in refused, "height:.7em" in refused, "unusable photo" in refused) == (False, False, True)


def test_the_photo_is_in_no_json_row_or_pickle_and_changes_no_equality(model: sd.Classifier) -> None:
    [plain], shown = model.predict_opened([(paint(1), None)]), model.predict(paint(1))
    assert isinstance(plain, sd.Prediction)
    assert (plain, plain.to_row(), plain.to_dict()) == (shown, shown.to_row(), shown.to_dict())
    assert json.loads(json.dumps(shown.to_dict())) == shown.to_dict()
    assert b"JFIF" not in pickle.dumps(shown)
    assert pickle.loads(pickle.dumps(shown)) == shown
    assert pickle.loads(pickle.dumps(plain)) == plain
    assert len(shown._repr_html_()) > len(plain._repr_html_()) > 100


def test_the_colour_lies_where_the_evidence_is() -> None:
    grey = paint(1).resize((64, 64)).point(lambda _: 128)
    pixels = np.asarray(Image.open(io.BytesIO(_overlaid(grey, [[0, 0], [1, 0]]))).convert("RGB")).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    assert redness[-1, 0] > 60
    assert abs(redness[0, -1]) < 5
