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

from spectraderm.core import artifacts
from spectraderm.core.progress import Track, no_track
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.data.manifest import Row
from spectraderm.images.preprocessing import Pixels
from spectraderm.inference import model_folder
from spectraderm.inference.engine import INPUT, Engine
from spectraderm.training import outputs
from spectraderm.training.dataset import Decoded, Floats
from spectraderm.training.export import to_onnx
from spectraderm.training.network import Backbone
from spectraderm.training.recipe import Recipe
from spectraderm.training.train import read_config, restore

PHOTOS = 64
"""How many training photos the ranges of activations are found on."""
_QUANTISED = ["Conv", "Relu", "MaxPool", "Add"]
_BATCH = 16


def quantize(run: Path, backbone: Backbone, out: Path, track: Track = no_track) -> None:
    """Answer all photos of a trained run in 8-bit integers.

    Each fold's network is quantised by itself on its own training photos, whose labels are not used; where the folds
    share a frozen backbone, that is quantised once, on the final fold's training photos.

    Args:
        run: a trained run folder.
        backbone: the one it was trained from.
        out: a folder, which is laid out like a run folder: `config.json`, logits and features of every fold; and the
            final network, `onnx/model.onnx`.
        track: how progress is shown.

    Raises:
        RunFolderError: the run is not trained to its end.
        DatasetError: a photo vanished or changed since the audit.
    """
    config = read_config(run)
    rows = manifest.read(run / artifacts.MANIFEST)
    root = Path(artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")["root"])
    pixels = Decoded(root, rows, restore(run, backbone)[1], run / artifacts.CACHE)
    each_its_own = Recipe.model_validate(config["recipe"]).train_backbone
    folds = splits.read(run / artifacts.SPLIT, rows).folds
    for fold in sorted(folds, key=lambda fold: fold.name != artifacts.FINAL):
        network, preprocessing = restore(run, backbone, fold.name)
        sides, final = [fold.splits[row.path] for row in rows], fold.name == artifacts.FINAL
        folder = artifacts.fold_folder(out, fold.name)
        if final or each_its_own:
            graph = to_int8(to_onnx(network, preprocessing), pixels[_chosen(rows, sides)])
            features = _features(graph, pixels, track)
            artifacts.write_array((out if final else folder) / artifacts.FEATURES, features.astype(np.float16))
        if final:
            artifacts.write_bytes(out / model_folder.ONNX, graph)
        with torch.inference_mode():
            logits = network.classifier(torch.from_numpy(features)).numpy()
        outputs.write_logits(folder / artifacts.LOGITS, rows, sides, config["labels"], logits)
    artifacts.write_json(out / artifacts.CONFIG, config)


def to_int8(graph: bytes, pixels: Pixels) -> bytes:
    """An exported network in 8-bit integers, down to the maps of its last stages.

    Weights take 7 bits, for processors without VNNI add two products of 8 bits in 16 bits, which more would overflow.

    Args:
        graph: of `export.to_onnx`, in floats of 32 bits.
        pixels: photos `uint8[n, s, s, 3]` like those it will see, on which the ranges of activations are found.
    """
    model = onnx.load_from_string(graph)
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})  # no batch norm is left to fold
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_static(
            model,
            path,
            _Photos(pixels),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=_QUANTISED,
        )
        return path.read_bytes()


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    """One photo after the other."""

    def __init__(self, pixels: Pixels) -> None:
        self._photos = iter(pixels)

    def get_next(self) -> dict[str, Pixels] | None:
        """The next photo, or None."""
        photo = next(self._photos, None)
        return None if photo is None else {INPUT: photo[None]}


def _chosen(rows: Sequence[Row], sides: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """At random `PHOTOS` of the training photos, of different photo groups, `int64[n]`, in order."""
    train = np.flatnonzero(np.array(sides) == "train")
    _, first = np.unique(np.array([row.photo_group for row in rows])[train], return_index=True)
    return np.sort(np.random.default_rng(0).permutation(train[np.sort(first)])[:PHOTOS])


def _features(graph: bytes, pixels: Decoded, track: Track) -> Floats:
    """Features `float32[n, width]` of all photos, by the network in integers."""
    engine, starts = Engine(graph), range(0, len(pixels), _BATCH)
    shown = track(starts, "Answering in 8-bit integers", len(starts))
    return np.concatenate([engine(pixels[start : start + _BATCH]).features for start in shown])
