import errno
import os
import signal
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import contents

from spectraderm.core import files
from spectraderm.core.errors import RunFolderError, WriteError

REMEDY = "Type `spectraderm audit`"


def test_a_write_is_brought_to_the_disk_before_it_gets_its_name_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        about = os.fstat(handle)
        done.append("folder" if stat.S_ISDIR(about.st_mode) else f"file of {about.st_size}")
        sync(handle)

    def replaced(*names: Path) -> None:
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    for content in (b"old", b"12345"):
        files.write_bytes(tmp_path / "new" / ("x" * 255), content)
    assert done[3:] == ["file of 5", "rename", "folder"]
    assert contents(tmp_path) == {f"new/{'x' * 255}": b"12345"}
    assert (tmp_path / "new" / ("x" * 255)).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSPC, r"the disk is full\. Free space on it, then run the same command again"),
        (errno.EACCES, r"you may not write there\. Give yourself the right"),
        (errno.EMLINK, "Too many links"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_the_remedy(
    number: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for write in (files.write_bytes, lambda path, data: files.write_folder(path, {"file": data})):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(WriteError, match=f"{tmp_path}/x can't be written: {why}") as caught:
                write(tmp_path / "x", b"")
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == number
        assert contents(tmp_path) == {}
    files.write_bytes(tmp_path / "x", b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError):
        files.write_bytes(tmp_path / "x", b"new")
    assert contents(tmp_path) == {"x": b"old"}


def test_names_that_can_not_be_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="its name is too long"):
        files.write_bytes(tmp_path / ("x" * 300), b"")
    for place in (tmp_path / "file" / "below", tmp_path / "file" / "below" / "further"):
        with pytest.raises(WriteError, match=r"is a file, not a folder|is in the way"):
            files.write_bytes(place, b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="a folder of that name is in the way"):
        files.write_bytes(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_json_and_csv_come_back(tmp_path: Path) -> None:
    content = {"b": [1.5, None], "a": "ü\n"}
    files.write_json(tmp_path / "x.json", content)
    assert list(files.read_json(tmp_path / "x.json", REMEDY).items()) == list(content.items())
    rows = [{"a": 'x, "y"\nz', "b": "ü"}, {"a": "", "b": "1"}]
    files.write_csv(tmp_path / "x.csv", ("a", "b"), rows)
    assert files.read_csv(tmp_path / "x.csv", ("b", "a"), REMEDY) == rows
    assert (tmp_path / "x.csv").read_bytes().startswith(b"a,b\n")


def test_what_json_and_csv_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})
    with pytest.raises(ValueError, match="fields"):
        files.write_csv(tmp_path / "x.csv", ("a",), [{"a": 1, "b": 2}])
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *(("x.json", data) for data in (None, b"{", b"[1]", b"\xff\xfe", b"[" * 200_000)),
        *(("x.csv", data) for data in (None, b"", b"a,c\n1,2\n", b"a,b\n\xff,2\n", b"a,b\n1,2\n3\n")),
        ("x.csv", b'a,b\n"' + b"x" * 200_000),
    ],
)
def test_unreadable_json_and_csv_name_file_and_remedy(name: str, data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(RunFolderError, match=name) as caught:
        files.read_json(path, REMEDY) if name == "x.json" else files.read_csv(path, ("a", "b"), REMEDY)
    assert caught.value.remedy == REMEDY


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_that_is_replaced_is_whole_wherever_its_writer_is_killed(
    in_one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write. Where names can't be swapped a moment comes when only `sweep` can put the old one back."""
    if not in_one_step:
        monkeypatch.setattr(files, "_swapped", lambda *_: False)
    old, new = {"a": b"old", "deep/b": b"old"}, {"a": b"new", "deep/c": b"new"}
    target, found, lacked = tmp_path / "target", set(), 0
    for moment in range(1, 100):
        files.write_folder(target, old)
        code = _killed(moment, target, new)
        lacked += not target.exists()
        files.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [target]
        assert contents(target) in (old, new)
        found.add(tuple(contents(target)))
        if code == 0:
            break
    assert code == 0
    assert found == {tuple(old), tuple(new)}
    assert lacked == (0 if in_one_step else 1)


def _killed(moment: int, target: Path, content: dict[str, bytes]) -> int:
    """Write a folder in a child, which is killed before its `moment`th write."""
    child = os.fork()
    if not child:
        left = [moment]

        def count(event: str, _: object) -> None:
            if event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        files.write_folder(target, content)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_what_may_still_be_written_is_left_alone_where_no_lock_keeps_others_out(tmp_path: Path) -> None:
    young, old = (tmp_path / f".file.abcd123{number}.partial" for number in range(2))
    for path in (young, old):
        path.touch()
    os.utime(old, (1e9, 1e9))
    files.sweep(tmp_path, older_than=60)
    assert list(tmp_path.iterdir()) == [young]


def test_a_folder_that_can_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "target", {"a": b"old"})
    with pytest.raises(WriteError, match="its name is too long"):
        files.write_folder(tmp_path / "target", {"a": b"new", "x" * 300: b""})
    assert contents(tmp_path) == {"target/a": b"old"}


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe")
    assert files.read_regular(tmp_path / "file", 5) == b"12345"
    for name, why in (("file", "more than"), ("pipe", "not a file"), (".", "not a file")):
        with pytest.raises(OSError, match=why):
            files.read_regular(tmp_path / name, 4)


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_files_and_folders_are_for_whom_the_umask_lets(
    umask: int, file_mode: int, folder_mode: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        files.write_bytes(tmp_path / "new" / "a", b"1")
        files.write_array(tmp_path / "new" / "b.npy", np.zeros(1))
        files.write_folder(tmp_path / "whole", {"a": b"1", "deep/b": b"1"})
    finally:
        os.umask(before)
    made = [path for name in ("new", "whole") for path in (tmp_path / name, *(tmp_path / name).rglob("*"))]
    assert {(path.is_dir(), path.stat().st_mode & 0o777) for path in made} == {(False, file_mode), (True, folder_mode)}


@pytest.mark.parametrize("address", ["https://host/x", "s3://bucket", "gs:/b/c.json", "file:///tmp/x"])
def test_an_address_is_no_place_to_write_to(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(address)
    for write in (files.check_writable, lambda path: files.write_folder(path, {"a": b""})):
        with pytest.raises(WriteError, match=r"it is an address\. Give a folder or file of this machine"):
            write(path)
    assert not list(tmp_path.iterdir())
    Path(path.parts[0]).mkdir()  # a folder that is there is meant
    files.check_writable(path)
