"""The benchmarks run, compare round by round, and end with what a failing command printed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import write_model

from spectraderm.training.backbones import open_nsfw

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

bulk: Any = importlib.import_module("bulk")
peers: Any = importlib.import_module("peers")
profile_predict: Any = importlib.import_module("profile_predict")
resnet50: Any = importlib.import_module("resnet50")
same: Any = importlib.import_module("same")
timing: Any = importlib.import_module("timing")


def test_peers_prints_a_table_of_our_side_where_no_peer_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "smoke" / "full" / "model")
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        sys, "argv", ["peers.py", "--smoke", "--work", str(tmp_path), "--only", "first", "large", "folder"]
    )
    peers.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert {row[0].strip() for row in rows} == {
        "cold process to first answer",
        "memory of that",
        "12-megapixel JPEG to answer",
        "test photos, as usual",
        "test photos, in batches",
    }
    assert all(timing.NOT_INSTALLED in row[2] and row[4].strip() for row in rows)


def test_watching_tells_first_line_from_end_and_sees_memory() -> None:
    held = np.ones(30_000_000)
    program = "import time; x = b'1' * 60_000_000; print('a', flush=True); time.sleep(0.4); print('{\"b\": 1}')"
    told = timing.watched([sys.executable, "-S", "-c", program])
    assert (told.lines, told.last) == (2, {"b": 1})
    assert told.seconds - told.first >= 0.4
    assert 60 < told.peak < 100 < held.nbytes / 1e6


def test_a_command_that_fails_ends_the_benchmark_with_what_it_printed() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        timing.watched([sys.executable, "-S", "-c", "import sys; sys.exit('no such thing')"])
    command = [sys.executable, "-S", str(BENCHMARKS / "watch.py"), sys.executable, "-S", "-c", "raise SystemExit(7)"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 7


def test_threads_are_not_limited_for_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    last = timing.watched([sys.executable, "-S", "-c", program], Path("there")).last
    assert "OMP_NUM_THREADS" not in last
    assert last["SPECTRADERM_CACHE"] == "there"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_ratios_are_taken_round_by_round() -> None:
    row = timing.Row("w", "p", "o", [10.0, 30.0, 20.0], [1.0, 2.0, 4.0])
    assert row.ratios == [10, 15, 5]
    assert row.line() == "| w | p | 20 s (10-30) | o | 2 s (1-4) | **10 (5-15)** |"


def test_the_notebooks_twelve_epochs_are_put_together_as_stated(tmp_path: Path) -> None:
    told: list[dict[str, float]] = [
        {"ready": 10},
        {"epoch": 9},
        {"epoch": 3},
        {"epoch": 5},
        {"evaluate": 4, "test": 0.9},
    ]
    peer = tmp_path / "python"
    lines = [f"{'read go; ' if 'epoch' in one else ''}echo '{json.dumps(one)}'" for one in told]
    peer.write_text("\n".join(["#!/bin/sh", *lines]))
    peer.chmod(0o700)
    (tmp_path / "resnet50").mkdir()
    (tmp_path / "resnet50" / "preprocessor_config.json").touch()

    class Given:
        data, work, rounds, smoke, peers = tmp_path, tmp_path, 2, False, peer

    notebook = peers.Notebook(peers.Bench(Given()))
    notebook.epoch()
    notebook.epoch()
    assert notebook.end() == [10 + 4 + 9 + 11 * 3, 10 + 4 + 9 + 11 * 5]
    peer.write_text("#!/bin/sh\nexit 1")
    with pytest.raises(SystemExit, match="ended with 1"):
        peers.Notebook(peers.Bench(Given()))


@torch.no_grad()
def test_twice_as_wide_is_the_same_function() -> None:
    thin = open_nsfw()
    wide = resnet50.widened(thin)
    thin.train(False)
    wide.train(False)
    thin.embedder.pooler = torch.nn.MaxPool2d(3, 2, 1)
    photo = torch.randn(1, 3, 64, 64) * 60
    expected, widened = (network(photo).pooler_output.flatten() for network in (thin, wide))
    assert widened.numel() == 2048
    assert torch.allclose(widened, expected.repeat(2), rtol=1e-3, atol=1e-4)


def test_a_profiles_stages_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import spectraderm

    photo = timing.painted(tmp_path / "photo.jpg", (320, 240))
    told = profile_predict.stages(spectraderm.load_model(), str(photo), 1)
    taken = {name: float(value) for name, value in told.items()}
    assert taken["network"] > 0
    assert taken["read and decode"] > 0
    whole = taken.pop("all")
    assert sum(taken.values()) == pytest.approx(whole, abs=0.1)


def test_killed_and_unbroken_bulk_predictions_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model")
    monkeypatch.setattr(sys, "argv", ["bulk.py", "6", "--kill", "--tries", "2", "--model", str(model)])
    bulk.main()
    assert "rows equal" in capsys.readouterr().out


def test_two_versions_are_compared_leaf_by_leaf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accuracy, word in (("before", 0.9, "as-given"), ("after", 0.8, "original")):
        run = tmp_path / name / "run"
        (run / "folds" / "final").mkdir(parents=True)
        for file in same.JSON_FILES:
            (run / file).write_text(json.dumps({"protocol": word, "rows": [accuracy, 1 + accuracy * 1e-9]}))
        for file in same.CSV_FILES:
            (run / file).write_text("path,split\na.jpg,test\n")
        (run / "folds" / "final" / "logits.csv").write_text(f"path,logit:a\na.jpg,{accuracy}\n")
        line = {"path": "a.jpg", "verdict": "predicted", "label": "a", "probability": accuracy}
        (tmp_path / name / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    assert not same.compare(tmp_path / "before", tmp_path / "before", {}, 5)
    capsys.readouterr()
    assert same.compare(tmp_path / "before", tmp_path / "after", {"as-given": "original"}, 5)
    printed = capsys.readouterr().out
    assert printed.count(".rows[0]: 0.9 -> 0.8") == 3
    assert "protocol" not in printed
    assert "rows[1]" not in printed
    assert "final: logits differ by 0.1" in printed
    assert "a.jpg: probability 0.9 -> 0.8" in printed
    assert "split.csv: the same" in printed


def test_peers_are_pinned_and_every_script_says_how_it_is_used() -> None:
    lines = (BENCHMARKS / "peers" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))
    for script in BENCHMARKS.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        if "__main__" in text and script.name not in ("watch.py", "__main__.py"):
            assert f"python benchmarks/{script.name}" in text, script
