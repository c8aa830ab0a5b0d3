"""`RUN/int8/`: what a trained run says once its network computes in 8-bit integers.

Laid out like the run folder itself, so that it is calibrated, scored and compared by the same code. The ranges of
activations, the rounding of weights and the shift of features are found on the final fold's training photos, which are
looked at without their labels.
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from spectraderm.core import artifacts
from spectraderm.core.errors import ParityError
from spectraderm.core.progress import Track, no_track
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.inference import model_folder
from spectraderm.inference.engine import OUTPUTS, Engine
from spectraderm.inference.runtimes import ONNXRUNTIME
from spectraderm.training import outputs
from spectraderm.training.dataset import Decoded, Floats
from spectraderm.training.network import Backbone, SkinResNet
from spectraderm.training.quantize import PHOTOS, to_int8
from spectraderm.training.recipe import Recipe
from spectraderm.training.train import read_config, restore

_TOGETHER, _CHECKED = 64, 8  # photos
_PARITY = 1e-3  # of a logit, between the file that is shipped and what is written of all photos


def quantise(run: Path, backbone: Backbone, track: Track = no_track) -> None:
    """Write `RUN/int8/`: the final network as `onnx/model.onnx`, and the logits and features of all folds.

    A fold whose backbone was trained, too, is quantised by itself.

    Raises:
        RunFolderError: the run is not trained to its end.
        DatasetError: a photo vanished or changed since the audit.
        ParityError: the file does not give the logits that were written.
    """
    config = read_config(run)
    target = run / artifacts.INT8
    shutil.rmtree(target, ignore_errors=True)
    work = _Work(run, backbone, track)
    whole = Recipe.model_validate(config["recipe"]).train_backbone
    folds = {fold.name: fold for fold in splits.read(run / artifacts.SPLIT, work.rows).folds}
    names = sorted(folds, key=lambda name: name != artifacts.FINAL)
    for name in names:
        network, _ = restore(run, backbone, name)
        sides = [folds[name].splits[row.path] for row in work.rows]
        folder = artifacts.fold_folder(target, name)
        if whole or name == artifacts.FINAL:
            graph, features = work.integers(network, sides, name)
            kept = folder if name != artifacts.FINAL else target
            artifacts.write_array(kept / artifacts.FEATURES, features.astype(np.float16))
        logits = _head(network, features)
        if name == artifacts.FINAL:
            work.check(graph, logits)
            artifacts.write_bytes(target / model_folder.ONNX, graph)
        outputs.write_logits(folder / artifacts.LOGITS, work.rows, sides, config["labels"], logits)
    artifacts.write_json(target / artifacts.CONFIG, config)


class _Work:
    """The photos of a run, and how they are looked at."""

    def __init__(self, run: Path, backbone: Backbone, track: Track) -> None:
        self.rows = manifest.read(run / artifacts.MANIFEST)
        self._run, self._track = run, track
        facts = artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")
        preprocessing = restore(run, backbone)[1]
        self._pixels = Decoded(Path(facts["root"]), self.rows, preprocessing, run / artifacts.CACHE)
        self._preprocessing = preprocessing

    def integers(self, network: SkinResNet, sides: Sequence[str], fold: str) -> tuple[bytes, Floats]:
        """A network in integers, and what features `float32[n, width]` it has of all photos."""
        train = np.flatnonzero(np.array(sides) == "train")
        _, first = np.unique([self.rows[row].photo_group for row in train], return_index=True)
        chosen = np.random.default_rng(0).permutation(train[np.sort(first)])[:PHOTOS]
        graph = to_int8(network, self._preprocessing, self._pixels[np.sort(chosen)])
        features = self._features(graph)
        own = artifacts.fold_folder(self._run, fold) / artifacts.FEATURES
        path = own if own.is_file() else self._run / artifacts.FEATURES
        expected = artifacts.read_array(path, "Train again, into a new run folder").astype(np.float32)
        shift = (expected[train] - features[train]).mean(0, dtype=np.float64).astype(np.float32)
        return shifted(graph, shift), features + shift

    def check(self, graph: bytes, logits: Floats) -> None:
        """Raise `ParityError` where the network as shipped does not give these logits for the first photos."""
        few = self._pixels[:_CHECKED]
        apart = float(np.abs(Engine(graph, runtime=ONNXRUNTIME)(few).logits - logits[:_CHECKED]).max())
        if not apart < _PARITY:
            raise ParityError(f"the quantised model differs by {apart:.2g} from what was computed", "Please report it")

    def _features(self, graph: bytes) -> Floats:
        streams = torch.get_num_threads()
        engine, found = Engine(graph, threads=1, runtime=ONNXRUNTIME, streams=streams), []
        starts = range(0, len(self.rows), _TOGETHER)
        with ThreadPoolExecutor(streams) as pool:
            for start in self._track(starts, "Quantising", len(starts)):
                batch = self._pixels[start : start + _TOGETHER]
                found += list(pool.map(lambda photo: engine(photo[None]).features, batch))
        return np.concatenate(found)


def shifted(graph: bytes, shift: Floats) -> bytes:
    """An exported model whose features `float32[n, width]` are moved by `float32[width]` before its head sees them.

    What rounding activations does to features on average is undone by that (bias correction: Nagel et al. 2019, "Data-
    free quantization through weight equalization and bias correction", section 4.2).
    """
    model = onnx.load_from_string(graph)
    name, before = OUTPUTS[1], f"{OUTPUTS[1]}.before"
    place = next(i for i, node in enumerate(model.graph.node) if name in node.output)
    node = model.graph.node[place]
    node.output[list(node.output).index(name)] = before
    model.graph.initializer.append(numpy_helper.from_array(shift[None], f"{name}.shift"))
    model.graph.node.insert(place + 1, helper.make_node("Add", [before, f"{name}.shift"], [name]))
    data: bytes = model.SerializeToString()
    return data


def _head(network: SkinResNet, features: Floats) -> Floats:
    with torch.inference_mode():
        logits: Floats = network.classifier(torch.from_numpy(features)).numpy()
    return logits
