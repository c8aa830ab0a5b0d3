"""A stage at work notes checksums; the next one compares them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spectraderm.core import stages
from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import sha256, write_array, write_bytes
from spectraderm.core.run import CARD, Run


@contextmanager
def at_work(run: Path) -> Iterator[None]:
    run.mkdir(exist_ok=True)
    with Run(run).stage("audit"):
        yield


def test_what_a_stage_writes_is_noted_as_sha256sum_reads_it(tmp_path: Path) -> None:
    with at_work(tmp_path):
        write_bytes(tmp_path / "b", b"1")
        write_bytes(tmp_path / "b", b"2")
        write_array(tmp_path / "folds" / "final" / "a.npy", np.zeros(3))
        write_bytes(tmp_path / "cache" / "c", b"not noted")
        write_bytes(tmp_path / "gone", b"")
        (tmp_path / "gone").unlink()
    write_bytes(tmp_path / "later", b"no stage is at work")
    sums = {name: sha256((tmp_path / name).read_bytes()) for name in ("b", "folds/final/a.npy")}
    text = (tmp_path / stages.CHECKSUMS).read_text()
    assert text == "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    subprocess.run(["sha256sum", "--check", "--quiet", "checksums.txt"], cwd=tmp_path, check=True)


def test_lines_that_are_cut_off_are_passed_over(tmp_path: Path) -> None:
    with at_work(tmp_path):
        write_bytes(tmp_path / "manifest.csv", b"1")
    with (tmp_path / stages.CHECKSUMS).open("ab") as file:
        file.write(b"0123456789abcdef")
    with at_work(tmp_path):
        write_bytes(tmp_path / "split.csv", b"1")
    assert sorted(stages.read(tmp_path).files) == ["manifest.csv", "split.csv"]


def test_a_file_that_was_edited_on_purpose_is_accepted_without_its_line(tmp_path: Path) -> None:
    with at_work(tmp_path):
        for name in ("manifest.csv", "split.csv"):
            write_bytes(tmp_path / name, b"1")
    (tmp_path / "split.csv").write_bytes(b"mine")
    Run(tmp_path).check("split")  # makes it anew
    with pytest.raises(RunFolderError, match=r"split\.csv is damaged or was changed") as caught:
        Run(tmp_path).check("train")
    assert f"Run `spectraderm split {tmp_path}` again" in caught.value.remedy
    assert f"changed on purpose, delete its line in {tmp_path / 'checksums.txt'}" in caught.value.remedy
    path = tmp_path / stages.CHECKSUMS
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "split.csv" not in line))
    Run(tmp_path).check("train")
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(RunFolderError, match=r"manifest\.csv is gone"):
        Run(tmp_path).check("train")


def test_the_card_may_be_edited(tmp_path: Path) -> None:
    with at_work(tmp_path):
        write_bytes(tmp_path / CARD, b"ours")
    (tmp_path / CARD).write_bytes(b"theirs")
    Run(tmp_path).check("export")


def test_of_several_processes_only_a_training_has_more_than_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with Run(tmp_path).stage("train"):
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunFolderError, match="`audit` is for one process"), Run(tmp_path).stage("audit"):
        pass
