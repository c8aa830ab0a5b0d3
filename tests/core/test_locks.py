"""One writer to a folder: the second is told at once who the first is, and what is killed blocks nobody."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from spectraderm.core.errors import FolderInUse, WriteError
from spectraderm.core.locks import LOCK, VARIABLE, WRITER, is_main, only_writer

HOLD = """
import sys, time
from pathlib import Path
from spectraderm.core.locks import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that writes into `tmp_path / "run"` until it gets a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_the_first_is_until_it_has_ended(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    run = tmp_path / "run"
    since = json.loads((run / WRITER).read_text())["since"]
    with pytest.raises(FolderInUse) as caught, only_writer(run):
        pass
    assert f"{run} is being written to by process {holder.pid} on " in str(caught.value)
    assert f"since {since}" in str(caught.value)
    assert caught.value.remedy == "Wait until it has ended, or give another folder"
    assert json.loads((run / WRITER).read_text())["process"] == holder.pid
    holder.communicate("end\n")
    with only_writer(run):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_killed_blocks_nobody(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with only_writer(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / WRITER).read_text())["process"] == os.getpid()
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_forked_worker_that_outlives_the_writer_blocks_nobody(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        worker = os.fork()
        if not worker:
            signal.pause()
    try:
        with only_writer(tmp_path):
            pass
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)


def test_the_same_thread_may_come_in_again_and_keeps_the_lock(tmp_path: Path) -> None:
    with only_writer(tmp_path):
        with only_writer(tmp_path / ".." / tmp_path.name):
            pass
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_another_thread_may_not(tmp_path: Path) -> None:
    said: list[str] = []

    def write() -> None:
        try:
            with only_writer(tmp_path):
                said.append("in")
        except FolderInUse as error:
            said.append(error.problem)

    with only_writer(tmp_path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path} is being written to by process {os.getpid()} on ")


def test_after_an_error_the_folder_is_free(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()
    with only_writer(tmp_path / "new"):
        (tmp_path / "new" / "kept").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept"]


@pytest.mark.parametrize(("rank", "main"), [({}, True), ({"RANK": "0"}, True), ({"RANK": "1"}, False)])
def test_of_several_processes_the_first_one_locks(
    rank: dict[str, str], main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "0")  # of a second machine, too
    for name, value in rank.items():
        monkeypatch.setenv(name, value)
    with only_writer(tmp_path):
        assert (tmp_path / LOCK).exists() == is_main() == main


def test_a_file_system_without_locks_says_so_and_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with pytest.raises(WriteError, match=rf"{tmp_path}.*gives no locks.*set {VARIABLE}=off"), only_writer(tmp_path):
        pass
    monkeypatch.setenv(VARIABLE, "off")
    with only_writer(tmp_path):
        pass


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / ".manifest.csv.abcd1234.partial", tmp_path / "folds" / ".x.y.z0123456.partial"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    (tmp_path / ".mine.partial").mkdir()
    with only_writer(tmp_path):
        pass
    assert {path.name for path in tmp_path.rglob("*")} == {".mine.partial", "folds"}
