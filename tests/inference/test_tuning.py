"""What is found fastest is tried once, kept, and never believed where it may be wrong."""

import itertools
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from handmade import graph

from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.inference import remembering, tuning, with_onnxruntime, with_openvino
from spectraderm.inference import runtimes as choices
from spectraderm.inference.engine import Answer, Engine, Pixels
from spectraderm.inference.remembering import remember, remembered
from spectraderm.inference.runtimes import Choice

FOUND = Choice("onnxruntime", 2, 2, 1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(remembering.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(choices.VARIABLE, raising=False)
    monkeypatch.setattr(with_openvino, "installed", lambda: False)
    monkeypatch.setattr(choices, "_MOST_STREAMS", 2)
    monkeypatch.setattr(tuning, "cores", lambda: 2)
    monkeypatch.setattr(choices, "cores", lambda: 2)
    return tmp_path / "cache"


class Paced:
    """Engines of a given pace, on a clock of their own.

    Args:
        pace: the seconds of a photo, by runtime and threads.
        off: how far the features of a runtime lie from those of ONNX Runtime.
    """

    def __init__(self, pace: Mapping[tuple[str, int], float], off: Mapping[str, float]) -> None:
        self.pace, self.off, self.now = pace, off, 0.0
        self.made = list[tuple[str, int]]()

    def perf_counter(self) -> float:
        return self.now

    def engine(self, onnx: bytes, name: str, threads: int, runtime: str, _streams: int) -> SimpleNamespace:
        self.made.append((runtime, threads))
        real, off = Engine(onnx, name, 1, "onnxruntime"), np.float32(self.off.get(runtime, 0))

        class Other(SimpleNamespace):
            def __call__(self, pixels: Pixels) -> Answer:
                answer = real(pixels)
                return replace(answer, features=answer.features + off)

        return Other(size=56, runtime=runtime)

    def attempt(self, candidate: tuning._Candidate, _pixels: Pixels) -> None:
        choice = candidate.choice
        one = self.pace[choice.runtime, choice.stream_threads]
        candidate.one.append(one)
        candidate.many.append(one / choice.streams)
        self.now += one


def pace(monkeypatch: pytest.MonkeyPatch, times: Mapping[tuple[str, int], float], **off: float) -> Paced:
    paced = Paced(times, off)
    monkeypatch.setattr(tuning, "Engine", paced.engine)
    monkeypatch.setattr(tuning, "_try", paced.attempt)
    monkeypatch.setattr(tuning, "time", paced)
    if any(runtime == "openvino" for runtime, _ in times):
        monkeypatch.setattr(with_openvino, "installed", lambda: True)
    return paced


def test_a_real_model_is_tuned_and_what_was_found_is_kept(cache: Path) -> None:
    choice = tuning.tuned(graph())
    assert choice.runtime == "onnxruntime"
    assert (choice.threads, choice.streams * choice.stream_threads) in ((1, 2), (2, 2))
    assert remembered(graph()) == choice
    assert remembered(graph(classes=4)) is None
    assert len(list((cache / "tuning").iterdir())) == 1


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [(20, 11, Choice("onnxruntime", 2, 2, 1)), (20, 19, Choice("onnxruntime", 2, 2, 1)),
     (20, 9, Choice("onnxruntime", 2, 2, 1)), (20, 7, Choice("onnxruntime", 2, 1, 2)),
     (20, 24, Choice("onnxruntime", 2, 2, 1)), (20, 26, Choice("onnxruntime", 1, 2, 1))],
)  # fmt: skip
def test_the_quickest_shape_is_found(one: float, two: float, expected: Choice, monkeypatch: pytest.MonkeyPatch) -> None:
    pace(monkeypatch, {("onnxruntime", 1): one, ("onnxruntime", 2): two})
    assert tuning.tuned(graph()) == expected


@pytest.mark.parametrize(("openvino", "chosen"), [(7, "openvino"), (9, "onnxruntime"), (30, "onnxruntime")])
def test_another_runtime_is_taken_where_it_is_clearly_quicker(
    openvino: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {("onnxruntime", 1): 10, ("onnxruntime", 2): 10, ("openvino", 1): openvino, ("openvino", 2): openvino}
    pace(monkeypatch, times)
    assert tuning.tuned(graph()) == Choice(chosen, 2, 2, 1)


def test_a_runtime_that_answers_otherwise_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {("onnxruntime", 1): 10, ("onnxruntime", 2): 10, ("openvino", 1): 1, ("openvino", 2): 1}
    pace(monkeypatch, times, openvino=10.0)
    assert tuning.tuned(graph()).runtime == "onnxruntime"


def test_a_runtime_that_does_not_start_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(with_onnxruntime, "present", lambda: ["directml"])
    assert tuning.tuned(graph()).runtime == "onnxruntime"
    monkeypatch.undo()


def test_it_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = pace(monkeypatch, {("onnxruntime", 1): 5, ("onnxruntime", 2): 5})
    first = tuning.tuned(graph())
    made = len(paced.made)
    assert tuning.tuned(graph()) == first
    assert made == len(paced.made) == 2


@pytest.mark.parametrize(("seconds", "rounds"), [(0.001, 7), (0.04, 4), (3, 2)])
def test_trying_stops_in_time(seconds: float, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    paced = pace(monkeypatch, {("onnxruntime", 1): seconds, ("onnxruntime", 2): seconds})
    tuning.tuned(graph())
    assert paced.now == pytest.approx(rounds * 2 * seconds)


def test_the_shortest_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour was busy in one turn of the quicker."""
    paced = pace(monkeypatch, {("onnxruntime", 1): 0.02, ("onnxruntime", 2): 0.007})
    turns = itertools.count()

    def disturbed(candidate: tuning._Candidate, pixels: Pixels) -> None:
        paced.attempt(candidate, pixels)
        if next(turns) == 3:
            candidate.one[-1] *= 9
            candidate.many[-1] *= 9

    monkeypatch.setattr(tuning, "_try", disturbed)
    assert tuning.tuned(graph()) == Choice("onnxruntime", 2, 1, 2)


def test_as_many_photos_are_timed_as_run_at_once() -> None:
    seen: list[int] = []
    busy = threading.Barrier(2, timeout=10)

    class Counted(SimpleNamespace):
        def __call__(self, _pixels: Pixels) -> None:
            seen.append(threading.get_ident())
            if len(seen) > 1:
                busy.wait()  # passed by two at once only

    candidate = tuning._Candidate(Counted(), FOUND)  # type: ignore[arg-type]
    tuning._try(candidate, tuning._noise(56))
    assert (len(seen), len(set(seen[1:]))) == (5, 2)
    assert candidate.one[0] > 0
    assert candidate.many[0] > 0


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "cuda"])
def test_a_runtime_that_is_asked_for_is_not_tried(runtime: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choices.VARIABLE, runtime)
    remember(graph(), FOUND)
    monkeypatch.setattr(tuning, "_fastest", lambda *_: pytest.fail("tried"))
    assert tuning.tuned(graph()) == replace(choices.usual(), runtime=runtime)


def test_a_runtime_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choices.VARIABLE, "abacus")
    with pytest.raises(SpectraDermError, match="abacus"):
        tuning.tuned(graph())


def test_where_nothing_can_be_kept_nothing_is_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file, where the folder would be")
    monkeypatch.setattr(tuning, "_fastest", lambda *_: pytest.fail("tried"))
    assert tuning.tuned(graph()) == choices.usual()


def test_what_could_not_be_kept_is_not_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "remember", lambda *_: False)
    pace(monkeypatch, {("onnxruntime", 1): 20, ("onnxruntime", 2): 2})
    assert tuning.tuned(graph()) == choices.usual()


def test_a_user_without_a_home_gets_what_is_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    for name in (remembering.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert (tuning.tuned(graph()), remembered(graph())) == (choices.usual(), None)
    assert remember(graph(), FOUND) is False


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert remembering.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv(remembering.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert remembering.cache_folder() == tmp_path / "xdg/spectraderm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert remembering.cache_folder() == tmp_path / ".cache/spectraderm"


DAMAGES = {
    "empty": b"", "half": b'{"machine": {', "no text": b"\xff\xfe", "a list": b"[]", "a number": b"7", "null": b"null",
    "nothing": b"{}", "deep": b"[" * 9000, "large": b" " * 20_000,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "no runtime": {"runtime": "os.system"}, "runtime of a kind": {"runtime": 3}, "list": {"runtime": ["openvino"]},
    "huge": {"streams": 10**9}, "endless": {"threads": 1e400}, "none": {"streams": 0}, "negative": {"threads": -1},
    "half": {"stream_threads": 1.5}, "words": {"threads": "2"}, "true": {"streams": True}, "null": {"threads": None},
    "more": {"command": "rm"},
}  # fmt: skip


def kept(cache: Path) -> Path:
    assert remember(graph(), FOUND)
    assert remembered(graph()) == FOUND
    (path,) = (cache / "tuning").iterdir()
    return path


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_ignored_and_written_anew(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(cache).write_bytes(DAMAGES[name])
    assert remembered(graph()) is None
    pace(monkeypatch, {("onnxruntime", 1): 2, ("onnxruntime", 2): 2})
    assert tuning.tuned(graph()) == remembered(graph()) != None  # noqa: E711


@pytest.mark.parametrize("name", CHANGES)
def test_what_can_not_be_is_ignored(name: str, cache: Path) -> None:
    path = kept(cache)
    content = json.loads(path.read_text())
    content["choice"] |= CHANGES[name]
    path.write_text(json.dumps(content))
    assert remembered(graph()) is None
    assert Engine(graph()).runtime == "onnxruntime"


def test_a_folder_or_a_link_to_a_device_in_its_place_is_ignored(cache: Path) -> None:
    path = kept(cache)
    path.unlink()
    path.mkdir()
    assert remembered(graph()) is None
    path.rmdir()
    path.symlink_to("/dev/zero")
    assert remembered(graph()) is None


@pytest.mark.parametrize("fact", ["_processor", "_version", "cores"])
def test_another_machine_finds_its_own(fact: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(cache)
    monkeypatch.setattr(f"spectraderm.inference.remembering.{fact}", lambda *_: "7")
    assert remembered(graph()) is None
    path.rename(path.parent / remembering._name(graph(), remembering.machine()))
    assert remembered(graph()) is None  # whatever it is called


def test_the_processor_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = remembering.machine()
    assert facts["cores"] == str(choices.cores())
    assert facts["onnxruntime"]
    assert len(facts["processor"]) > 5
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "model name\t: A\nflags\t: sse avx2 amx_int8\n\nx: y")
    assert remembering._processor().endswith("A avx2 amx_int8")


def test_a_choice_says_what_it_is() -> None:
    assert asdict(FOUND) == {"runtime": "onnxruntime", "threads": 2, "streams": 2, "stream_threads": 1}


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelFolderError, match="my model"):
        tuning.tuned(b"no model", "my model")
