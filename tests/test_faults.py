"""Out of space, without rights, damaged: each with its clear words, nothing lost, and gone on with to the byte.

Few tries of each; `benchmarks/faults.py` makes many, and of `evaluate`, `export` and `predict`, too.
"""

import errno
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tinynet import RECIPES

from spectraderm import pipeline
from spectraderm.cli import console
from spectraderm.core.errors import WriteError
from spectraderm.core.run import REPORT, Run
from spectraderm.evaluation import ledger
from spectraderm.training.options import Options

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

faults: Any = importlib.import_module("faults")

STAGES = ("audit", "train", "calibrate")


@pytest.fixture(scope="module")
def world(photos: Path, tiny: Path) -> Iterator[Any]:
    """In a folder of its own, for pytest's let nobody else look into them."""
    changes = RECIPES["notebook"] | {"epochs": 2}
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (tiny / "model.safetensors").chmod(0o644)
        mine, backbone = (shutil.copytree(one, Path(folder, one.name)) for one in (photos, tiny))
        options = Options("notebook", str(backbone), "original", 1, device="cpu", changes=changes)
        yield faults.World(Path(folder), mine, options).prepare(*STAGES)


@pytest.mark.parametrize("name", faults.FAULTS)
def test_a_fault_is_named_and_nothing_is_lost(
    name: str,
    world: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(faults.FAULTS, name, faults.FAULTS[name]._replace(tries=1))
    outcomes = list(faults.outcomes(world, name))
    assert [(stage, wrong) for stage, _, wrong in outcomes if wrong] == []
    assert {stage for stage, _, _ in outcomes} == set(STAGES) & set(faults.FAULTS[name].stages)


def test_what_is_lost_would_be_noticed(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    """Files that are written in place are half-written when the disk is full."""

    def in_place(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            os.fsync(file.fileno())
            file.write(data[len(data) // 2 :])

    monkeypatch.setattr("spectraderm.core.files.write_bytes", in_place)
    only = replace(world, unbroken={"calibrate": world.unbroken["calibrate"]})
    assert any(wrong.startswith("lost: ") for _, _, wrong in faults.outcomes(only, "full_disk"))


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


@pytest.mark.usefixtures("quick_report")
def test_a_scoring_that_was_killed_is_no_line_in_the_ledger(
    world: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Path(shutil.copytree(world.unbroken["calibrate"][1], tmp_path / "run"))

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
