import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import hostile_models
import pytest
from conftest import write_photos
from console import call
from handmade import leaking_run, write_model

from spectraderm.core.run import AUDIT, CALIBRATION, EVALUATION, MANIFEST, NOVELTY, REPORT, SPLIT, Run
from spectraderm.evaluation import ledger

WRONG = """
audit flat --out run; demo --out flat; demo --out file/x --data flat
"""


@pytest.mark.parametrize("command", re.split(r"[;\n]\s*", WRONG.strip()))
def test_stages_that_can_not_work_say_so_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path, {"flat": 2, "two/a": 1, "two/b": 1})
    Path("file").write_text("no folder")
    done = call(*command.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1].startswith("error: ")


EARLY = """
audit file --out run; audit two --out file/x; evaluate gone two; evaluate default
run gone --backbone ./gone-too; run two --recipe gone.toml; run two --backbone ./gone
run two --backbone open-nsfw-thin --out file/x; run two --log wandb; audit gone --out run; split gone; train gone
calibrate gone; export gone; evaluate gone; evaluate default gone
compare gone gone; reproduce gone; reproduce notebook gone; serve gone/x/y
adapt default gone --out x; demo --data gone; run two --out s3://bucket --backbone open-nsfw-thin
evaluate hostile two; calibrate hostile two --external; adapt hostile two --out x; deploy default --out https://x
"""


def test_what_can_not_work_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    """In one process after another: none has imported torch when it says so."""
    write_photos(tmp_path, {"two/a": 1, "two/b": 1})
    (tmp_path / "file").write_text("no folder")
    nested = hostile_models.ATTACKS["functions nested 40 deep"]
    assert isinstance(nested, hostile_models.Attack)
    write_model(tmp_path / "hostile", files=nested.files)
    hidden = "import sys; sys.modules.update(dict.fromkeys(['torch', 'sklearn', 'scipy', 'wandb', 'fastapi'])); "
    commands = re.split(r"[;\n]\s*", EARLY.strip())
    loop = f"""{hidden}
from spectraderm.cli.commands import main
for command in {commands!r}:
    sys.argv = ['spectraderm', *command.split()]
    try:
        main()
    except SystemExit as end:
        print(end.code, command)
"""
    done = subprocess.run([sys.executable, "-c", loop], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert len(done.stdout.splitlines()) == len(commands)
    assert all(line.startswith("2 ") for line in done.stdout.splitlines()), done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(commands), done.stderr
    assert not [
        line for line in errors if any(name in line for name in ("torch", "sklearn", "scipy")) or "Hub does not" in line
    ], errors
    assert {path.name for path in tmp_path.iterdir()} == {"two", "file", "hostile"}


def test_two_runs_are_shown_side_by_side(tmp_path: Path) -> None:
    one, two = leaking_run(tmp_path / "[red]first"), leaking_run(tmp_path / "second")
    done = call("evaluate", one, two)
    assert (done.code, done.out) == (0, "")
    assert 0 < done.err.index("[red]first") < done.err.index("second")
    assert done.err.count("> without-copies (2 files") == done.err.count("Verdicts: ") == 2
    shown = [line for line in done.err.splitlines() if re.match(r"  original +33\.3 \(", line)]
    assert len(shown) == 2  # both runs, with their intervals
    assert "original (3 files, 3 photo groups): Do not believe it: 1 of 3 test photos are copies" in done.err
    assert all(name in done.err for name in ("majority class", "hash look up", "metadata", "pixels 8x8"))
    assert all((run / REPORT).is_file() for run in (one, two))
    assert ledger.summary(Run(one))["compared_with"] == [str(two)]
    assert ledger.summary(Run(two))["compared_with"] == [str(one)]


def test_the_stages_one_by_one_are_the_run(photos: Path, tiny: Path, tmp_path: Path) -> None:
    shipped = (resources.files("spectraderm.training") / "recipes" / "notebook.toml").read_text()
    (tmp_path / "notebook.toml").write_text(f"{shipped}\nimage_size = 64\n")
    how = ("--recipe", tmp_path / "notebook.toml", "--backbone", tiny, "--epochs", 2, "--device", "cpu")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    calls: list[tuple[object, ...]] = [
        ("run", photos, "--out", whole, "--split", "original", "--folds", 2, "--no-crops", *how, "--json"),
        ("audit", photos, "--out", parts, "--no-crops", "--json"),
        ("split", parts, "--split", "original", "--folds", 2, "--json"),
        ("calibrate", parts, "--json"),
        ("evaluate", parts, "--json"),
        ("export", parts, "--json"),
    ]
    printed = {}
    for arguments in calls:
        done = call(*arguments)
        assert done.code == 0, done.err
        printed[arguments[0]] = json.loads(done.out)
        if arguments[0] == "split":
            done = call("train", parts, *how)
            assert (done.code, done.out) == (0, ""), done.err
    files = {"run": EVALUATION, "audit": AUDIT, "calibrate": CALIBRATION, "evaluate": EVALUATION}
    for command, name in files.items():
        assert printed[command] == json.loads((parts / name).read_text()), command
    assert printed["split"]["folds"][0]["name"] == "final"
    assert printed["export"]["parity"]["changed_top1"] == 0
    made = (EVALUATION, MANIFEST, SPLIT, CALIBRATION, NOVELTY)
    for name in (*made, "folds/final/logits.csv", "model/onnx/model.onnx"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    assert json.loads((whole / EVALUATION).read_text())["recipe"] == "notebook"
    answer = json.loads(call("predict", photos / "test/b/00.jpg", "--model", parts / "model").out)
    assert sorted(answer["probabilities"]) == ["A- a", "b", "c"]
