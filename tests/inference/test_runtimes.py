"""The runtimes behind `Engine`: alike in what they answer and refuse, and what happens where one is missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from handmade import graph
from hostile_graphs import GRAPHS
from onnx import ModelProto, helper, numpy_helper

from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError
from spectraderm.inference import remembering, with_onnxruntime, with_openvino
from spectraderm.inference import runtimes as choices
from spectraderm.inference.engine import Engine, Pixels
from spectraderm.inference.runtimes import Choice

HAS_OPENVINO = pytest.mark.skipif(not with_openvino.installed(), reason="the extra openvino is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(remembering.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(choices.VARIABLE, raising=False)
    return tmp_path / "cache"


def some(count: int = 1, size: int = 56) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def deeper(model: ModelProto) -> None:
    """Logits of a second layer whose weights cancel: wrong by a few hundredths wherever floats have 16 bits."""
    random = np.random.default_rng(0)
    up = random.normal(size=(3, 512)).astype(np.float32) * 30
    down = np.linalg.pinv(up).astype(np.float32)
    for name, value in (("up", up), ("down", down)):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    next(node for node in model.graph.node if node.output[0] == "logits").output[0] = "first"
    model.graph.node.append(helper.make_node("MatMul", ["first", "up"], ["wide"]))
    model.graph.node.append(helper.make_node("MatMul", ["wide", "down"], ["logits"]))


@HAS_OPENVINO
@pytest.mark.parametrize("change", [None, deeper])
def test_openvino_answers_as_onnx_runtime_does(change: Callable[[ModelProto], None] | None) -> None:
    onnx = graph(change=change)
    one, other = Engine(onnx, runtime="onnxruntime"), Engine(onnx, runtime="openvino")
    assert (one.runtime, other.runtime) == ("onnxruntime", "openvino")
    assert (one.size, one.classes) == (other.size, other.classes) == (56, 3)
    for count in (1, 3):
        for name in ("logits", "features", "maps"):
            expected, got = getattr(one(some(count)), name), getattr(other(some(count)), name)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, atol=1e-3, rtol=1e-5)
    assert np.ptp(one(some(3)).logits) > 0.01


@HAS_OPENVINO
def test_openvino_is_asked_for_floats_of_32_bits_and_threads_of_ours() -> None:
    settings = with_openvino._settings(3, 2)
    assert (settings["INFERENCE_PRECISION_HINT"], settings["INFERENCE_NUM_THREADS"]) == ("f32", 6)


@HAS_OPENVINO
def test_openvino_answers_many_threads_at_once_as_one_by_one() -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine, photos = Engine(graph(), threads=1, runtime="openvino", streams=2), some(24)
    expected = engine(photos).logits
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda photo: engine(photo[None]).logits[0], photos))
    np.testing.assert_array_equal(np.stack(got), expected)


def alone(code: str, home: Path, *arguments: object) -> str:
    """What a process of its own prints, of a user with another home."""
    start = f"import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), *sys.path]!r}; "
    environment = {"HOME": str(home), "PATH": ""}
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


_ASK_ALL = """
import resource
import numpy as np
from hostile_graphs import GRAPHS
from spectraderm.engine import Engine
from spectraderm.errors import ModelFolderError

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for name, (made, _) in GRAPHS.items():
    try:
        Engine(made(), threads=1, runtime="openvino")(np.full((1, 56, 56, 3), 90, np.uint8))
        print(f"{name}: answers")
    except ModelFolderError as error:
        print(f"{name}: refused, {error}")
"""


@HAS_OPENVINO
def test_openvino_lives_through_every_hostile_graph(tmp_path: Path) -> None:
    said = dict(line.split(": ", 1) for line in alone(_ASK_ALL, tmp_path).splitlines())
    assert said.keys() == GRAPHS.keys()
    for name, (_, refused) in GRAPHS.items():
        if refused in ("another file", "loops", "without loops", "does not turn"):
            assert refused in said[name], said[name]
        elif refused not in ("no number", "belong"):  # those are for the classifier to refuse
            assert said[name].startswith("refused"), (name, said[name])


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=HAS_OPENVINO)])
def test_nothing_is_reported_to_a_runtimes_makers(runtime: str, tmp_path: Path) -> None:
    """Both would, and both leave a number in the user's home that tells them who it is."""
    model, home = tmp_path / "tiny.onnx", tmp_path / "home"
    model.write_bytes(graph())
    home.mkdir()
    code = (
        "from spectraderm.inference.engine import Engine; Engine(open(sys.argv[1], 'rb').read(), runtime=sys.argv[2])"
    )
    assert (
        alone(f"{code}; print([name for name in sys.modules if 'telemetry' in name])", home, model, runtime) == "[]\n"
    )
    assert not list(home.iterdir())


