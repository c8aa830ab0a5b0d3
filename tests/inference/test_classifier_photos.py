"""Names of photos, as people type them -> photos, and their predictions; what is called a photo and is none."""

import io
import os
import re
import socket
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from conftest import encode, paint, put

from spectraderm import Classifier, Prediction
from spectraderm.core import parallel
from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
from spectraderm.core.files import read_regular
from spectraderm.core.printable import line
from spectraderm.data.layouts import list_photos
from spectraderm.data.measurements import Measured, measure
from spectraderm.images.decoding import open_photo
from spectraderm.inference import classifier
from spectraderm.inference.photo_paths import photos, walk


def whole(result: Prediction | SpectraDermError) -> str:
    """All that a result says."""
    return str(result.to_dict()) if isinstance(result, Prediction) else str(result)


def find(name: str) -> list[str]:
    return list(walk(name))


def all_of(model: Classifier, *names: str, stdin: bytes = b"") -> list[tuple[str, Prediction | SpectraDermError]]:
    return list(model.predict_each(photos(names, io.BytesIO(stdin))))


def test_a_folder_stands_for_the_photos_below_it_in_order(here: Path) -> None:
    put("f/b.jpg", "f/a.JPEG", "f/sub/deeper/c.png", "f/.hidden.jpg", "f/.git/d.jpg", "f/notes.txt", "f/x.heic")
    assert find("f") == ["f/a.JPEG", "f/b.jpg", "f/sub/deeper/c.png", "f/x.heic"]
    assert find("f/") == find("f")
    assert find(str(here / "f"))[0] == str(here / "f/a.JPEG")
    put(".secret/f/a.jpg")  # is read when it is asked for
    assert find(".secret/f") == find(".secret") == [".secret/f/a.jpg"]


def test_folders_and_pipes_named_like_photos_are_no_photos(here: Path) -> None:
    put("f/a.jpg", "f/album.jpg/b.jpg")
    os.mkfifo("f/pipe.jpg")
    Path("f/gone.jpg").symlink_to("nowhere")
    assert find("f") == ["f/a.jpg", "f/album.jpg/b.jpg", "f/gone.jpg"]


def test_globs_stand_for_the_files_that_match(here: Path) -> None:
    put("f/b.jpg", "f/a.jpg", "f/c.png", "f/sub/d.jpg", "f/e.jpg/no.txt")
    assert find("f/*.jpg") == ["f/a.jpg", "f/b.jpg"]
    assert find("f/**/*.jpg") == ["f/a.jpg", "f/b.jpg", "f/sub/d.jpg"]
    assert find("f/[ac].*") == ["f/a.jpg", "f/c.png"]
    put("f[1]/a.jpg", "f1/b.jpg")
    assert find("f[1]") == ["f[1]/a.jpg"]


def test_a_folder_that_is_there_is_no_part_of_a_glob(here: Path) -> None:
    put("p [2024]/a.jpg", "p [2024]/b/c.jpg", "p 2/d.jpg", "w*d/e.jpg", "wxd/f.jpg")
    assert find("p [2024]/*.jpg") == ["p [2024]/a.jpg"]
    assert find(str(here / "p [2024]/**/*.jpg")) == [str(here / "p [2024]/a.jpg"), str(here / "p [2024]/b/c.jpg")]
    assert find("w*d/*") == ["w*d/e.jpg"]
    assert find("p ?2*") == ["p [2024]/a.jpg", "p [2024]/b/c.jpg"]  # of folders that match, their photos
    for name, said in (("p*/*.png", "no file matches"), ("{a,b}.jpg", "quotes"), ("p\\a.jpg", "parted by /")):
        with pytest.raises(UnreadablePhoto, match=said):
            find(name)


@pytest.mark.parametrize("name", ["a[1].jpg", "what?.jpg", "*.jpg", "-.jpg", " .jpg"])
def test_a_file_is_a_file_before_it_is_a_glob(name: str, here: Path) -> None:
    put(name, "a1.jpg", "whatx.jpg")
    assert find(name) == [name]


@pytest.mark.parametrize("name", [".", "f", "./f/", "f/sub"])
def test_the_walk_is_in_the_order_of_sorted_paths(name: str, here: Path) -> None:
    put(*(f"f/{one}.jpg" for one in ("a", "a/b", "a-b", "a b", "A", "é", "sub/b/c", "sub/b-c", "sub.d/e", "10", "9")))
    below = sorted(path for path in Path(name).rglob("*") if path.is_file())
    assert find(name) == [str(path) for path in below if path.suffix == ".jpg"] != []


def test_the_walk_gives_the_first_photo_before_it_has_seen_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("f/a/1.jpg", "f/b/2.jpg", "f/c/3.jpg")
    seen, scan = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: seen.append(str(folder)) or scan(folder))  # type: ignore[func-returns-value]
    assert next(walk("f")) == "f/a/1.jpg"
    assert seen == ["f", "f/a"]


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
    monkeypatch.setattr(classifier, "FEW", 1)
    monkeypatch.setattr(parallel, "cores", lambda: 2)


