"""What is known of a network before a runtime sees it: its shapes are the runtime's, and bombs don't go off."""

import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from handmade import graph
from hostile_models import BOMBS
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from spectraderm.core.errors import ModelFolderError
from spectraderm.inference import network_bounds, onnx_reader
from spectraderm.inference.network_bounds import check_network

INTS, X = np.int64, "x"
STEPS: list[tuple[str, list[object], dict[str, Any]]] = [
    ("Relu", [X], {}),
    ("Add", [X, np.ones((5, 1, 1, 8), np.float32)], {}),
    ("MatMul", [X, np.ones((4, 8, 6), np.float32)], {}),
    ("Conv", [X, np.ones((6, 2, 3, 2), np.float32)], {"group": 2, "strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ("Conv", [X, np.ones((6, 4, 3, 3), np.float32)], {"strides": [2, 3], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", [X], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]}),
    ("AveragePool", [X], {"kernel_shape": [2, 3], "strides": [3, 2], "ceil_mode": 1}),
    ("GlobalAveragePool", [X], {}),
    ("ReduceMean", [X, np.array([-1, 1], INTS)], {"keepdims": 0}),
    ("ReduceSum", [X], {}),
    ("ReduceMax", [X], {"noop_with_empty_axes": 1}),
    ("Reshape", [X, np.array([0, -1, 4], INTS)], {}),
    ("Flatten", [X], {"axis": 2}),
    ("Transpose", [X], {"perm": [0, 3, 1, 2]}),
    ("Unsqueeze", [X, np.array([-1, 1], INTS)], {}),
    ("Squeeze", [X, np.array([0], INTS)], {}),
    ("Concat", [X, X, np.ones((1, 4, 7, 1), np.float32)], {"axis": -1}),
    ("Slice", [X, np.array([-3, 9], INTS), np.array([99, -99], INTS), np.array([2, -1], INTS), np.array([2, -2], INTS)],
     {}),
    ("Gather", [X, np.array([[0, 1, 2]], INTS)], {"axis": 2}),
    ("GatherND", [X, np.array([[[0, 1]]], INTS)], {}),
    ("Expand", [X, np.array([3, 1, 1, 1], INTS)], {}),
    ("Tile", [X, np.array([1, 2, 1, 3], INTS)], {}),
    ("Pad", [X, np.array([1, 2, 0, 3], INTS), np.float32(0), np.array([2, -1], INTS)], {}),
    ("Resize", [X, "", "", np.array([1, 4, 9, 30], INTS)], {}),
    ("Resize", [X, "", np.array([1, 1, 2.5, 0.5], np.float32)], {}),
    ("Einsum", [X, np.ones((8, 3), np.float32)], {"equation": "abcd,de->ceab"}),
    ("Gemm", [np.ones((5, 2), np.float32), np.ones((3, 5), np.float32)], {"transA": 1, "transB": 1}),
    ("Range", [INTS(2), INTS(11), INTS(4)], {}),
    ("ConstantOfShape", [np.array([2, 0, 3], INTS)], {}),
    ("Shape", [X], {"start": 1, "end": -1}),
]  # fmt: skip


def only(kind: str, inputs: list[object], settings: dict[str, Any]) -> bytes:
    """A network of one operator on `x`, `float32[1, 4, 7, 8]`."""
    names = [value if isinstance(value, str) else f"c{number}" for number, value in enumerate(inputs)]
    stored = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(names, inputs, strict=True)
        if not isinstance(value, str)
    ]
    ports = [helper.make_tensor_value_info(X, TensorProto.FLOAT, ["n", 4, 7, 8])], [ValueInfoProto(name="y")]
    nodes = [helper.make_node(kind, names, ["y"], **settings)]
    model = helper.make_model(helper.make_graph(nodes, "one", *ports, stored), ir_version=9)
    model.opset_import[0].version = 18
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(("kind", "inputs", "settings"), STEPS, ids=[f"{n} {s[0]}" for n, s in enumerate(STEPS)])
def test_shapes_and_values_are_the_runtimes(
    kind: str, inputs: list[object], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, work_out = list[onnx_reader.Tensor](), network_bounds._made
    monkeypatch.setattr(network_bounds, "_made", lambda *given: made.append(work_out(*given)) or made[-1])  # type: ignore[func-returns-value]
    data = only(kind, inputs, settings)
    check_network(data, "a model")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {X: np.ones((1, 4, 7, 8), np.float32)})
    assert made[0].shape == expected.shape
    assert made[0].values is None or (made[0].values == expected).all()


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_a_runtime_sees_it(name: str) -> None:
    change, refused = BOMBS[name]
    data, start = graph(change=change), time.thread_time()
    with pytest.raises(ModelFolderError, match=refused) as caught:
        check_network(data, "a model")
    assert time.thread_time() - start < 1
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda data: data.replace(b"Conv", b"Loop"), "the operator 'Loop'"),
        (lambda data: data + b"\x3a\x02\x12\x00", "can't be loaded"),
        (lambda data: data + b"\xca\x01\x00", "functions of its own"),
        (lambda data: data + b"\xca\x81\x80\x00\x00", "functions of its own"),
        (lambda data: data + b"\xfa\x7f\x00", "parts that exports don't write"),
        (lambda data: data + b"\x0b\x0c", "can't be loaded"),
        (lambda data: data + b"\x80" * 20, "can't be loaded"),
        (lambda _: b"\x3a" + b"\xff" * 9 + b"\x01", "can't be loaded"),
    ],
)
def test_what_is_written_the_long_way_is_read_all_the_same(change: Callable[[bytes], bytes], refused: str) -> None:
    """Protobuf allows numbers of more bytes than needed, parts in any order, and parts that it joins."""
    data = change(graph())
    with pytest.raises(ModelFolderError, match=refused):
        check_network(data, "a model")


def test_the_model_that_comes_along_passes_at_no_cost() -> None:
    data = Path(str(resources.files("spectraderm") / "default_model/onnx/model.onnx")).read_bytes()
    taken = []
    for _ in range(5):
        start = time.thread_time()  # of this thread alone, however busy the machine is
        check_network(data, "the default")
        taken.append(time.thread_time() - start)
    assert min(taken) < 0.05  # measured: 0.005
