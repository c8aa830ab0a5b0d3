import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from handmade import PREPROCESSING, graph
from hostile_models import GRAPHS, put_constant_outside, put_outside
from onnx import ModelProto, TensorProto, helper, numpy_helper

from spectraderm.core.errors import MissingExtra, ModelFolderError, SpectraDermError
from spectraderm.images.preprocessing import Pixels
from spectraderm.inference.engine import Engine, OnnxRuntime, Runtime

HAS_OPENVINO = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="the extra is not installed")


def some(count: int = 1, size: int = 56) -> Pixels:
    return np.random.default_rng(7).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def rename_output(model: ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[1].name = "embedding"


def swap_outputs(model: ModelProto) -> None:
    first, second, *rest = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([second, first, *rest])


def rename_input(model: ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.input[0].name = "image"


def read_bytes(model: ModelProto) -> None:
    """As the models of earlier versions do, which normalise by themselves."""
    port = model.graph.input[0]
    port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.UINT8, ["n", 56, 56, 3]))
    cast = helper.make_node("Cast", [port.name], ["floats"], to=TensorProto.FLOAT)
    planes = helper.make_node("Transpose", ["floats"], ["photos"], perm=[0, 3, 1, 2])
    model.graph.node[0].input[0] = "photos"
    model.graph.node.insert(0, planes)
    model.graph.node.insert(0, cast)


def read_oblongs(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 63


def test_answers_have_their_shapes_for_any_number_of_photos_and_threads() -> None:
    engine, photos = Engine(graph(classes=3, size=56), PREPROCESSING), some(3)
    assert (engine.size, engine.classes) == (56, 3)
    together = engine(photos)
    assert (together.logits.shape, together.features.shape, together.maps.shape) == ((3, 3), (3, 3), (3, 3, 7, 7))
    np.testing.assert_allclose(together.logits, together.maps.mean((2, 3)), rtol=1e-4)
    alone = np.concatenate([Engine(graph(), PREPROCESSING, threads=4)(photo[None]).logits for photo in photos])
    np.testing.assert_allclose(together.logits, alone, atol=1e-5)
    assert len(np.unique(alone.round(4), axis=0)) == 3


@pytest.mark.parametrize("data", [b"random bytes", graph()[:-40], b"\x08\x09" * 1000])
def test_what_is_no_onnx_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFolderError, match="my model") as caught:
        Engine(data, PREPROCESSING, "my model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [rename_output, swap_outputs, rename_input, read_bytes, read_oblongs])
def test_an_onnx_of_another_kind_is_refused(change: object) -> None:
    data = graph(change=change)  # type: ignore[arg-type]
    with pytest.raises(ModelFolderError, match=r"does not turn pixel_values into|can't be loaded"):
        Engine(data, PREPROCESSING)


@pytest.mark.parametrize("put", [put_outside, put_constant_outside])
@pytest.mark.parametrize("absolute", [False, True])
def test_files_beside_the_model_are_never_read(
    put: Callable[[ModelProto, str], None], absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(1000))
    with pytest.raises(ModelFolderError, match="another file"):
        Engine(
            graph(change=lambda model: put(model, str(tmp_path / "secret") if absolute else "secret")), PREPROCESSING
        )


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
    one, other = Engine(onnx, PREPROCESSING), Engine(onnx, PREPROCESSING, runtime=Runtime("openvino"))
    assert (one.size, one.classes) == (other.size, other.classes) == (56, 3)
    for count in (1, 3):
        for name in ("logits", "features", "maps"):
            expected, got = getattr(one(some(count)), name), getattr(other(some(count)), name)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, atol=1e-3, rtol=1e-5)
    assert np.ptp(one(some(3)).logits) > 0.01


def alone(code: str, home: Path, *arguments: object) -> str:
    """What a process of its own prints, of a user with another home."""
    start = f"import sys; sys.path[:0] = {[str(Path(__file__).parents[1]), *sys.path]!r}; "
    environment = {"HOME": str(home), "PATH": ""}
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


_MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from handmade import PREPROCESSING, graph
from spectraderm.inference.engine import Engine, Runtime

engine = Engine(graph(), PREPROCESSING, threads=1, runtime=Runtime("openvino"), streams=2)
photos = np.random.default_rng(7).integers(0, 256, (24, 56, 56, 3), dtype=np.uint8)
with ThreadPoolExecutor(6) as pool:
    logits = list(pool.map(lambda photo: engine(photo[None]).logits[0], photos))
