"""The bytes of an ONNX model, anyone's -> its graph, by nothing but their protobuf. Weights stay where they are.

Only fields that exports write may be there. Functions, training information, sparse weights, weights in other files and
graphs inside of nodes, which loop and branch, are refused.
"""

from collections.abc import Iterator, Set
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Wire = int | memoryview
Fields = dict[int, list[Wire]]
Shape = tuple[int, ...]

_MODEL, _GRAPH = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14}), frozenset({1, 2, 5, 10, 11, 12, 13, 14, 16})
_NODE, _SETTING = frozenset({1, 2, 3, 4, 5, 6, 7, 9}), frozenset({1, 2, 3, 4, 5, 7, 8, 13, 20})
_TENSOR = frozenset({1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 14, 16})
_FUNCTIONS, _LOOPS, _OUTSIDE = "functions of its own", "loops or branches", "weights in another file, never opened"
_BARRED = {
    (_MODEL, 20): "training information",
    (_MODEL, 25): _FUNCTIONS,
    (_GRAPH, 15): "sparse weights",
    (_NODE, 8): _FUNCTIONS,
    **dict.fromkeys(((_SETTING, 6), (_SETTING, 11)), _LOOPS),
    (_TENSOR, 13): _OUTSIDE,
}
_OTHER = "parts that exports don't write"
_KINDS = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?"}
"""NumPy's types of those of ONNX whose values may say how large another tensor is."""
MOST_KNOWN = 256
"""Of such values of a tensor."""


class Tensor(NamedTuple):
    """Of a tensor the shape, the values where they are few and known, and whether it is the same for all photos."""

    shape: Shape
    values: npt.NDArray[Any] | None = None
    is_constant: bool = False


class Node(NamedTuple):
    """A step of a graph. An input that is left out has no name."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    settings: dict[str, Any]


def read(onnx: bytes) -> tuple[dict[str, Tensor], list[Node]]:
    """The tensors that a graph begins with, by name, and its steps in their order.

    Raises:
        ValueError: these are no such bytes, or have parts that exports don't write; says which.
    """
    graph = _message(_only(_message(memoryview(onnx), _MODEL), 7), _GRAPH)
    tensors = dict(map(_input, graph.get(11, []))) | dict(map(_weight, graph.get(5, [])))
    return tensors, list(map(_node, graph.get(1, [])))


def count(shape: Shape) -> int:
    """How many numbers a tensor of a shape has."""
    result = 1
    for side in shape:
        result *= side
    return result


def _node(data: Wire) -> Node:
    fields = _message(data, _NODE)
    kind, domain = _text(fields, 4), _text(fields, 7)
    if domain not in ("", "ai.onnx"):
        raise ValueError(f"an operator of a library, {domain[:40]!r}")
    settings = dict(map(_setting, fields.get(5, [])))
    if len(settings) < len(fields.get(5, [])):
        raise ValueError("a setting twice")
    inputs, outputs = ([str(_bytes(name), "utf-8") for name in fields.get(number, [])] for number in (1, 2))
    return Node(kind, inputs, outputs, settings)


def _setting(data: Wire) -> tuple[str, Any]:
    fields = _message(data, _SETTING)
    tensor = _weight(_only(fields, 5))[1] if 5 in fields else None
    values = {1: None, 2: _int(fields, 3), 3: _text(fields, 4), 4: tensor, 6: None, 7: _ints(fields, 8)}
    return _text(fields, 1), values[_int(fields, 20)]  # no shape depends on a float


def _weight(data: Wire) -> tuple[str, Tensor]:
    fields = _message(data, _TENSOR)
    if _int(fields, 14):
        raise ValueError(_OUTSIDE)
    shape, kind = tuple(_ints(fields, 1)), _KINDS.get(_int(fields, 2), "")
    if min(shape, default=0) < 0 or count(shape) > 2 * len(_bytes(data)):  # two of 4 bits share a byte
        raise ValueError("a weight that claims more numbers than there are")
    values = None
    if kind and count(shape) <= MOST_KNOWN:
        if 9 in fields:
            values = np.frombuffer(_only(fields, 9), kind)
        elif kind == "<f4":
            values = np.frombuffer(b"".join(map(_bytes, fields.get(4, []))), kind)
        else:
            values = np.array(_ints(fields, 7 if kind == "<i8" else 5), "<i8").astype(kind)
        values = values.reshape(shape)
    return _text(fields, 8), Tensor(shape, values, is_constant=True)


def _input(data: Wire) -> tuple[str, Tensor]:
    """Name and shape; a side of any length, as the number of photos is, counts as one."""
    fields = _message(data)
    shape = _message(_only(_message(_only(_message(_only(fields, 2)), 1)), 2))
    sides = tuple(_int(_message(side), 1) or 1 for side in shape.get(1, []))
    if min(sides, default=1) < 0:
        raise ValueError("an input of no size")
    return _text(fields, 1), Tensor(sides)


def _message(data: Wire, known: Set[int] | None = None) -> Fields:
    """The values of a message by number of their field, of which only `known` may be there."""
    fields: Fields = {}
    for number, value in _fields(_bytes(data)):
        if known is not None and number not in known:
            raise ValueError(_BARRED.get((frozenset(known), number), _OTHER))
        fields.setdefault(number, []).append(value)
    return fields


def _fields(data: memoryview) -> Iterator[tuple[int, Wire]]:
    at = 0
    while at < len(data):
        key, at = (data[at], at + 1) if data[at] < 128 else _number(data, at)
        if key & 7 == 2:
            size, at = (data[at], at + 1) if data[at] < 128 else _number(data, at)
        elif key & 7 == 0:
            value, at = _number(data, at)
            yield key >> 3, value
            continue
        else:
            size = {1: 8, 5: 4}[key & 7]
        if at + size > len(data):
            raise ValueError("parts that are cut off")
        yield key >> 3, data[at : at + size]
        at += size


def _number(data: memoryview, at: int) -> tuple[int, int]:
    """A number of any length, and where what follows it begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
        shift += 7
    raise ValueError("a number without an end")


def _bytes(value: Wire) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in place of a part")  # noqa: TRY004 - of a file
    return value


def _only(fields: Fields, number: int) -> memoryview:
    """The value of a field that is there once; of several, protobuf would make one."""
    (value,) = fields[number]
    return _bytes(value)


def _text(fields: Fields, number: int) -> str:
    return str(_only(fields, number), "utf-8") if number in fields else ""


def _ints(fields: Fields, number: int) -> list[int]:
    """Numbers with a sign, one by one or packed."""
    numbers: list[int] = []
    for value in fields.get(number, []):
        at, packed = 0, value if isinstance(value, memoryview) else b""
        numbers += [] if isinstance(value, memoryview) else [value]
        while at < len(packed):
            own, at = _number(memoryview(packed), at)
            numbers.append(own)
    return [value - (1 << 64) if value >> 63 else value for value in numbers]


def _int(fields: Fields, number: int) -> int:
    (value,) = _ints(fields, number) or [0]
    return value
