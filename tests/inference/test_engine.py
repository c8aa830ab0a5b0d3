from pathlib import Path

import numpy as np
import pytest
from handmade import graph
from hostile_graphs import put_constant_outside, put_outside
from onnx import ModelProto, TensorProto

from spectraderm.core.errors import ModelFolderError
from spectraderm.inference.engine import Engine


def blank(size: int = 56, count: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((count, size, size, 3), 99, np.uint8)


def rename_output(model: ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[1].name = "embedding"


def swap_outputs(model: ModelProto) -> None:
    first, second, *rest = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([second, first, *rest])


def rename_input(model: ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.input[0].name = "image"


def read_floats(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def test_answers_have_their_shapes_for_any_number_of_photos() -> None:
    engine = Engine(graph(classes=3, size=56))
    assert (engine.size, engine.classes) == (56, 3)
    for count in (1, 3):
        answer = engine(blank(count=count))
        assert answer.logits.shape == (count, 3)
        assert answer.features.shape == (count, 3)
        assert answer.maps.shape == (count, 3, 7, 7)
        np.testing.assert_allclose(answer.logits, answer.maps.mean((2, 3)), rtol=1e-4)


def test_photos_do_not_mind_their_company() -> None:
    engine, photos = Engine(graph()), np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8)
    together = engine(photos).logits
    np.testing.assert_allclose(together, np.concatenate([engine(photo[None]).logits for photo in photos]), atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == 3


@pytest.mark.parametrize("data", [b"", b"random bytes", b"\x80\x02}q\x00.", graph()[:-40], b"\x08\x09" * 1000])
def test_what_is_no_onnx_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFolderError, match="my model") as caught:
        Engine(data, "my model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [rename_output, swap_outputs, rename_input, read_floats])
def test_an_onnx_of_another_kind_is_refused(change: object) -> None:
    data = graph(change=change)  # type: ignore[arg-type]
    with pytest.raises(ModelFolderError):
        Engine(data)


@pytest.mark.parametrize("weight", ["weight", "scale", "constant"])
@pytest.mark.parametrize("absolute", [False, True])
def test_files_beside_the_model_are_never_read(
    weight: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(1000))
    file = str(tmp_path / "secret") if absolute else "secret"

    def change(model: ModelProto) -> None:
        if weight == "constant":
            put_constant_outside(model, file)
        else:
            put_outside(model, weight, file)

    with pytest.raises(ModelFolderError, match="another file"):
        Engine(graph(change=change))


def test_threads_change_nothing() -> None:
    one, many = (Engine(graph(), threads=threads)(blank()).logits for threads in (1, 4))
    np.testing.assert_allclose(one, many, rtol=1e-6)
