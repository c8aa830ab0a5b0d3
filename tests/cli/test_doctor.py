"""What `spectraderm doctor` says of this machine as a whole: that it works, and what is said where it does not."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import write_model

import spectraderm
from spectraderm.cli.doctor import examine, graphics, predicting
from spectraderm.cli.doctor.examine import examine as examined
from spectraderm.cli.doctor.fact import Fact, State, broken
from spectraderm.cli.doctor.showing import as_json, show, summary
from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.remembering import remember
from spectraderm.inference.runtimes import Choice

HEAVY = {"torch", "transformers", "kornia", "sklearn", "faiss", "cv2", "gradio", "openvino", "huggingface_hub"}


def named(facts: list[Fact], name: str) -> Fact:
    found = [fact for fact in facts if fact.name == name]
    assert len(found) == 1, [fact.name for fact in facts]
    return found[0]


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return examined(offline=True)


def test_here_photos_can_be_classified(facts: list[Fact]) -> None:
    assert not broken(facts)
    assert named(facts, "a painted photo").state == State.ok
    assert "checksums right" in named(facts, "default model").value
    assert named(facts, "numpy").value == __import__("numpy").__version__
    assert [fact for fact in facts if fact.name == "error"] == []
    assert named(facts, "connection").value.endswith("not asked (--offline)")


def test_every_problem_has_a_remedy(facts: list[Fact]) -> None:
    assert [fact for fact in facts if fact.state in (State.warning, State.broken) and not fact.remedy] == []


def test_it_imports_nothing_large_and_is_quick() -> None:
    code = (
        "import sys; from spectraderm.cli.doctor.examine import examine; examine(offline=True); "
        f"print(sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_json_holds_every_fact(facts: list[Fact]) -> None:
    content = json.loads(as_json(facts))
    assert content["broken"] is False
    assert [Fact(**{**own, "state": State(own["state"])}) for own in content["facts"]] == facts


def test_problems_stand_first_and_are_counted() -> None:
    fine, slow = Fact("A", "one", "1"), Fact("A", "two", "2 is slow", State.warning, "Do this")
    gone, dead = (
        Fact("B", "three", "none", State.absent, "pip install x"),
        Fact("B", "four", "4", State.broken, "Do that"),
    )
    stream = io.StringIO()
    show([fine, slow, gone, dead], stream)
    lines = [line.strip() for line in stream.getvalue().splitlines() if line.strip()]
    assert lines[0] == "To be mended"
    assert [line.split()[0] for line in lines[1:5]] == ["broken", "->", "warning", "->"]
    assert stream.getvalue().count("Do this") == stream.getvalue().count("pip install x") == 1
    assert lines[-1] == "Photos can't be classified here: 1 broken, 1 warning."
    assert summary([fine, gone]) == "Photos can be classified here; no warnings."
    assert broken([fine, dead])
    assert not broken([fine, slow, gone])


def test_it_is_shown_in_narrow_terminals(facts: list[Fact], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    show(facts, stream)
    assert max(map(len, stream.getvalue().splitlines())) <= 60


def test_an_altered_default_model_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "model")
    monkeypatch.setattr(predicting, "find_model", lambda _: folder)
    assert not broken(predicting.predicting())
    weights = folder / artifacts.ONNX
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    (fact,) = predicting.predicting()
    assert fact.state == State.broken
    assert artifacts.ONNX in fact.value


def test_a_model_that_gives_no_numbers_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "find_model", lambda _: write_model(tmp_path / "model"))
    monkeypatch.setattr(Classifier, "predict", _no_number)
    assert [fact.name for fact in predicting.predicting() if fact.state == State.broken] == ["a painted photo"]


def _no_number(*_: object) -> None:
    raise SpectraDermError("the model answers with what is no number", "Export it again")


def test_probabilities_that_are_none_are_broken() -> None:
    prediction = spectraderm.load_model(threads=1).predict(predicting.painted())
    classes = len(prediction.probabilities)
    assert predicting.judged(prediction, classes, 0.05).value.endswith("in 50 ms")
    assert predicting.judged(prediction, classes + 1, 0.05).state == State.broken
    halved = {label: value / 2 for label, value in prediction.probabilities.items()}
    assert predicting.judged(replace(prediction, probabilities=halved), classes, 0.05).state == State.broken


def test_what_was_found_fastest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    folder = write_model(tmp_path / "model")
    monkeypatch.setattr(predicting, "find_model", lambda _: folder)
    assert "what is usual" in named(list(predicting.predicting()), "threads").value
    assert remember((folder / artifacts.ONNX).read_bytes(), Choice("onnxruntime", 3, 5, 1))
    told = named(list(predicting.predicting()), "threads").value
    assert told.startswith("3 for a photo; with more than 32 photos 5 at once")
    assert "found fastest" in told


def test_a_runtime_that_is_none_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRADERM_RUNTIME", "abacus")
    wrong = [fact for fact in predicting.predicting() if fact.state == State.broken]
    assert len(wrong) == 1
    assert "abacus" in wrong[0].value
    assert "onnxruntime" in wrong[0].remedy


def test_what_breaks_is_a_finding_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[Fact]:
        raise ImportError("no libgomp")

    monkeypatch.setattr(examine, "_predicting", fails)
    monkeypatch.setattr(examine, "_room", fails)
    found = examine.examine(offline=True)
    assert [(fact.theme, fact.state) for fact in found if fact.name == "error"] == [
        ("Predictions", State.broken),
        ("Memory and disk", State.warning),
    ]
    assert {"Packages", "Processor", "Environment"} <= {fact.theme for fact in found}


def test_a_graphics_card_is_told_by_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(script: str) -> tuple[list[str], str]:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        graphics.nvidia.cache_clear()
        return graphics.nvidia()

    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert driver("echo 'NVIDIA H100, 81559 MiB, 570.1'") == (["NVIDIA H100, 81559 MiB, 570.1"], "")
    assert driver("echo 'no devices were found'; exit 6") == ([], "nvidia-smi fails: no devices were found")
    graphics.nvidia.cache_clear()


def test_a_card_that_stays_idle_is_told() -> None:
    idle = graphics.training(True, "2.13.0+cpu")
    assert idle.state == State.warning
    assert graphics.training(True, "2.13.0 cuda 13.0").state == State.ok
    assert graphics.predictions(True, []).remedy.endswith("predictions may be faster")
    assert "cuda" in graphics.predictions(True, ["cuda"]).value