print((np.stack(logits) == engine(photos).logits).all())
"""


@HAS_OPENVINO
@pytest.mark.timeout(60)
def test_openvino_answers_many_threads_from_the_start_as_it_answers_one(tmp_path: Path) -> None:
    """In a process of its own: threads that were the first to ask OpenVINO for a type's name waited for each other."""
    assert alone(_MANY, tmp_path) == "True\n"


_ASK_ALL = """
import resource
import numpy as np
from handmade import PREPROCESSING
from hostile_models import GRAPHS
from spectraderm.inference.engine import Engine, Runtime
from spectraderm.core.errors import ModelFolderError

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
for name, (made, _) in GRAPHS.items():
    try:
        Engine(made, PREPROCESSING, threads=1, runtime=Runtime("openvino"))(np.full((1, 56, 56, 3), 90, np.uint8))
        print(f"{name}: answers")
    except ModelFolderError as error:
        print(f"{name}: refused, {error}")
"""


@HAS_OPENVINO
def test_openvino_lives_through_every_hostile_graph(tmp_path: Path) -> None:
    said = dict(line.split(": ", 1) for line in alone(_ASK_ALL, tmp_path).splitlines())
    assert said.keys() == GRAPHS.keys()
    for name, (_, refused) in GRAPHS.items():
        if refused in ("another file", "loops", "does not turn"):
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
        "from spectraderm.inference.engine import Engine, Runtime; "
        "from spectraderm.images.preprocessing import Preprocessing; "
        "Engine(open(sys.argv[1], 'rb').read(), Preprocessing(56), runtime=Runtime(sys.argv[2]))"
    )
    assert (
        alone(f"{code}; print([name for name in sys.modules if 'telemetry' in name])", home, model, runtime) == "[]\n"
    )
    assert not list(home.iterdir())


@HAS_OPENVINO
def test_in_16_bits_answers_differ_a_little_or_the_processor_is_named() -> None:
    expected = Engine(graph(), PREPROCESSING)(some(3)).logits
    if "BF16" in importlib.import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        got = Engine(graph(), PREPROCESSING, runtime=Runtime("openvino", "bf16"))(some(3)).logits
        assert 0 < np.abs(got - expected).max() < 0.02 * np.ptp(expected)
    else:
        with pytest.raises(SpectraDermError, match="no units for 16-bit floats"):
            Engine(graph(), PREPROCESSING, runtime=Runtime("openvino", "bf16"))


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=HAS_OPENVINO)])
@pytest.mark.parametrize("pixels", [some().astype(np.float32), some(size=28), some()[0], some(0)])
def test_other_pixels_are_refused(pixels: Pixels, runtime: str) -> None:
    with pytest.raises(ModelFolderError, match=r"fails on a photo|other shapes"):
        Engine(graph(), PREPROCESSING, runtime=Runtime(runtime))(pixels)


def test_openvino_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"\[openvino\]"):
        Engine(graph(), PREPROCESSING, runtime=Runtime("openvino"))
    assert Engine(graph(), PREPROCESSING)(some()).logits.shape == (1, 3)


def test_a_runtime_that_there_is_not_is_refused() -> None:
    with pytest.raises(SpectraDermError, match=r"tensorrt.*onnxruntime"):
        Engine(graph(), PREPROCESSING, runtime=Runtime("tensorrt"))
    with pytest.raises(SpectraDermError, match=r"fp8.*fp32"):
        Engine(graph(), PREPROCESSING, runtime=Runtime("openvino", "fp8"))
    with pytest.raises(SpectraDermError, match=r"onnxruntime computes in fp32 only.*openvino"):
        Engine(graph(), PREPROCESSING, runtime=Runtime("onnxruntime", "bf16"))


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
            raise RuntimeError("CUDA failure 35")
        if self.fault != "missing":
            session.get_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
        if self.fault == "running":
            session.run = lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel image"))
        return session


@pytest.mark.parametrize("fault", ["opening", "missing", "running", ""])
def test_a_card_is_used_and_one_that_fails_leaves_it_to_the_processor(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(fault)
    having = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "InferenceSession", card)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: having)
    assert OnnxRuntime(graph(), 1, cuda=True).device == ("cpu" if fault else "cuda")
    assert Engine(graph(), PREPROCESSING)(some()).logits.shape == (1, 3)
    assert "Tensorrt" not in str(card.asked)
    assert "'use_tf32': '0'" in str(card.asked[0])
