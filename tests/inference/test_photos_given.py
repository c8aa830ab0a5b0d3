"""One photo or many, however they come; and a model that crosses processes."""

import io
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import encode, paint, plain_id, put
from handmade import write_model

import spectraderm as sd
from spectraderm.core.errors import ModelFolderError, UnreadablePhoto
from spectraderm.images.decoding import PhotoLike


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


class Tensor:
    """As torch's, TensorFlow's and JAX's are: numbers in rows, that can be gone through."""

    dtype, shape, ndim = "torch.float32", (3, 64, 64), 3

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("taken for a list")


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (None, "Give a path, bytes"),
        (3, "Give a path, bytes"),
        ({"a.jpg": 1}, "given.values()"),
        (Tensor(), r"permute(1, 2, 0)"),
        (np.zeros((3, 64, 60), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((2, 64, 60, 3), np.uint8), "one by one"),
        (np.zeros((64, 60, 3)), "255 * array"),
        (np.zeros((64, 60, 1), np.uint8), "uint8[h, w]"),
        (io.StringIO("text"), 'mode "rb"'),
    ],
    ids=plain_id,
)
def test_what_is_no_photo_is_a_typed_error_that_says_what_is(given: object, remedy: str, model: sd.Classifier) -> None:
    for form in (given, [given]):
        if form is given:
            with pytest.raises(UnreadablePhoto) as caught:
                model.predict(form)  # type: ignore[call-overload]
            error: object = caught.value
        else:
            (entry,) = model.predict(form)  # type: ignore[call-overload]
            error = entry.error
        assert isinstance(error, TypeError)
        assert remedy in str(error)


def test_a_file_is_read_from_where_it_stands_and_names_come_in_arrays(model: sd.Classifier, here: Path) -> None:
    put("a.jpg")
    data = Path("a.jpg").read_bytes()
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    assert model.predict(file) == model.predict(data)
    assert [one.path for one in model.predict(np.array(["a.jpg"]))] == ["a.jpg"]


@pytest.mark.parametrize("name", ["https://a.org/b.jpg?c=1", "s3://a/b.jpg", "data:image/png;base64,AA", "~/b.jpg"])
def test_addresses_and_home_are_not_looked_up(name: str, model: sd.Classifier, here: Path) -> None:
    with pytest.raises(UnreadablePhoto, match=r"download it|home folder"):
        model.predict(name)
