"""Folders with what is called a photo and is none: nothing waits, nothing else is read, and the rest goes on."""

import io
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import encode, paint
from handmade import write_model

import spectraderm
from spectraderm.core.errors import UnreadablePhoto
from spectraderm.core.files import read_regular
from spectraderm.data.manifest import list_photos
from spectraderm.data.measurements import Measured, measure
from spectraderm.images.decoding import open_photo
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.photo_paths import photos


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return spectraderm.load_model(write_model(tmp_path_factory.mktemp("m") / "model"))


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
    with pytest.raises(UnreadablePhoto, match=re.escape(name)) as caught:
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
