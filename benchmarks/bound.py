"""What the processor itself can do: multiply-adds a second, of large matrices and by the runtime's own kernels.

    python benchmarks/bound.py [MODEL.onnx ...]

fp32 by NumPy and by ONNX Runtime's `MatMul`, 8-bit (activations unsigned, weights signed) by its `MatMulInteger`; the
best of several shapes and of all times, with all cores. A network's bound is its multiply-adds, counted from the graph,
over that. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

SHAPES = ((1024, 1024, 1024), (3136, 576, 64), (784, 1152, 128), (2048, 2048, 2048), (4096, 1024, 256))
TIMES = 5
Matrix = npt.NDArray[Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--quick", action="store_true", help="one small shape")
    given = parser.parse_args()
    shapes = SHAPES[1:2] if given.quick else SHAPES
    rates = {"fp32": max(fp32(*shape) for shape in shapes), "int8": max(int8(*shape) for shape in shapes)}
    counted = {str(path): multiply_adds(path.read_bytes()) for path in given.models}
    print(json.dumps({"rates": rates, "multiply_adds": counted}))


def fp32(m: int, k: int, n: int) -> float:
    """Multiply-adds a second of `[m, k] @ [k, n]`, the better of two libraries."""
    rng = np.random.default_rng(0)
    a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
    quickest = min(fastest(lambda: np.matmul(a, b)), fastest(runner("MatMul", a, b, TensorProto.FLOAT)))
    return m * k * n / quickest


def int8(m: int, k: int, n: int) -> float:
    """Multiply-adds a second of `uint8[m, k] @ int8[k, n]`; 7-bit weights, so that no instruction saturates."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 255, (m, k), np.uint8), rng.integers(-64, 64, (k, n), np.int8)
    return m * k * n / fastest(runner("MatMulInteger", a, b, TensorProto.INT32))


def runner(operator: str, a: Matrix, b: Matrix, kind: int) -> Callable[[], object]:
    """A graph of one operator, whose weights are known beforehand, as a network's are."""
    node = helper.make_node(operator, ["a", "b"], ["c"])
    inputs = [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)]
    outputs = [helper.make_tensor_value_info("c", kind, (a.shape[0], b.shape[1]))]
    weights = [onnx.numpy_helper.from_array(b, "b")]
    graph = helper.make_graph([node], "one", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a})


def fastest(call: Callable[[], object]) -> float:
    """The least seconds of some calls."""
    call()
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def multiply_adds(model: bytes) -> int:
    """Of a network's convolutions and matrix products, for one photo."""
    graph = onnx.load_from_string(model)
    for port in graph.graph.input:
        port.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(graph, data_prop=True).graph
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return sum(_of(node, shapes) for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul"))


def _shape(value: Any) -> list[int]:  # noqa: ANN401  # onnx has no types
    """Sides that are not known count as 1: they are a batch."""
    return [side.dim_value or 1 for side in value.type.tensor_type.shape.dim]


def _of(node: Any, shapes: dict[str, list[int]]) -> int:  # noqa: ANN401
    weights, out = shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":
        return prod(out) * prod(weights[1:])
    turned = any(one.name == "transB" and one.i for one in node.attribute)
    return prod(out) * weights[-1 if turned else -2]


if __name__ == "__main__":
    main()
