import contextlib
import importlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from console import call
from handmade import write_model
from onnx import TensorProto, helper

from spectraderm.training import open_nsfw

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

bound: Any = importlib.import_module("bound")
growth: Any = importlib.import_module("growth")
prepared: Any = importlib.import_module("prepared")
profile_predict: Any = importlib.import_module("profile_predict")
resnet50: Any = importlib.import_module("resnet50")
sides: Any = importlib.import_module("sides")
table: Any = importlib.import_module("table")
training: Any = importlib.import_module("training")


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Every command runs in this process, where all is imported already; gives the commands."""
    commands: list[list[str]] = []
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))

    def watched(command: list[str], cache: Path | None = None) -> object:
        commands.append(command)
        with monkeypatch.context() as patch:
            if cache:
                patch.setenv("SPECTRADERM_CACHE", str(cache))
            out = here(command[1:], patch)
        *_, last = out.splitlines() or [""]
        said = json.loads(last) if last.startswith("{") else {}
        return sides.Watched(first=0.5, seconds=1.0, peak=100.0, lines=len(out.splitlines()), said=said)

    monkeypatch.setattr(sides, "watched", watched)
    return commands


def here(arguments: list[str], patch: pytest.MonkeyPatch) -> str:
    if arguments[0] == "-c":
        done = call(*arguments[2:])
        assert done.code == 0, done.err
        return done.out
    out = io.StringIO()
    patch.setattr(sys, "argv", arguments)
    with contextlib.redirect_stdout(out):
        runpy.run_path(arguments[0], run_name="__main__")
    return out.getvalue()


def test_all_comparisons_run_without_peers_and_print_a_table(
    inside: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path / "smoke" / "full-ResNet-50" / "model")
    monkeypatch.setattr(sys, "argv", ["table.py", "--smoke", "--work", str(tmp_path)])
    table.main()
    lines = capsys.readouterr().out.splitlines()
    assert "cores" in lines[0]
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("| ")][1:]
    done = {row[0].strip() for row in rows}
    assert {"cold process to first answer", "network, one photo", "12-megapixel JPEG to answer"} <= done
    assert {"test photos, as usual", "training to the test accuracy, 12 epochs"} <= done
    assert all(len(row) == 6 and row[4].strip() for row in rows[1:])
    assert sum(sides.WANTED in row[2] for row in rows) == sum("Keras" in row[1] or "pipeline" in row[1] for row in rows)
    trained = [command for command in inside if "train" in command]
    assert len(trained) == 2  # cold; warm
    assert all("notebook" in command for command in trained)


def test_growth_answers_once_for_every_photo(
    inside: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = write_model(tmp_path / "model")
    photos = growth.paint_some(tmp_path / "painted", 3)
    folder = growth.link(photos, tmp_path / "linked", 7)
    growth.measure(folder, 7, 1, ("--model", str(tiny)))
    assert "7 photos: per photo 83.3 ms" in capsys.readouterr().out  # of 1 s and 0.5 s to the first
    next(folder.rglob("*.jpg")).unlink()
    with pytest.raises(SystemExit, match="7 photos"):
        growth.measure(folder, 7, 1, ("--model", str(tiny)))


def test_watching_tells_first_line_from_end_and_sees_memory() -> None:
    program = "import time; x = b'1' * 60_000_000; print('a', flush=True); time.sleep(0.4); print('{\"b\": 1}')"
    told = sides.watched([sys.executable, "-S", "-c", program])
    assert told.lines == 2
    assert told.said == {"b": 1}
    assert told.seconds - told.first >= 0.4
    assert 60 < told.peak < 100


def test_watching_is_not_misled_by_the_memory_of_who_watches() -> None:
    held = np.ones(30_000_000)
    told = sides.watched([sys.executable, "-S", "-c", "print(1)"])
    assert told.peak < 60 < held.nbytes / 1e6


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        sides.watched([sys.executable, "-S", "-c", "import sys; sys.exit('no such thing')"])


def test_threads_are_not_limited_for_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    program = "import json, os; print(json.dumps([dict(os.environ)][0]))"
    said = sides.watched([sys.executable, "-S", "-c", program], Path("there")).said
    assert "OMP_NUM_THREADS" not in said
    assert said["SPECTRADERM_CACHE"] == "there"
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_ratios_are_taken_round_by_round_and_turned_around_for_bounds() -> None:
    row = sides.Row("w", "p", "o", [10.0, 30.0, 20.0], [1.0, 2.0, 4.0])
    assert row.ratios == [10, 15, 5]
    assert sides.cells(row)[-1] == "10 (5-15) x"
    assert sides.Row("w", "p", "o", [2.0], [3.0], "ms", bound=True).ratios == [1.5]
    assert sides.cells(sides.Row("w", "p", "o", [], [3.0]))[2] == sides.WANTED


def test_the_notebooks_twelve_epochs_are_put_together_as_stated(tmp_path: Path) -> None:
    said: list[dict[str, float]] = [
        {"ready": 10},
        {"epoch": 9},
        {"epoch": 3},
        {"epoch": 5},
        {"evaluate": 4, "test": 0.9},
    ]
    peer = tmp_path / "python"
    lines = [f"{'read go; ' if 'epoch' in one else ''}echo '{json.dumps(one)}'" for one in said]
    peer.write_text("\n".join(["#!/bin/sh", *lines]))
    peer.chmod(0o700)
    bench = prepared.Bench(tmp_path, tmp_path, peer, 2, False)
    (tmp_path / "resnet50").mkdir()
    (tmp_path / "resnet50" / "preprocessor_config.json").touch()
    notebook = training.Notebook(bench)
    notebook.epoch()
    notebook.epoch()
    assert notebook.end() == [10 + 4 + 9 + 11 * 3, 10 + 4 + 9 + 11 * 5]


def test_a_peer_that_dies_ends_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "resnet50").mkdir()
    (tmp_path / "resnet50" / "preprocessor_config.json").touch()
    with pytest.raises(SystemExit, match="ended with 1"):
        training.Notebook(prepared.Bench(tmp_path, tmp_path, Path("/bin/false"), 1, False))


@torch.no_grad()
def test_twice_as_wide_is_the_same_function() -> None:
    thin = open_nsfw.load()
    wide = resnet50.widened(thin)
    thin.train(False)
    wide.train(False)
    thin.embedder.pooler = torch.nn.MaxPool2d(3, 2, 1)
    photo = torch.randn(1, 3, 64, 64) * 60
    expected, found = (network(photo).pooler_output.flatten() for network in (thin, wide))
    assert found.numel() == 2048
    assert torch.allclose(found, expected.repeat(2), rtol=1e-3, atol=1e-4)
    assert sum(part.numel() for part in wide.parameters()) > 23e6


def test_multiply_adds_are_those_that_one_counts_by_hand() -> None:
    rng = np.random.default_rng(0)
    conv = onnx.numpy_helper.from_array(rng.random((8, 3, 3, 3), np.float32), "w")
    dense = onnx.numpy_helper.from_array(rng.random((8, 5), np.float32), "d")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["y"]),
    ]
    shapes: dict[str, list[str | int | None]] = {"x": ["n", 3, 10, 10], "y": ["n", 5]}
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:], [conv, dense]))
    assert bound.multiply_adds(model.SerializeToString()) == 8 * 5 * 5 * 27 + 8 * 5


def test_the_bound_counts_matrix_products_a_second() -> None:
    assert bound.fp32(64, 64, 64) > 1e7
    assert bound.int8(64, 64, 64) > 1e7


def test_a_profiles_stages_add_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import spectraderm

    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    photo = prepared.painted(tmp_path / "photo.jpg", (320, 240))
    model = spectraderm.load_model(threads=1)
    told = profile_predict.stages(model, str(photo), 1)
    taken = {name: float(value) for name, value in told.items()}
    assert taken["network"] > 0
    assert taken["read and decode"] > 0
    whole = taken.pop("all")
    assert sum(taken.values()) == pytest.approx(whole, abs=0.1)
    assert type(model).__dict__["_judge"].__name__ == "_judge"


def test_every_script_says_how_it_is_used() -> None:
    scripts = ["table", "training", "predicting", "first_answer", "latency", "large_photo", "growth", "profile_predict"]
    for name in scripts:
        documented = importlib.import_module(name).__doc__ or ""
        assert f"python benchmarks/{name}.py" in documented


def test_peers_are_pinned() -> None:
    lines = (BENCHMARKS / "peers" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


def test_watch_ends_as_its_command_does() -> None:
    command = [sys.executable, "-S", str(BENCHMARKS / "watch.py"), sys.executable, "-S", "-c", "raise SystemExit(7)"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 7
