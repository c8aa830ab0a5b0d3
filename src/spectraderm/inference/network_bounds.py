"""A network, anyone's -> refused, or known to take no more than its size accounts for, before a runtime sees it.

A few bytes can ask for a tensor of any size, and a runtime computes all that depends on no photo while it loads. So the
shape of every tensor is worked out here, for one photo. Operators that exports don't write are refused.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core.errors import ModelFolderError
from spectraderm.inference.onnx_reader import MOST_KNOWN, Node, Shape, Tensor, count, read

MAX_NODES, MAX_SIZE, MAX_HELD = 4_000, 2**26, 2**28
"""Steps of a graph, numbers of any tensor in it, and of all tensors that are still needed at a step."""
LEAST_WORK, WORK_PER_BYTE = 1_000_000_000, 5_000
"""Products, and eight for each number that is read or written: what any network may take for a photo, and what each of
its bytes may add. A ResNet-50 of 16 bits takes 100 a byte."""
LEAST_CONSTANTS, CONSTANTS_PER_BYTE = 2**22, 4
"""The same of numbers that depend on no photo: they stay in memory."""

Given = Sequence[Tensor]
Settings = dict[str, Any]

_LEFT_OUT, _PART, _INT64 = Tensor((), None, is_constant=True), "part", 7


def check_network(onnx: bytes, name: str) -> None:
    """Raise `ModelFolderError` for what is not ONNX, or has or takes what no export does."""
    try:
        work, constants = LEAST_WORK + WORK_PER_BYTE * len(onnx), LEAST_CONSTANTS + CONSTANTS_PER_BYTE * len(onnx)
        tensors, nodes = read(onnx)
        if len(nodes) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} steps")
        last = {name: node for node in nodes for name in node.inputs}
        sizes, held = dict[str, int](), 0
        for node in nodes:
            given = [tensors[each] if each else _LEFT_OUT for each in node.inputs]
            for part, output in enumerate(node.outputs):
                made = _made(node, given, part)
                sizes[output] = size = count(made.shape)
                work, held = work - _work(node, given, size), held + size
                constants -= size if made.is_constant else 0
                if min(work, constants, MAX_HELD - held) < 0:
                    raise ValueError(f"more work than its size accounts for, at {output[:80]!r}")
                if tensors.setdefault(output, made) is not made:
                    raise ValueError("a tensor twice")
            held -= sum(sizes.pop(each, 0) for each in node.inputs if last[each] is node)
    except Exception as error:  # what strangers wrote may be of any kind
        why = str(error) if type(error) is ValueError else "damaged parts"
        raise ModelFolderError(f"{name} can't be loaded: it has {why}", "Use a model that `export` wrote") from error


def _made(node: Node, given: Given, part: int) -> Tensor:
    """What a step makes; of several tensors, one."""
    if node.kind not in _RULES:
        raise ValueError(f"the operator {node.kind[:40]!r}, which exports don't write")
    if len(node.outputs) > 1 and node.kind != "Split":
        raise ValueError(f"a {node.kind} of several results")
    try:
        shape = _RULES[node.kind](given, node.settings | {_PART: part})
    except Exception as error:  # settings and inputs of any kind
        raise ValueError(f"a {node.kind} of unknown size, {node.outputs[0][:80]!r}") from error
    if min(shape, default=0) < 0 or count(shape) > MAX_SIZE:
        raise ValueError(f"a tensor of more than {MAX_SIZE // 10**6} million numbers, {node.outputs[0][:80]!r}")
    return Tensor(shape, _values(node, given, shape), all(tensor.is_constant for tensor in given))


def _work(node: Node, given: Given, size: int) -> int:
    products = count(given[1].shape[1:]) if node.kind == "Conv" else 0
    if node.kind in ("MatMul", "Gemm"):
        products = max(given[0].shape[-2 if node.settings.get("transA") else -1 :])
    elif node.kind in ("MaxPool", "AveragePool"):
        products = count(node.settings["kernel_shape"])
    elif node.kind == "Einsum":
        return MAX_SIZE
    return size * (8 + products) + 8 * max(count(tensor.shape) for tensor in (*given, _LEFT_OUT))


def _values(node: Node, given: Given, shape: Shape) -> npt.NDArray[Any] | None:
    """The values that a step makes of known ones, where another may take them for sides."""
    if node.kind == "Shape":
        return np.array(given[0].shape[slice(node.settings.get("start"), node.settings.get("end"))], np.int64)
    known = [tensor.values for tensor in given if tensor.values is not None]
    if node.kind not in _COMPUTED or len(known) < len(given) or count(shape) > MOST_KNOWN:
        return None
    if node.kind == "Cast" and (node.settings["to"] != _INT64 or known[0].dtype.kind == "f"):
        return None  # others may be cut off
    return np.asarray(_COMPUTED[node.kind](known, node.settings)).reshape(shape)


_COMPUTED: dict[str, Callable[[list[npt.NDArray[Any]], Settings], Any]] = {
    **dict.fromkeys(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"), lambda known, _: known[0]),
    "Add": lambda known, _: np.add(*known),
    "Sub": lambda known, _: np.subtract(*known),
    "Mul": lambda known, _: np.multiply(*known),
    "Equal": lambda known, _: np.equal(*known),
    "Where": lambda known, _: np.where(*known),
    "Concat": lambda known, settings: np.concatenate(known, settings["axis"]),
    "Gather": lambda known, settings: np.take(known[0], known[1], settings.get("axis", 0)),
    "Expand": lambda known, _: np.broadcast_to(known[0], np.broadcast_shapes(known[0].shape, tuple(known[1]))),
    "Constant": lambda _, settings: settings["value"].values,
}


def _ints(given: Given, number: int) -> list[int]:
    """The values of an input, which must be known; empty where it is left out."""
    if number >= len(given) or given[number] is _LEFT_OUT:
        return []
    values = given[number].values
    if values is None:
        raise ValueError("not known")
    return [int(value) for value in values.reshape(-1)]


def _axes(given: Given, settings: Settings) -> list[int]:
    """The axes that an operator is about: a setting of older versions, an input of newer ones."""
    return [range(len(given[0].shape))[axis] for axis in _ints(given, 1) or settings.get("axes", [])]


def _matmul(given: Given, _: Settings) -> Shape:
    (*several, rows, inner), (*others, same, columns) = given[0].shape, given[1].shape
    return _if(inner == same, (*np.broadcast_shapes(tuple(several), tuple(others)), rows, columns))


def _gemm(given: Given, settings: Settings) -> Shape:
    (rows, inner), (same, columns) = (
        tensor.shape[:: -1 if settings.get(name) else 1]
        for tensor, name in zip(given, ("transA", "transB"), strict=False)
    )
    return _if(inner == same, (rows, columns))


def _einsum(given: Given, settings: Settings) -> Shape:
    terms, result = settings["equation"].replace(" ", "").split("->")
    sides: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), given, strict=True):
        for letter, side in zip(term, tensor.shape, strict=True):
            _if(sides.setdefault(letter, side) == side, ())
    return _if(count(tuple(sides.values())) <= MAX_SIZE, tuple(sides[letter] for letter in result))


def _if(holds: bool, shape: Shape) -> Shape:
    if not holds:
        raise ValueError("no such shape")
    return shape


def _sliding(given: Given, settings: Settings) -> Shape:
    """Of a kernel that goes over all places."""
    photos, channels, *sides = given[0].shape
    rank, kernel, up = len(sides), settings["kernel_shape"], bool(settings.get("ceil_mode"))
    steps, apart = settings.get("strides", [1] * rank), settings.get("dilations", [1] * rank)
    pads = settings.get("pads", [0] * 2 * rank)
    if settings.get("auto_pad", "").startswith("SAME"):  # one place for each step, rounded up
        kernel, apart, pads, up = [1] * rank, [1] * rank, [0] * 2 * rank, True
    made = []
    for side, before, after, own, step, gap in zip(sides, pads[:rank], pads[rank:], kernel, steps, apart, strict=True):
        free = side + before + after - gap * (own - 1) - 1
        places = (-(-free // step) if up else free // step) + 1
        made.append(places - (up and (places - 1) * step >= side + before))
    return _if(min((*pads, *made)) >= 0 and min((*steps, *apart, *kernel)) > 0, (photos, channels, *made))


def _conv(given: Given, settings: Settings) -> Shape:
    channels, _, *kernel = given[1].shape
    photos, _, *sides = _sliding(given[:2], {**settings, "kernel_shape": kernel})
    return (photos, channels, *sides)


def _reduce(given: Given, settings: Settings) -> Shape:
    shape, axes, kept = given[0].shape, _axes(given, settings), settings.get("keepdims", 1)
    if not axes and not settings.get("noop_with_empty_axes"):
        axes = [*range(len(shape))]
    return tuple(1 if axis in axes else side for axis, side in enumerate(shape) if kept or axis not in axes)


def _reshape(given: Given, settings: Settings) -> Shape:
    shape, size, whole = given[0].shape, count(given[0].shape), settings.get("allowzero", 0)
    sides = [side if side or whole else shape[axis] for axis, side in enumerate(_ints(given, 1))]
    made = tuple(size // -count(tuple(sides)) if side == -1 else side for side in sides)
    return _if(count(made) == size, made)


def _flatten(given: Given, settings: Settings) -> Shape:
    shape, axis = given[0].shape, settings.get("axis", 1)
    return count(shape[:axis]), count(shape[axis:])


def _transpose(given: Given, settings: Settings) -> Shape:
    shape = given[0].shape
    order = settings.get("perm", [*range(len(shape))][::-1])
    return _if(sorted(order) == [*range(len(shape))], tuple(shape[axis] for axis in order))


def _squeeze(given: Given, settings: Settings) -> Shape:
    shape, axes = given[0].shape, _axes(given, settings)
    made = tuple(side for axis, side in enumerate(shape) if (axis not in axes if axes else side != 1))
    return _if(count(made) == count(shape), made)


def _unsqueeze(given: Given, settings: Settings) -> Shape:
    sides, axes = list(given[0].shape), _ints(given, 1) or settings["axes"]
    for axis in sorted(range(len(sides) + len(axes))[axis] for axis in axes):
        sides.insert(axis, 1)
    return tuple(sides)


def _concat(given: Given, settings: Settings) -> Shape:
    axis = range(len(given[0].shape))[settings["axis"]]
    others = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in given}
    sides = [*given[0].shape[:axis], sum(tensor.shape[axis] for tensor in given), *given[0].shape[axis + 1 :]]
    return _if(len(others) == 1, tuple(sides))


def _split(given: Given, settings: Settings) -> Shape:
    sides, axis, parts, part = list(given[0].shape), settings.get("axis", 0), _ints(given, 1), settings[_PART]
    if not parts:
        each = -(-sides[axis] // settings["num_outputs"])
        parts = [min(each, sides[axis] - start) for start in range(0, sides[axis], each)]
    whole, sides[axis] = sides[axis], parts[part]
    return _if(min(parts) >= 0 and sum(parts) == whole, tuple(sides))


def _slice(given: Given, _: Settings) -> Shape:
    sides, starts = list(given[0].shape), _ints(given, 1)
    axes, steps = _ints(given, 3) or [*range(len(starts))], _ints(given, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, _ints(given, 2), axes, steps, strict=True):
        sides[axis] = len(range(sides[axis])[start:end:step])
    return tuple(sides)


def _gather(given: Given, settings: Settings) -> Shape:
    shape = given[0].shape
    axis = range(len(shape))[settings.get("axis", 0)]
    return (*shape[:axis], *given[1].shape, *shape[axis + 1 :])


def _gather_nd(given: Given, settings: Settings) -> Shape:
    *places, depth = given[1].shape
    return (*places, *given[0].shape[settings.get("batch_dims", 0) + depth :])


def _pad(given: Given, _: Settings) -> Shape:
    sides, pads = list(given[0].shape), _ints(given, 1)
    axes = _ints(given, 3) or [*range(len(sides))]
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        sides[axis] += before + after
    return tuple(sides)


def _resize(given: Given, settings: Settings) -> Shape:
    shape = given[0].shape
    if not len(given) > 3:
        scales: Any = given[2].values
        return tuple(int(side * float(scale)) for side, scale in zip(shape, scales, strict=True))
    policy = settings.get("keep_aspect_ratio_policy", "stretch")
    return _if(policy == "stretch" and "axes" not in settings, tuple(_ints(given, 3)))


_KEEPING = (
    "Abs BatchNormalization Cast Ceil Celu Clip Cos DequantizeLinear Dropout Elu Erf Exp Floor Gelu GroupNormalization "
    "HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Log LogSoftmax LpNormalization "
    "Mish Neg Not QuantizeLinear Reciprocal Relu Round ScatterND Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt "
    "Tanh Trilu"
)
_JOINING = "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Min Mod Mul Or PRelu Pow Sub Sum Where"
_REDUCING = "ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare"
_RULES: dict[str, Callable[[Given, Settings], Shape]] = {
    **dict.fromkeys(_KEEPING.split(), lambda given, _: given[0].shape),
    **dict.fromkeys(_JOINING.split(), lambda given, _: np.broadcast_shapes(*(tensor.shape for tensor in given))),
    **dict.fromkeys(_REDUCING.split(), _reduce),
    **dict.fromkeys(("AveragePool", "MaxPool"), _sliding),
    "Concat": _concat,
    "Constant": lambda _, settings: settings["value"].shape,
    "ConstantOfShape": lambda given, _: tuple(_ints(given, 0)),
    "Conv": _conv,
    "Einsum": _einsum,
    "Expand": lambda given, _: np.broadcast_shapes(given[0].shape, tuple(_ints(given, 1))),
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, _: (*given[0].shape[:2], *(1 for _ in given[0].shape[2:])),
    "MatMul": _matmul,
    "Pad": _pad,
    "Range": lambda given, _: (len(range(*(_ints(given, number)[0] for number in range(3)))),),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda given, settings: (len(given[0].shape[settings.get("start") : settings.get("end")]),),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda given, _: tuple(side * times for side, times in zip(given[0].shape, _ints(given, 1), strict=True)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""By operator, the shape of what it makes."""
