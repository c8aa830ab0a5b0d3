"""A stage at work notes checksums; the next one compares them."""

import json
import subprocess
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from spectraderm.core import files, stages
from spectraderm.core.errors import RunFolderError, WriteError
from spectraderm.core.files import sha256, write_array, write_bytes
from spectraderm.core.run import CALIBRATION, CARD, CONFIG, Run


def made(run: Path, stage: str, **files: bytes) -> None:
    with Run(run).stage(stage):
        for name, data in files.items():
            write_bytes(run / f"{name}.csv", data)


def test_what_a_stage_writes_is_noted_as_sha256sum_reads_it(tmp_path: Path) -> None:
    with Run(tmp_path).stage("audit"):
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
    made(tmp_path, "audit", manifest=b"1")
    with (tmp_path / stages.CHECKSUMS).open("ab") as file:
        file.write(b"0123456789abcdef")
    made(tmp_path, "audit", split=b"1")
    assert sorted(stages.read(tmp_path).files) == ["manifest.csv", "split.csv"]


def test_a_file_that_was_edited_on_purpose_is_accepted_without_its_line(tmp_path: Path) -> None:
    made(tmp_path, "audit", manifest=b"1", split=b"1")
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


def test_what_was_done_from_another_file_is_refused_until_it_is_done_again(tmp_path: Path) -> None:
    made(tmp_path, "audit", manifest=b"1")
    made(tmp_path, "split", split=b"1")
    made(tmp_path, "audit", manifest=b"1")
    Run(tmp_path).check("train")  # the same bytes again
    made(tmp_path, "audit", manifest=b"2")
    with pytest.raises(RunFolderError, match=r"`split` was done from another manifest\.csv") as caught:
        Run(tmp_path).check("train")
    assert caught.value.remedy == f"Run `spectraderm split {tmp_path}` again"
    made(tmp_path, "split", split=b"1")
    Run(tmp_path).check("train")


def test_settings_for_elsewhere_make_no_score_stale(tmp_path: Path) -> None:
    made(tmp_path, "audit", manifest=b"1")
    for home, stale in ((1, False), (2, True)):
        (tmp_path / CALIBRATION).write_text(json.dumps({"home": 1}))
        with Run(tmp_path).stage("evaluate"):
            pass
        (tmp_path / CALIBRATION).write_text(json.dumps({"home": home, "elsewhere": {}}))
        with pytest.raises(RunFolderError) if stale else nullcontext():
            Run(tmp_path).check("export")


def test_a_stage_that_began_to_write_and_did_not_end_is_not_taken(tmp_path: Path) -> None:
    made(tmp_path, "audit", manifest=b"1")
    (tmp_path / "no").write_bytes(b"in the way")
    for written in (False, True):
        with pytest.raises(WriteError):
            made(tmp_path, "audit", **({"manifest": b"1"} if written else {}), **{"no/such": b"1"})
        with pytest.raises(RunFolderError, match="`audit` did not end") if written else nullcontext():
            Run(tmp_path).check("split")
    made(tmp_path, "audit", manifest=b"1")
    Run(tmp_path).check("split")


@pytest.mark.parametrize(("stage", "name"), [("audit", "manifest"), ("split", "split")])
def test_what_was_trained_on_is_not_written_over(stage: str, name: str, tmp_path: Path) -> None:
    made(tmp_path, "audit", manifest=b"1")
    made(tmp_path, "split", split=b"1")
    with Run(tmp_path).stage("train"):
        write_bytes(tmp_path / CONFIG, b"{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunFolderError, match=f"trained with another {name}"):
        made(tmp_path, stage, **{name: b"2"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    made(tmp_path, stage, **{name: b"1"})
    Run(tmp_path).check("calibrate")


def test_a_file_that_got_its_name_before_an_error_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> None:
        raise OSError(5, f"{folder}: the disk reports an error")

    made(tmp_path, "audit", manifest=b"1")
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync_folder", fails)
        with pytest.raises(WriteError):
            made(tmp_path, "audit", manifest=b"2")
    made(tmp_path, "audit")
    assert stages.read(tmp_path).files == {"manifest.csv": [sha256(b"2")]}


def test_the_card_may_be_edited(tmp_path: Path) -> None:
    with Run(tmp_path).stage("audit"):
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
