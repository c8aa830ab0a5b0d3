import csv
import dataclasses
import io
import json
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from conftest import encode, paint
from handmade import LABELS, calibration, write_model
from PIL import Image

import spectraderm
from spectraderm import Classifier, Prediction
from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.images import perceptual_hash as hashing
from spectraderm.inference import batch, model_folder, tuning
from spectraderm.inference import photo_paths as walking
from spectraderm.inference.runtimes import Choice

ODD = ("[red]x[/red]", "a[1]", "ünï 中", "line\nbreak", 'quo"te, comma', "=1+1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return spectraderm.load_model(write_model(tmp_path_factory.mktemp("m") / "model"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(encode(paint(number)))


def all_of(model: Classifier, *names: str, stdin: bytes = b"") -> list[tuple[str, Prediction | SpectraDermError]]:
    return list(batch.predict(model, names, io.BytesIO(stdin)))


def written(model: Classifier, format: str, *names: str, top_k: int = 3) -> str:  # noqa: A002
    stream = io.StringIO()
    writer = batch.writer(format, stream, model, top_k)
    for path, result in all_of(model, *names):
        assert isinstance(result, Prediction)
        writer.write(path, result)
    writer.close()
    return stream.getvalue()


def test_a_folder_stands_for_the_photos_below_it_in_order(here: Path) -> None:
    put("f/b.jpg", "f/a.JPEG", "f/sub/deeper/c.png", "f/.hidden.jpg", "f/.git/d.jpg", "f/notes.txt", "f/x.heic")
    assert batch.find("f") == ["f/a.JPEG", "f/b.jpg", "f/sub/deeper/c.png", "f/x.heic"]
    assert batch.find("f/") == batch.find("f")
    assert batch.find(str(here / "f"))[0] == str(here / "f/a.JPEG")


def test_a_folder_inside_a_hidden_one_is_read_when_asked_for(here: Path) -> None:
    put(".secret/f/a.jpg")
    assert batch.find(".secret/f") == [".secret/f/a.jpg"]
    assert batch.find(".secret") == [".secret/f/a.jpg"]


def test_folders_and_pipes_named_like_photos_are_no_photos(here: Path) -> None:
    put("f/a.jpg", "f/album.jpg/b.jpg")
    os.mkfifo("f/pipe.jpg")
    Path("f/gone.jpg").symlink_to("nowhere")
    assert batch.find("f") == ["f/a.jpg", "f/album.jpg/b.jpg", "f/gone.jpg"]


def test_globs_stand_for_the_files_that_match(here: Path) -> None:
    put("f/b.jpg", "f/a.jpg", "f/c.png", "f/sub/d.jpg", "f/e.jpg/no.txt")
    assert batch.find("f/*.jpg") == ["f/a.jpg", "f/b.jpg"]
    assert batch.find("f/**/*.jpg") == ["f/a.jpg", "f/b.jpg", "f/sub/d.jpg"]
    assert batch.find("f/[ac].*") == ["f/a.jpg", "f/c.png"]


@pytest.mark.parametrize("name", ["a[1].jpg", "what?.jpg", "*.jpg", "-.jpg", " .jpg"])
def test_a_file_is_a_file_before_it_is_a_glob(name: str, here: Path) -> None:
    put(name, "a1.jpg", "whatx.jpg")
    assert batch.find(name) == [name]


def test_a_folder_may_have_brackets(here: Path) -> None:
    put("f[1]/a.jpg", "f1/b.jpg")
    assert batch.find("f[1]") == ["f[1]/a.jpg"]


@pytest.mark.parametrize("name", ["nothing.jpg", "*.webp", "", "empty", "x" * 5000, "a\0b", "a.jpg/b.jpg"])
def test_names_without_photos_are_errors(name: str, here: Path, model: Classifier) -> None:
    Path("empty").mkdir()
    put("a.jpg", "empty/readme.txt")
    [(path, error)] = all_of(model, name)
    assert path == name
    assert isinstance(error, UnreadablePhoto)
    assert error.remedy


def test_bad_photos_are_reported_in_their_place_and_the_rest_is_done(here: Path, model: Classifier) -> None:
    put("f/a.jpg", "f/c.jpg", "z.jpg")
    Path("f/b.jpg").write_bytes(b"no photo")
    os.mkfifo("pipe")
    results = all_of(model, "f", "missing.jpg", "pipe", "z.jpg")
    assert [path for path, _ in results] == ["f/a.jpg", "f/b.jpg", "f/c.jpg", "missing.jpg", "pipe", "z.jpg"]
    assert [isinstance(result, Prediction) for _, result in results] == [True, False, True, False, False, True]
    assert all(path in str(result) for path, result in results if isinstance(result, SpectraDermError))


def test_stdin_is_a_photo(here: Path, model: Classifier) -> None:
    put("a.jpg", "b.jpg")
    [(path, result), (_, other)] = all_of(model, "-", "b.jpg", stdin=Path("a.jpg").read_bytes())
    assert (path, result) == ("-", model.predict("a.jpg"))
    assert other == model.predict("b.jpg")
    assert isinstance(all_of(model, "-", stdin=b"no photo")[0][1], UnreadablePhoto)
    assert isinstance(all_of(model, "-")[0][1], UnreadablePhoto)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two photos are many, and two threads take them."""
    monkeypatch.setattr(batch, "FEW", 1)
    monkeypatch.setattr(tuning, "tuned", lambda *_: Choice("onnxruntime", 0, 2, 1))


@pytest.mark.usefixtures("many")
def test_many_photos_are_answered_as_few_are(here: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(30)), "z.jpg")
    Path("f/17.jpg").write_bytes(b"no photo")
    names, given = ["f", "missing.jpg", "-", "z.jpg"], Path("f/03.jpg").read_bytes()
    results = all_of(model, *names, stdin=given)
    monkeypatch.setattr(batch, "FEW", 99)
    expected = all_of(model, *names, stdin=given)
    assert [(path, str(one)) for path, one in results] == [(path, str(one)) for path, one in expected]
    assert len({str(one) for _, one in results}) == 32  # of 33: stdin is a photo once more


@pytest.mark.usefixtures("many")
def test_many_photos_are_not_looked_for_long_before_they_are_wanted(
    here: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(40)))
    seen: list[str] = []
    found_by = walking.found_by
    monkeypatch.setattr(batch, "found_by", lambda names: (seen.append(one[0]) or one for one in found_by(names)))  # type: ignore[func-returns-value]
    for done, _ in enumerate(batch.predict(model, ["f"], io.BytesIO())):
        assert len(seen) <= done + 12


@pytest.mark.usefixtures("many")
def test_who_stops_listening_stops_the_work(here: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(20)))
    asked: list[str] = []
    monkeypatch.setattr(Classifier, "predict", lambda _, photo: asked.append(photo) or time.sleep(0.1))  # type: ignore[func-returns-value]
    before = threading.active_count()
    results = batch.predict(model, ["f"], io.BytesIO())
    next(results)
    assert isinstance(results, Generator)
    results.close()
    waited = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < waited:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(asked) < 7  # of nine that were begun


@pytest.mark.parametrize("name", [".", "f", "./f/", "f/sub"])
def test_the_walk_is_in_the_order_of_sorted_paths(name: str, here: Path) -> None:
    put(*(f"f/{one}.jpg" for one in ("a", "a/b", "a-b", "a b", "A", "é", "sub/b/c", "sub/b-c", "sub.d/e", "10", "9")))
    below = sorted(path for path in Path(name).rglob("*") if path.is_file())
    assert batch.find(name) == [str(path) for path in below if path.suffix == ".jpg"] != []


def test_the_walk_gives_the_first_photo_before_it_has_seen_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("f/a/1.jpg", "f/b/2.jpg", "f/c/3.jpg")
    seen, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(str(folder)) or scan(folder))  # type: ignore[func-returns-value]
    assert next(batch.walk("f")) == "f/a/1.jpg"
    assert seen == ["f", "f/a"]


def test_json_lines_hold_the_whole_prediction(here: Path, model: Classifier) -> None:
    put(*(f"{name}.jpg" for name in ODD))
    lines = written(model, "jsonl", ".").splitlines()
    got = [json.loads(line) for line in lines]
    assert {record["path"] for record in got} == {f"{name}.jpg" for name in ODD}
    for record in got:
        assert record == {"path": record["path"], **model.predict(record["path"]).to_dict()}
        assert list(record["probabilities"]) == list(model.predict(record["path"]).probabilities)


def test_csv_has_the_classes_in_the_order_of_the_model(here: Path, model: Classifier) -> None:
    put(*(f"{name}.jpg" for name in ODD))
    rows = list(csv.DictReader(io.StringIO(written(model, "csv", "."))))
    assert len(rows) == len(ODD)
    columns = [name for name in rows[0] if name.startswith("probability:")]
    assert columns == [f"probability:{label}" for label in LABELS]
    for row in rows:
        prediction = model.predict(row["path"])
        assert (row["label"], row["model_id"]) == (prediction.label, prediction.model_id)
        assert float(row["probability"]) == prediction.probability
        assert {name.partition(":")[2]: float(row[name]) for name in columns} == prediction.probabilities


def test_csv_without_photos_is_a_header(model: Classifier) -> None:
    assert written(model, "csv").count("\n") == 1
    assert written(model, "jsonl") == written(model, "table") == ""


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


def test_json_never_has_what_json_does_not_know(model: Classifier) -> None:
    wrong = dataclasses.replace(model.predict(paint(1)), novelty=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        batch.JsonWriter(io.StringIO()).write("a.jpg", wrong)


@pytest.mark.parametrize("top_k", [1, 2, 3, 99])
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
    assert "out of scope\n  Unlike the photos" in refused
    assert not [label for label in labels if label in refused]


def test_the_table_warns_of_photos_that_were_learned_from(tmp_path: Path, here: Path) -> None:
    put("a.jpg", "b.jpg")
    known = hashing.turned_hashes(Image.open("a.jpg"))[:1]
    files = {model_folder.HASHES: artifacts.array_bytes(known)}
    model = spectraderm.load_model(write_model(tmp_path / "m", files=files))
    first, second = written(model, "table", "a.jpg", "b.jpg").split("b.jpg")
    assert "learned from this photo or a copy of it" in first
    assert "learned from this photo" not in second


def test_names_cannot_steer_the_terminal(here: Path, model: Classifier) -> None:
    put("\x1b[2Jgone\r.jpg")
    text = written(model, "table", "*.jpg")
    assert "\x1b" not in text
    assert "[2Jgone" in text


def test_names_in_the_table_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ("[b]bold[/b]", "[/]", "c")
    model = spectraderm.load_model(write_model(tmp_path / "model", labels))
    monkeypatch.chdir(tmp_path)
    put("[red]x[/red].jpg")
    text = written(model, "table", "[red]x[/red].jpg")
    assert "[red]x[/red].jpg" in text
    assert "[b]bold[/b]" in text
    assert "[/]" in text
