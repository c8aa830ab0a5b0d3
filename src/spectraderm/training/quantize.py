"""A trained run -> what its networks answer in 8-bit integers, with heads and statistics left in floats.

Static post-training quantisation (Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference"): activations unsigned, one scale per layer, found on photos; weights signed, one
scale per channel. In ONNX's QDQ form, which ONNX Runtime and OpenVINO turn into integer kernels.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from spectraderm.core.errors import BackboneError
from spectraderm.core.files import write_array, write_bytes, write_json
from spectraderm.core.progress import Track, no_track
from spectraderm.core.run import CACHE, CONFIG, FEATURES, FINAL, MANIFEST, SPLIT, Run
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.data.manifest import Row
from spectraderm.images.preprocessing import Floats
from spectraderm.inference import model_folder
from spectraderm.inference.engine import INPUT, Engine
from spectraderm.training.backbones import Backbone
from spectraderm.training.checkpoint import write_logits
from spectraderm.training.dataset import Decoded, Integers
from spectraderm.training.network import SkinResNet
from spectraderm.training.onnx_graph import to_onnx
from spectraderm.training.onnx_head import PREFIX
from spectraderm.training.recipe import Recipe
from spectraderm.training.train import restore

PHOTOS = 64
"""How many training photos the ranges of activations are found on."""
_QUANTISED = ["Conv", "Relu", "MaxPool", "Add"]
_BATCH = 16


def quantize(run: Run, backbone: Backbone, out: Run, track: Track = no_track) -> None:
    """Answer all photos of a trained run in 8-bit integers.

    Each fold's network is quantised by itself on its own training photos, whose labels are not used; where the folds
    share a frozen backbone, that is quantised once, on the final fold's training photos. `out` gets `config.json`,
    logits and features of every fold; and the final network, `onnx/model.onnx`.

    Raises:
        RunFolderError: the run is not trained to its end.
        BackboneError: the backbone is not a ResNet.
        DatasetError: a photo vanished or changed since the audit.
    """
    config, rows = run.config, manifest.read(run.path(MANIFEST))
    network, preprocessing = restore(run, backbone)
    if not isinstance(network, SkinResNet):
        raise BackboneError("only ResNets are exported in 8-bit integers", "Leave --int8 out")
    pixels = Decoded(run.photos, rows, preprocessing, run.path(CACHE))
    each_its_own = Recipe.model_validate(config["recipe"]).train_backbone
    folds = splits.read(run.path(SPLIT), rows).folds
    for fold in sorted(folds, key=lambda fold: fold.name != FINAL):
        network, preprocessing = restore(run, backbone, fold.name)
        sides, final = [fold.splits[row.path] for row in rows], fold.name == FINAL
        if final or each_its_own:
            photos = preprocessing.normalised(pixels[_chosen(rows, sides)])
            graph = to_int8(to_onnx(network, preprocessing.size), photos)
            engine, starts = Engine(graph, preprocessing), range(0, len(pixels), _BATCH)
            shown = track(starts, "Answering in 8-bit integers", len(starts))
            features = np.concatenate([engine(pixels[start : start + _BATCH]).features for start in shown])
            write_array(out.path(FEATURES) if final else out.fold(fold.name).features, features.astype(np.float16))
        if final:
            write_bytes(out.path(model_folder.ONNX), graph)
        with torch.inference_mode():
            logits = network.classifier(torch.from_numpy(features)).numpy()
        write_logits(out.fold(fold.name).logits, rows, sides, config["labels"], logits)
    manifest.write(out.path(MANIFEST), rows)
    write_json(out.path(CONFIG), config)


def to_int8(graph: bytes, photos: Floats) -> bytes:
    """An exported network, in floats of 32 bits, in 8-bit integers, down to the maps of its last stages.

    The ranges of activations are found on normalised photos `float32[n, 3, s, s]` like those that it will see. Weights
    take 7 bits, for processors without VNNI add two products of 8 bits in 16 bits, which more would overflow.
    """
    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # no batch norm is left to fold
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_QUANTISED,
            nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(PREFIX)],
        )
        return path.read_bytes()


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """One photo after the other."""

    def __init__(self, photos: Floats) -> None:
        self._photos = iter(photos)

    def get_next(self) -> dict[str, Floats] | None:
        """The next photo, or None."""
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _chosen(rows: Sequence[Row], sides: Sequence[str]) -> Integers:
    """At random `PHOTOS` of the training photos, of different photo groups, `int64[n]`, in order."""
    train = np.flatnonzero(np.array(sides) == "train")
    _, first = np.unique(np.array([row.photo_group for row in rows])[train], return_index=True)
    return np.sort(np.random.default_rng(0).permutation(train[np.sort(first)])[:PHOTOS])
