"""One photo or many, however they come; and a model that crosses processes."""

import io
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, put
from handmade import write_model

import spectraderm as sd
from spectraderm.core.errors import ModelFolderError, UnreadablePhoto
from spectraderm.images.decoding import PhotoLike


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> sd.Classifier:
    return sd.load_model(write_model(tmp_path_factory.mktemp("m") / "model"))


def test_one_photo_is_the_same_however_it_comes(model: sd.Classifier, here: Path) -> None:
    data = encode(paint(1), "PNG")
    (here / "a.png").write_bytes(data)
    forms: list[PhotoLike] = [data, bytearray(data), memoryview(data), io.BytesIO(data), paint(1), np.asarray(paint(1))]
    first = model("a.png")
    assert [model(form) for form in forms] == [first] * len(forms) == [model.predict(Path("a.png"))] * len(forms)
    with Path("a.png").open("rb") as file:
        assert model(file) == first
    assert (first.path, model(data).path) == ("a.png", "")


def test_many_photos_are_a_list_and_an_iterator_an_iterator(model: sd.Classifier, here: Path) -> None:
    put("f/a.jpg", "f/deep/b.jpg", "c.jpg", "d[1].jpg")
    in_folder = ["f/a.jpg", "f/deep/b.jpg"]
    assert [one.path for one in model.predict(["f"])] == in_folder
    for many, paths in (
        ("f", in_folder),
        (Path("f"), in_folder),
        ("f/**/*.jpg", in_folder),
        (["c.jpg", "f", Path("d[1].jpg")], ["c.jpg", *in_folder, "d[1].jpg"]),
        (("c.jpg",), ["c.jpg"]),
        ({"c.jpg": 1}.keys(), ["c.jpg"]),
        ([], []),
    ):
        answers = model(many)  # type: ignore[arg-type]
        assert isinstance(answers, list)
        assert [one.path for one in answers] == paths
    assert isinstance(model("d[1].jpg"), sd.Prediction)
    asked: list[str] = []

    def names() -> Iterator[str]:
        for name in ("c.jpg", "f"):
            asked.append(name)
            yield name

    coming = model.predict(names())
    assert asked == []
    assert (next(coming).path, asked) == ("c.jpg", ["c.jpg"])
    assert [one.path for one in coming] == in_folder


def test_among_many_a_bad_photo_is_an_entry_and_alone_an_error(model: sd.Classifier, here: Path) -> None:
    put("f/a.jpg", "f/c.jpg")
    Path("f/b.jpg").write_bytes(b"no photo")
    good, bad, last = model.predict(["f"])
    assert (good.error, last.error) == (None, None)
    assert isinstance(bad.error, UnreadablePhoto)
    assert (bad.verdict, bad.label, bad.path) == ("unusable_photo", None, "f/b.jpg")
    assert bad.reason == str(bad.error)
    kinds = [one.verdict for one in model.predict([Path("gone.jpg"), b"", 7, paint(1)])]  # type: ignore[list-item]
    assert kinds[:3] == ["unusable_photo"] * 3 != kinds[1:]
    for alone in ("f/b.jpg", "gone.jpg", "nothing/*.jpg", b"", 7, io.StringIO("text"), "a\0b"):
        with pytest.raises(UnreadablePhoto):
            model(alone)  # type: ignore[arg-type]
    Path("empty").mkdir()
    with pytest.raises(UnreadablePhoto, match="holds no photos"):
        model("empty")


def test_more_photos_than_one_thread_takes_come_in_order(model: sd.Classifier) -> None:
    photos = [paint(seed, (60, 60)) for seed in range(40)]
    answers = model.predict(photos)
    alone = [model.predict(photo) for photo in photos]
    assert [one.label for one in answers] == [one.label for one in alone]
    assert [one.probability for one in answers] == pytest.approx([one.probability for one in alone], abs=1e-5)


def test_a_damaged_model_is_not_one_bad_photo(model: sd.Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise ModelFolderError("damaged")

    monkeypatch.setattr(model, "engine", damaged)
    with pytest.raises(ModelFolderError):
        model.predict([paint(1)])


def test_a_model_crosses_processes_and_is_opened_again(model: sd.Classifier, tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(model.predict, [encode(paint(1))])
    assert there == model.predict(encode(paint(1)))
    copy = sd.load_model(shutil.copytree(model.folder.path, tmp_path / "model"), 1, calibration="home")
    pickled = pickle.dumps(copy)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert (again.calibration, again._threads, again.model_id) == ("home", 1, copy.model_id)
    assert repr(again) == "Classifier('by-hand'): 3 conditions, calibrated at home"
    shutil.rmtree(tmp_path / "model")
    write_model(tmp_path / "model", facts={"model_id": "another"})
    with pytest.raises(ModelFolderError, match="is another now, and was by-hand"):
        pickle.loads(pickled)