@pytest.mark.usefixtures("many")
def test_many_photos_are_answered_as_few_are(here: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(30)), "z.jpg")
    Path("f/17.jpg").write_bytes(b"no photo")
    names, given = ["f", "missing.jpg", "-", "z.jpg"], Path("f/03.jpg").read_bytes()
    results = all_of(model, *names, stdin=given)
    monkeypatch.setattr(classifier, "FEW", 99)
    expected = all_of(model, *names, stdin=given)
    ours, theirs = ([(path, whole(one)) for path, one in many] for many in (results, expected))
    assert ours == theirs
    assert len({text for _, text in ours}) == 32  # of 33: stdin is a photo once more


@pytest.mark.usefixtures("many")
def test_many_photos_are_not_looked_for_long_before_they_are_wanted(here: Path, model: Classifier) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(40)))
    seen: list[str] = []
    coming = (seen.append(one[0]) or one for one in photos(["f"], io.BytesIO()))  # type: ignore[func-returns-value]
    for done, _ in enumerate(model.predict_each(coming)):
        assert len(seen) <= done + 20  # of two cores


@pytest.mark.usefixtures("many")
def test_who_stops_listening_stops_the_work(here: Path, model: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    put(*(f"f/{number:02}.jpg" for number in range(40)))
    asked: list[object] = []
    monkeypatch.setattr(Classifier, "_look_at", lambda *photo: asked.append(photo) or time.sleep(0.1))  # type: ignore[func-returns-value]
    before = threading.active_count()
    results = model.predict_each(photos(["f"], io.BytesIO()))
    next(results)
    assert isinstance(results, Generator)
    results.close()
    waited = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < waited:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(asked) <= 16  # of 40: those of two cores


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[Path]:
    """A folder of two classes with, in one of them, what is called a photo and is none."""
    for name in ("a/good.jpg", "b/good.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(paint(1, (200, 150))))
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    (tmp_path / "a" / "folder.jpg").mkdir()
    (tmp_path / "a" / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "a" / "passwd.jpg").symlink_to("/etc/passwd")
    (tmp_path / "a" / "loop.jpg").symlink_to("loop.jpg")
    for name in ("-rf.jpg", "\x1b[2J.jpg", "line\nbreak.jpg", "'; rm *.jpg"):
        (tmp_path / "a" / name).write_bytes(encode(paint(2, (200, 150))))
    here = Path.cwd()
    os.chdir(tmp_path / "a")  # a socket's name may have 107 bytes
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.jpg")
        os.chdir(here)
        yield tmp_path


@pytest.mark.timeout(20)
def test_an_audit_waits_for_no_pipe_and_leaves_its_folder_not(strange: Path) -> None:
    found = list_photos(strange)
    assert {"a/device.jpg", "a/passwd.jpg"} <= set(found.outside)
    said = {path: measure(strange, path) for path, *_ in found.photos}
    for name in ("pipe.jpg", "socket.jpg"):
        assert isinstance(said[f"a/{name}"], str)
    for name in ("good.jpg", "-rf.jpg", "\x1b[2J.jpg", "line\nbreak.jpg", "'; rm *.jpg"):
        assert isinstance(said[f"a/{name}"], Measured)


@pytest.mark.timeout(20)
def test_predicting_a_folder_waits_for_no_pipe(strange: Path, model: Classifier) -> None:
    said = dict(model.predict_each(photos([str(strange / "a")], io.BytesIO())))
    refused = {Path(path).name for path, one in said.items() if isinstance(one, UnreadablePhoto)}
    assert refused >= {"device.jpg", "passwd.jpg", "loop.jpg"}
    assert len(said) - len(refused) == 5


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["pipe.jpg", "folder.jpg", "device.jpg", "socket.jpg", "loop.jpg", "gone.jpg", "a\0b"])
def test_what_is_no_file_is_refused_by_name(name: str, strange: Path) -> None:
    with pytest.raises(UnreadablePhoto, match=re.escape(line(name))) as caught:
        open_photo(strange / "a" / name)
    if name in ("pipe.jpg", "folder.jpg", "device.jpg"):
        assert "not a file" in str(caught.value)
    assert caught.value.remedy


def test_what_is_refused_is_closed(strange: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("pipe.jpg", "folder.jpg", "device.jpg"):
        with pytest.raises(OSError, match="not a file"):
            read_regular(strange / "a" / name, 100)
    with pytest.raises(OSError, match="more than"):
        read_regular(strange / "a" / "good.jpg", 100)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_photo_that_grows_while_it_is_read_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    before = (tmp_path / "x").stat()
    (tmp_path / "x").write_bytes(bytes(200))
    monkeypatch.setattr(os, "fstat", lambda _: before)
    with pytest.raises(OSError, match="more than"):
        read_regular(tmp_path / "x", 150)


def test_a_photo_that_vanishes_is_one_error(tmp_path: Path, model: Classifier) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(encode(paint(number, (200, 150))))
    said = model.predict_each(photos([str(tmp_path)], io.BytesIO()))
    next(said)
    (tmp_path / "1.jpg").unlink()
    (_, error), *_ = said
    assert isinstance(error, UnreadablePhoto)
    assert "1.jpg" in str(error)
