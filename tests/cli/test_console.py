"""How predictions are written: JSON lines, CSV, and a table for people."""

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from conftest import encode, paint, put
from handmade import LABELS, calibration, write_model
from PIL import Image

import spectraderm
from spectraderm import Classifier
from spectraderm.cli.console import write_predictions
from spectraderm.core.files import array_bytes
from spectraderm.core.printable import cell
from spectraderm.images import perceptual_hash as hashing
from spectraderm.inference import model_folder

ODD = ("[red]x[/red]", "a[1]", "ünï 中", "line\nbreak", 'quo"te, comma', "=1+1")


def written(model: Classifier, format: str, *names: str, top_k: int = 3) -> str:  # noqa: A002
    stream = io.StringIO()
    write_predictions(((name, model.predict(name)) for name in names), format, stream, model, top_k)
    return stream.getvalue()


def test_csv_has_the_classes_in_the_order_of_the_model(here: Path, model: Classifier) -> None:
    put(*(f"{name}.jpg" for name in ODD))
    rows = list(csv.DictReader(io.StringIO(written(model, "csv", *(f"{name}.jpg" for name in ODD)))))
    names = {str(cell(f"{name}.jpg")): f"{name}.jpg" for name in ODD}
    assert len(rows) == len(ODD)
    columns = [name for name in rows[0] if name.startswith("probability:")]
    assert columns == [f"probability:{label}" for label in LABELS]
    for row in rows:
        prediction = model.predict(names[row["path"]])
        told = (prediction.label, prediction.reason, prediction.model_id)
        assert (row["label"], row["reason"], row["model_id"]) == told
        assert (float(row["probability"]), float(row["novelty"])) == (prediction.probability, prediction.novelty)
        assert {name.partition(":")[2]: float(row[name]) for name in columns} == prediction.probabilities


def test_what_is_not_known_is_empty_in_csv_and_null_in_json(here: Path, model: Classifier) -> None:
    Path("black.png").write_bytes(encode(Image.new("RGB", (99, 99)), "PNG"))
    put("a.jpg")
    good, bad = csv.DictReader(io.StringIO(written(model, "csv", "a.jpg", "black.png")))
    assert (good["verdict"], good["in_training"]) == (model.predict("a.jpg").verdict, "False")
    assert good["prediction_set"].split(";") == model.predict("a.jpg").prediction_set
    empty = {"label", "display_name", "probability", "prediction_set", "novelty"}
    assert {name for name, value in bad.items() if not value} == empty | {f"probability:{label}" for label in LABELS}
    assert bad["verdict"] == "unusable_photo"
    record = json.loads(written(model, "jsonl", "black.png"))
    assert [record[name] for name in ("label", "probability", "novelty")] == [None] * 3
    assert (record["probabilities"], record["heatmap"]) == ({}, [])


def test_names_with_semicolons_come_back_from_csv(tmp_path: Path) -> None:
    labels = ["a;b", 'c"d', "e, f"]
    model = spectraderm.load_model(write_model(tmp_path / "model", labels))
    unsure = dataclasses.replace(model.predict(paint(1)), prediction_set=labels)
    stream = io.StringIO()
    write_predictions([("x.jpg", unsure)], "csv", stream, model, 3)
    (line,) = csv.DictReader(io.StringIO(stream.getvalue()))
    assert next(csv.reader([line["prediction_set"]], delimiter=";")) == labels


def test_json_never_has_what_json_does_not_know_and_no_photos_are_a_header(model: Classifier) -> None:
    wrong = dataclasses.replace(model.predict(paint(1)), novelty=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        write_predictions([("a.jpg", wrong)], "jsonl", io.StringIO(), model, 3)
    assert written(model, "csv").count("\n") == 1
    assert written(model, "jsonl") == written(model, "table") == ""


@pytest.mark.parametrize("top_k", [1, 99])
def test_the_table_shows_so_many_classes(top_k: int, here: Path, model: Classifier) -> None:
    put("a.jpg")
    said = model.predict("a.jpg")
    path, answer, *rest = written(model, "table", "a.jpg", top_k=top_k).splitlines()
    shown = [f"{model.display_name(label)} {100 * value:.0f} %" for label, value in said.probabilities.items()]
    assert path == "a.jpg"
    assert answer == f"  {said.verdict}: {', '.join(shown[:top_k])}"
    told = " ".join(line.strip() for line in rest)
    assert told.startswith(said.reason)
    assert "Not a diagnosis. It knows 3 conditions" in told


def test_the_table_fits_80_columns_and_names_nothing_that_is_not_meant(tmp_path: Path, here: Path) -> None:
    labels = ("Cutaneous larva migrans of the foot", "Hand, foot and mouth disease", "Something else altogether")
    odd = calibration(3, novelty_threshold=-1.0)
    model = spectraderm.load_model(write_model(tmp_path / "m", labels))
    strict = spectraderm.load_model(write_model(tmp_path / "n", labels, facts={"calibration": odd}))
    put("a.jpg")
    Path("black.png").write_bytes(encode(Image.new("RGB", (99, 99)), "PNG"))
    usual, refused = (written(each, "table", "a.jpg", "black.png") for each in (model, strict))
    assert max(len(line) for line in (usual + refused).splitlines()) <= 80
    assert any(line.endswith(" %,") for line in usual.splitlines())  # broken between classes, not inside of one
    assert "unusable photo\n  The photo is too dark." in usual
    assert re.search(r"\n2 photos: 1 (predicted|unsure|out of scope), 1 unusable photo\n", usual)
    assert " photos: " not in written(model, "table", "a.jpg")
    assert "out of scope\n  Unlike the photos" in refused
    assert not [label for label in labels if label in refused]


def test_the_table_warns_of_photos_that_were_learned_from(tmp_path: Path, here: Path) -> None:
    put("a.jpg", "b.jpg")
    known = hashing.turned_hashes(Image.open("a.jpg"))[:1]
    files = {model_folder.HASHES: array_bytes(known)}
    model = spectraderm.load_model(write_model(tmp_path / "m", files=files))
    first, second = written(model, "table", "a.jpg", "b.jpg").split("b.jpg")
    assert "learned from this photo or a copy of it" in first
    assert "learned from this photo" not in second


def test_names_in_the_table_are_no_markup_and_cannot_steer_the_terminal(tmp_path: Path, here: Path) -> None:
    model = spectraderm.load_model(write_model(tmp_path / "model", ("[b]bold[/b]", "[/]", "c")))
    names = ("[red]x[/red].jpg", "\x1b[2Jgone\r.jpg")
    put(*names)
    text = written(model, "table", *names)
    assert "\x1b" not in text
    assert all(shown in text for shown in ("[red]x[/red].jpg", "[b]bold[/b]", "[/]", "[2Jgone"))
