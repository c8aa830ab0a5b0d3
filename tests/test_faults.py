"""Killed, out of space, without rights, damaged: each with its clear words, nothing lost, and gone on with to the byte.

Few tries of each; `benchmarks/faults.py` makes many, and of `export` and `predict`, too.
"""

import errno
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from console import call

from spectraderm.cli import console
from spectraderm.core.errors import WriteError
from spectraderm.core.run import REPORT, Run
from spectraderm.evaluation import ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

children: Any = importlib.import_module("children")
faults: Any = importlib.import_module("faults")

STAGES = ("audit", "train", "calibrate", "evaluate")
ON: dict[str, tuple[str, ...]] = {
    "killed": STAGES,
    "full_disk": ("audit", "train", "calibrate"),
    "read_only": ("calibrate",),
    "no_rights": ("audit", "calibrate"),
    "vanished_photo": ("train",),
    "damaged_file": STAGES,
    "damaged_state": ("train",),
    "clock": ("train", "calibrate"),
    "two_runs": ("audit", "calibrate"),
}
"""Which stages each fault is tried on; the benchmark tries all."""
FEW: dict[str, dict[str, Any]] = {
    "killed": {"tries": 2},
    "full_disk": {"tries": 1},
    "damaged_file": {"files": ("split.csv", "folds/final/logits.csv")},
}
WORDS = {
    "killed": "nothing",
    "full_disk": "the disk is full. Free space",
    "read_only": "its file system can only be read. Give a folder elsewhere",
    "no_rights": "you may not write there. Give yourself the right",
    "vanished_photo": ".jpg",
    "damaged_file": "is damaged or was changed: its SHA-256 is not the one in checksums.txt",
    "damaged_state": "state",
    "clock": "nothing",
    "two_runs": "is being written to by process",
}
"""What a person reads."""


@pytest.fixture(scope="module")
def world() -> Iterator[Any]:
    """In a folder of its own, for pytest's let nobody else look into them."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield children.prepare(Path(folder))


@pytest.fixture(scope="module")
def chain(world: Any) -> Any:  # noqa: ANN401
    return children.unbroken_stages(world, STAGES)


@pytest.mark.parametrize("name", ON)
def test_a_fault_is_named_and_nothing_is_lost(name: str, world: Any, chain: Any) -> None:  # noqa: ANN401
    if name == "no_rights" and os.getuid():
        pytest.skip("only root can become somebody else")
    outcomes = list(faults.FAULTS[name](world, {stage: chain[stage] for stage in ON[name]}, **FEW.get(name, {})))
    assert [(one.where, one.wrong) for one in outcomes if one.wrong] == []
    tried = {"train", "calibrate"} if name == "damaged_file" else set(ON[name])  # the stages that meet the damage
    assert {one.where for one in outcomes} == tried
    assert all(WORDS[name] in one.said for one in outcomes)


def test_what_is_lost_would_be_noticed(world: Any, chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    """Files that are written in place are half-written when the process is killed or the disk is full."""

    def in_place(path: Path, data: bytes) -> None:
        path.write_bytes(data[: len(data) // 2])
        with path.open("ab") as file:
            file.write(data[len(data) // 2 :])

    monkeypatch.setattr("spectraderm.core.files.write_bytes", in_place)
    outcomes = list(faults.FAULTS["full_disk"](world, {"calibrate": chain["calibrate"]}, tries=8))
    assert any("lost: " in one.wrong for one in outcomes)


def test_a_stage_without_its_run_folder_makes_none(tmp_path: Path) -> None:
    done = call("calibrate", tmp_path / "nothing")
    assert done.code == 2
    assert "spectraderm train RUN" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space"), "A file can't be written: the disk is full. Free space on it"),
        (OSError(errno.EROFS, "?", "a/b"), "a/b can't be written: its file system can only be read. Give a folder"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b can't be used (Permission denied). Look"),
        (WriteError("x", OSError(errno.ENOSPC, "")), "x can't be written: the disk is full. Free space on it"),
    ],
)
def test_no_error_of_the_system_reaches_a_person_as_it_is(
    error: OSError, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_a_scoring_that_was_killed_is_no_line_in_the_ledger(
    chain: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from spectraderm import pipeline

    run = children.copied(chain["calibrate"].after, tmp_path / "run")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_report", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.evaluate(run)
    assert ledger.summary(Run(run))["opened"] == 0
    pipeline.evaluate(run)
    assert ledger.summary(Run(run))["opened"] == 1
    assert "scored 1 time, by 1 model" in (run / REPORT).read_text(encoding="utf-8")
