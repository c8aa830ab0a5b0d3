"""ONNX graphs that mean harm: by name, how they are made and what they must be refused for."""

from collections.abc import Callable

import numpy as np
from handmade import graph
from onnx import ModelProto, TensorProto, helper, numpy_helper


def put_outside(model: ModelProto, name: str, file: str) -> None:
    """Have a weight read from a file."""
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": file, "offset": "0", "length": str(size)}.items():
        tensor.external_data.add(key=key, value=value)


def put_constant_outside(model: ModelProto, file: str) -> None:
    """Have a constant, inside of a node, read from a file."""
    put_outside(model, "scale", file)
    tensor = next(entry for entry in model.graph.initializer if entry.name == "scale")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["scale"], value=tensor))
    model.graph.initializer.remove(tensor)


def _changed(change: Callable[[ModelProto], None]) -> Callable[[], bytes]:
    return lambda: graph(change=change)


def _outside(file: str) -> Callable[[], bytes]:
    return _changed(lambda model: put_outside(model, "weight", file))


def _node(model: ModelProto, name: str) -> object:
    return next(node for node in model.graph.node if node.output[0] == name)


def _instead(model: ModelProto, output: str, *nodes: object) -> None:
    """Have `output` made by other nodes, from what made it until now, which is called `made`."""
    node = next(node for node in model.graph.node if node.output[0] == output)
    node.output[0] = "made"
    model.graph.node.extend(nodes)


def _number(model: ModelProto, name: str, value: object) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def _loops(model: ModelProto) -> None:
    """Logits that are ready after 2^62 rounds."""
    names = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("i", TensorProto.INT64), ("on", TensorProto.BOOL))
    ]
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n", 3])
    done = [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", 3]),
    ]
    nodes = [helper.make_node("Identity", ["on"], ["again"]), helper.make_node("Add", ["state", "state"], ["next"])]
    body = helper.make_graph(nodes, "body", [*names, state], done)
    rounds, always = _number(model, "rounds", np.int64(2**62)), _number(model, "always", np.bool_(True))
    _instead(model, "logits", helper.make_node("Loop", [rounds, always, "made"], ["logits"], body=body))


def _grows(count: int) -> Callable[[ModelProto], None]:
    """Features that are the mean of a tensor of so many numbers."""

    def change(model: ModelProto) -> None:
        shape = _number(model, "shape", np.array([count], np.int64))
        _instead(
            model,
            "features",
            helper.make_node("ReduceMean", ["made"], ["mean"], keepdims=0),
            helper.make_node("Expand", ["mean", shape], ["many"]),
            helper.make_node("ReduceMean", ["many"], ["one"], keepdims=0),
            helper.make_node("Add", ["made", "one"], ["features"]),
        )

    return change


def _custom(model: ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    _instead(model, "logits", helper.make_node("Run", ["made"], ["logits"], domain="evil"))


def _weights(value: float) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        tensor = next(entry for entry in model.graph.initializer if entry.name == "weight")
        tensor.CopyFrom(numpy_helper.from_array(np.full((3, 3, 1, 1), value, np.float32), "weight"))

    return change


def _claims(model: ModelProto) -> None:
    next(entry for entry in model.graph.initializer if entry.name == "weight").dims[0] = 2**40


def _other_shape(output: str, shape: list[int]) -> Callable[[ModelProto], None]:
    """An output of another shape than the graph says, of zeros."""

    def change(model: ModelProto) -> None:
        name = _number(model, "shape", np.array(shape, np.int64))
        _instead(model, output, helper.make_node("ConstantOfShape", [name], [output]))

    return change


def _any_size(model: ModelProto) -> None:
    """A side that the graph does not say."""
    model.graph.input[0].type.tensor_type.shape.dim[1].Clear()


GRAPHS: dict[str, tuple[Callable[[], bytes], str]] = {
    "weights in ../secret": (_outside("../secret"), "another file"),
    "weights in /etc/hostname": (_outside("/etc/hostname"), "another file"),
    "weights in a file of the folder": (_outside("config.json"), "another file"),
    "weights in memory": (_outside("*/_ORT_MEM_ADDR_/*"), "another file"),
    "a constant in /etc/hostname": (
        _changed(lambda model: put_constant_outside(model, "/etc/hostname")),
        "another file",
    ),
    "a loop of 2^62 rounds": (_changed(_loops), "loops"),
    "a model in ONNX Runtime's format": (lambda: b"\0\0\0\0ORTM" + bytes(999), "without loops"),
    "an operator of a library": (_changed(_custom), "can't be loaded"),
    "a weight of 2^40 rows": (_changed(_claims), "can't be loaded"),
    "a tensor of 2^42 numbers": (_changed(_grows(2**42)), "fails"),
    "weights that are NaN": (_changed(_weights(float("nan"))), "no number"),
    "weights that are infinite": (_changed(_weights(float("inf"))), "no number"),
    "weights of 1e38": (_changed(_weights(1e38)), "no number"),
    "logits of five classes": (_changed(_other_shape("logits", [1, 5])), "belong"),
    "logits of no photo": (_changed(_other_shape("logits", [0, 3])), "shapes|can't be loaded|fails"),
    "maps of no place": (_changed(_other_shape("maps", [1, 3, 0, 0])), "shapes|can't be loaded|fails"),
    "maps of 3 megapixels": (_changed(_other_shape("maps", [1, 3, 1000, 1000])), "shapes|can't be loaded|fails"),
    "photos of any size": (_changed(_any_size), "does not turn"),
    "features of no channel": (_changed(_other_shape("features", [1, 0])), "shapes|can't be loaded|fails"),
    "an output whose name is no text": (
        lambda: graph().replace(b"\x08features", b"\x08featur\xee\xee"),
        "can't be loaded",
    ),
    "a pickle for a network": (lambda: b"\x80\x02}q\x00.", "can't be loaded"),
    "no bytes": (lambda: b"", "can't be loaded"),
}