@HAS_OPENVINO
@pytest.mark.parametrize("pixels", [some().astype(np.float32), some(size=28), some()[0], some(0)])
def test_openvino_refuses_other_pixels(pixels: Pixels) -> None:
    with pytest.raises(ModelFolderError, match="fails on a photo"):
        Engine(graph(), runtime="openvino")(pixels)


def test_openvino_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(with_openvino, "installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"spectraderm\[openvino\]"):
        Engine(graph(), runtime="openvino")
    assert Engine(graph()).runtime == "onnxruntime"


@HAS_OPENVINO
def test_what_was_found_is_used_unless_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remembering.remember(graph(), Choice("openvino", 1, 2, 1))
    assert Engine(graph()).runtime == "openvino"
    assert Engine(graph(classes=4)).runtime == "onnxruntime"
    monkeypatch.setenv(choices.VARIABLE, "onnxruntime")
    assert Engine(graph()).runtime == "onnxruntime"
    assert Engine(graph(), runtime="openvino").runtime == "openvino"


def test_what_was_found_and_starts_no_more_is_replaced_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remembering.remember(graph(), Choice("openvino", 1, 2, 1))
    monkeypatch.setattr(with_openvino, "installed", lambda: False)
    engine = Engine(graph())
    assert engine.runtime == "onnxruntime"
    assert "openvino does not start" in engine.note
    assert engine(some()).logits.shape == (1, 3)


@pytest.mark.parametrize("way", ["argument", "variable"])
def test_a_runtime_that_there_is_not_is_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "variable":
        monkeypatch.setenv(choices.VARIABLE, "tensorrt")
    with pytest.raises(SpectraDermError, match=r"tensorrt.*onnxruntime"):
        Engine(graph(), runtime="tensorrt" if way == "argument" else "auto")


@pytest.mark.parametrize("runtime", choices.GPUS)
def test_a_card_that_is_not_there_leaves_it_to_the_processor(runtime: str) -> None:
    if runtime in with_onnxruntime.present():
        pytest.skip("it is there")
    engine = Engine(graph(), runtime=runtime)
    assert (engine.runtime, engine(some()).logits.shape) == ("onnxruntime", (1, 3))
    assert f"{runtime} does not start" in engine.note


class Card:
    """What ONNX Runtime does with a provider that it has: opens on it, goes on without it, or fails."""

    def __init__(self, fault: str) -> None:
        self.fault, self.asked = fault, list[object]()
        self.real = onnxruntime.InferenceSession

    def __call__(self, onnx: bytes, options: object, providers: list[object], **_: int) -> object:
        self.asked.append(providers)
        session = self.real(onnx, options, providers=["CPUExecutionProvider"])
        if len(providers) == 1:
            return session
        if self.fault == "opening":
            raise RuntimeError("CUDA failure 35\nlong trace")
        if self.fault != "missing":
            session.get_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        if self.fault == "running":
            session.run = lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel image"))
        return session


@pytest.mark.parametrize("fault", ["opening", "missing", "running", ""])
def test_a_card_that_fails_leaves_it_to_the_processor(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(fault)
    having = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", card)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: having)
    assert with_onnxruntime.present() == ["cuda"]
    engine = Engine(graph(), runtime="cuda")
    assert engine.runtime == ("onnxruntime" if fault else "cuda")
    assert bool(engine.note) is bool(fault)
    assert "\n" not in engine.note
    assert engine(some()).logits.shape == (1, 3)
    assert "Tensorrt" not in str(card.asked)
    assert "'use_tf32': '0'" in str(card.asked[0])
