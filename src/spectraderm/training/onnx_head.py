"""The end of an exported network, written node by node without torch, so that another head can take its place.

A graph's tensors `features` (`float[n, width]`) and `feature_maps` (`float[n, channels, h, w]`, of the whole photo) are
the seam. What comes before it is the backbone's and stays; what comes after it, a linear layer and the class activation
maps that belong to it, is thrown away and written anew.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from spectraderm.core.errors import ModelFolderError

FEATURES, FEATURE_MAPS, LOGITS, MAPS = "features", "feature_maps", "logits", "maps"
SEAM = (FEATURES, FEATURE_MAPS)
PREFIX = "head."
"""Of the names of all that is written here; weights of such names are never stored in 16 bits."""
_LAYOUT = "spectraderm.feature_layout"
_LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class FeatureLayout:
    """Which features are what: columns from the first number up to the second; all others have no place in a photo.

    Attributes:
        means: over all places, of the feature maps' channels in order.
        deviations: standard deviations over all places, of the first of them; None where there are none.
    """

    means: tuple[int, int]
    deviations: tuple[int, int] | None = None


def put_head(
    graph: bytes,
    weight: npt.NDArray[np.floating],
    bias: npt.NDArray[np.floating],
    layout: FeatureLayout | None = None,
) -> bytes:
    """Put a linear head on an exported network, in place of the one that it has, if any.

    Args:
        graph: has the tensors `features` and `feature_maps`.
        weight: `float[classes, width]`; stored in 32 bits.
        bias: `float[classes]`.
        layout: of the features; by default what the graph itself says.

    Returns:
        A graph with the outputs `logits`, `features` and `maps`. These say how much each place counts for each class,
        `float[n, classes, h, w]`: their mean over all places is the logits less the bias and less what features without
        a place add (see `SkinResNet.evidence`).

    Raises:
        ModelFolderError: the graph has no such tensors, or says nothing of its features.
    """
    model = onnx.load_from_string(graph)
    outputs = _cut(model)
    layout = layout or feature_layout(model)
    nodes = _nodes(layout)
    numbers = {"weight": weight, "bias": bias, "floor": [_LEAST_VARIANCE], "inner": [2, 3], "columns": [1]}
    kinds = {"weight": np.float32, "bias": np.float32, "floor": np.float32}
    for name, columns in _spans(layout).items():
        numbers |= {f"{name}.from": columns[:1], f"{name}.to": columns[1:]}
    if layout.deviations:
        numbers |= {"first": [0], "varying": [layout.deviations[1] - layout.deviations[0]]}
    needed = {name for node in nodes for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, kinds.get(name, np.int64)), PREFIX + name)
        for name, value in numbers.items()
        if PREFIX + name in needed
    )
    model.graph.node.extend(nodes)
    photos, _, height, width = outputs[FEATURE_MAPS]
    shapes = {LOGITS: [photos, len(weight)], FEATURES: [photos, weight.shape[1]]}
    shapes[MAPS] = [photos, len(weight), height, width]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()
    )
    _note(model, {_LAYOUT: json.dumps(asdict(layout))})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def described(graph: bytes, about: Mapping[str, str]) -> bytes:
    """The same graph, which says who wrote it and what else `about` says; what it said before stays."""
    model = onnx.load_from_string(graph)
    model.producer_name, model.producer_version = "spectraderm", metadata.version("spectraderm")
    _note(model, about)
    data: bytes = model.SerializeToString()
    return data


def feature_layout(model: onnx.ModelProto) -> FeatureLayout:
    """What a graph says of its features. Raises `ModelFolderError` where it says nothing."""
    said = {entry.key: entry.value for entry in model.metadata_props}.get(_LAYOUT, "{}")
    try:
        spans = {name: span and (int(span[0]), int(span[1])) for name, span in json.loads(said).items()}
        return FeatureLayout(**spans)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _foreign() from error


def _note(model: onnx.ModelProto, about: Mapping[str, str]) -> None:
    """Add to what a graph says of itself."""
    helper.set_model_props(model, {entry.key: entry.value for entry in model.metadata_props} | dict(about))


def _cut(model: onnx.ModelProto) -> dict[str, list[Any]]:
    """Take away all that `features` and `feature_maps` don't need, outputs among it; the shapes of the two."""
    graph = model.graph
    infos = {info.name: info for info in (*graph.value_info, *graph.output)}
    if not infos.keys() >= set(SEAM):
        raise _foreign()
    needed, kept = set(SEAM), []
    for node in reversed(graph.node):  # a node stands after all that it needs
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept.reverse()
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    seam = [infos[name] for name in SEAM]
    shapes = {
        info.name: [side.dim_value or side.dim_param for side in info.type.tensor_type.shape.dim] for info in seam
    }
    described = [info for info in graph.value_info if info.name in needed - {FEATURES}]
    described += [infos[FEATURE_MAPS]] if FEATURE_MAPS not in {info.name for info in described} else []
    described = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in described]
    for field, values in (("node", kept), ("initializer", weights), ("value_info", described), ("output", [])):
        own = [type(value).FromString(value.SerializeToString()) for value in values]
        graph.ClearField(field)
        getattr(graph, field).extend(own)
    if [len(shapes[name]) for name in SEAM] != [2, 4]:
        raise _foreign()
    return shapes


def _spans(layout: FeatureLayout) -> dict[str, tuple[int, int]]:
    """The spans of columns that have a place."""
    return {"means": layout.means} | ({"deviations": layout.deviations} if layout.deviations else {})


def _nodes(layout: FeatureLayout) -> list[onnx.NodeProto]:
    """The head's nodes. A place's share of a deviation is its squared distance from the mean, by the deviation."""
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], output: str, **settings: Any) -> str:  # noqa: ANN401
        nodes.append(helper.make_node(kind, inputs, [output], f"{PREFIX}{kind}.{len(nodes)}", **settings))
        return output

    weight, columns = f"{PREFIX}weight", f"{PREFIX}columns"
    node("Gemm", [FEATURES, weight, f"{PREFIX}bias"], LOGITS, transB=1)
    own = [
        node("Slice", [weight, f"{PREFIX}{name}.from", f"{PREFIX}{name}.to", columns], f"{PREFIX}of_{name}")
        for name in _spans(layout)
    ]
    places = [FEATURE_MAPS]
    if layout.deviations:
        maps = FEATURE_MAPS
        if layout.deviations[1] - layout.deviations[0] < layout.means[1] - layout.means[0]:
            spans = [f"{PREFIX}first", f"{PREFIX}varying", columns]
            maps = node("Slice", [FEATURE_MAPS, *spans], f"{PREFIX}varying_maps")
        mean = node("GlobalAveragePool", [maps], f"{PREFIX}mean")
        apart = node("Sub", [maps, mean], f"{PREFIX}apart")
        squared = node("Mul", [apart, apart], f"{PREFIX}squared")
        variance = node("GlobalAveragePool", [squared], f"{PREFIX}variance")
        deviation = node("Sqrt", [node("Max", [variance, f"{PREFIX}floor"], f"{PREFIX}bounded")], f"{PREFIX}deviation")
        places.append(node("Div", [squared, deviation], f"{PREFIX}share"))
    kernel = node("Concat", own, f"{PREFIX}of_places", axis=1)
    kernel = node("Unsqueeze", [kernel, f"{PREFIX}inner"], f"{PREFIX}kernel")
    node("Conv", [node("Concat", places, f"{PREFIX}places", axis=1), kernel], MAPS)
    return nodes


def _foreign() -> ModelFolderError:
    return ModelFolderError(
        "this network's head can't be replaced: it is not linear, or an earlier version exported it",
        "Export it again with this version, by a recipe with a linear head",
    )
