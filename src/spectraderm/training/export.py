"""Trained run folder -> model folder: Hugging Face layout, ONNX, and the proof that it gives training's logits."""

import logging
import warnings
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from spectraderm import artifacts
from spectraderm.data import manifest
from spectraderm.data.manifest import Row
from spectraderm.engine import INPUT, OUTPUTS, Engine, Floats
from spectraderm.errors import ParityError, RunFolderError
from spectraderm.preprocessing import Pixels, Preprocessing
from spectraderm.progress import Track, no_track
from spectraderm.training.dataset import read_photo
from spectraderm.training.model import Backbone, Normalise, SkinResNet
from spectraderm.training.train import read_config, restore

PARITY = 1e-3
"""The largest difference of a logit between training and the exported model that is let pass."""
PARITY_HALF = 5e-2
"""The same for weights stored as 16-bit floats, which also must not change a single first guess."""
_BATCH = 16


class Deployable(nn.Module):
    """The network as it is exported: pixels in; logits, features and class activation maps out."""

    def __init__(self, network: SkinResNet, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(preprocessing)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels `uint8[n, s, s, 3]` -> see `spectraderm.engine.Answer`."""
        spread = self.network.feature_maps(self.normalise(pixels))
        features = spread.mean((2, 3))
        first, *rest = [layer for layer in self.network.classifier if isinstance(layer, nn.Linear)]
        if not rest:
            weights = first.weight
        else:  # the head is linear around each photo: its second layer times those first-layer rows that fire
            fires = (first(features) > 0).float()
            weights = (rest[0].weight[None] * fires[:, None, :]) @ first.weight
        maps = (weights @ spread.flatten(2)).reshape(-1, weights.shape[-2], *spread.shape[2:])
        return self.network.classifier(features), features, maps


def export(
    run: Path,
    backbone: Backbone,
    out: Path | None = None,
    half: bool = False,
    onnx_only: bool = False,
    notes: str = "",
    track: Track = no_track,
) -> dict[str, Any]:
    """Write the model folder of a trained and evaluated run.

    Args:
        run: the run folder.
        backbone: the one it was trained from.
        out: the model folder; by default `run/model`.
        half: store the ONNX weights as 16-bit floats (computation stays 32 bit): half the size.
        onnx_only: leave `model.safetensors` out.
        notes: Markdown to put at the end of the model card, such as what was measured elsewhere.
        track: how progress is shown.

    Returns:
        The measured parity: photos, largest difference of a logit, changed first guesses, and the bounds.

    Raises:
        ParityError: the exported model does not give the logits that training stored; nothing is written.
        RunFolderError: the run is not trained or not evaluated.
    """
    config = read_config(run)
    card = run / artifacts.CARD
    if not card.is_file():
        raise RunFolderError(f"{run} has no model card yet", "Run `spectraderm evaluate RUN` first")
    network, preprocessing = restore(run, backbone)
    graph = to_onnx(network, preprocessing, half)
    parity = measure_parity(run, Engine(graph), preprocessing, PARITY_HALF if half else PARITY, track)
    files = {
        artifacts.CARD: card.read_bytes() + (f"\n{notes.strip()}\n" if notes else "").encode(),
        artifacts.MODEL_CONFIG: artifacts.json_bytes(network.config.to_diff_dict()),
        artifacts.PREPROCESSOR: artifacts.json_bytes(preprocessing.to_hub()),
        artifacts.ONNX: graph,
        "NOTICE": (resources.files("spectraderm") / "model_notice.txt").read_bytes(),
    }
    if not onnx_only:
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        files[artifacts.WEIGHTS] = save(state, metadata={"format": "pt"})
    facts = {
        "spectraderm": metadata.version("spectraderm"),
        "model_id": f"spectraderm-{config['recipe']['name']}-{artifacts.sha256(graph)[:8]}",
        "labels": config["labels"],
        "display_names": config["display_names"],
        "recipe": config["recipe"],
        "backbone": config["backbone"],
        "protocol": config["protocol"],
        "audit_sha256": artifacts.sha256((run / artifacts.AUDIT).read_bytes()),
        "parity": parity,
    }
    artifacts.write_model_folder(out or run / artifacts.MODEL, files, facts)
    return parity


def to_onnx(network: SkinResNet, preprocessing: Preprocessing, half: bool = False) -> bytes:
    """One ONNX file with a free batch size: `pixels: uint8[n, s, s, 3]` -> `logits`, `features`, `maps`."""
    example = torch.zeros(2, preprocessing.size, preprocessing.size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it regrets, four times, that torchvision is absent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch about its own code
        program = torch.onnx.export(
            Deployable(network, preprocessing).eval(),
            (example,),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:  # the exporter notes stack traces, paths of this machine among them
        del node.metadata_props[:]
        node.doc_string = ""
    if half:
        _halve(model)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def measure_parity(
    run: Path, engine: Engine, preprocessing: Preprocessing, bound: float, track: Track = no_track
) -> dict[str, Any]:
    """Compare an exported model, on the photo files themselves, with the logits that training stored.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
        ParityError: a logit differs by `bound` or more, or a first guess changed.
    """
    root = Path(artifacts.read_json(run / artifacts.AUDIT, "Run `spectraderm audit` first")["root"])
    labels = read_config(run)["labels"]
    names = [f"logit:{label}" for label in labels]
    path = artifacts.fold_folder(run, artifacts.FINAL) / artifacts.LOGITS
    stored = artifacts.read_csv(path, [*artifacts.LOGIT_COLUMNS, *names], "Run `spectraderm train RUN` first")
    expected = np.array([[float(record[name]) for name in names] for record in stored], np.float32)
    rows = {row.path: row for row in manifest.read(run / artifacts.MANIFEST)}
    batches = _batches(root, [rows[record["path"]] for record in stored], preprocessing)
    count = -(-len(stored) // _BATCH)
    got: Floats = np.concatenate([engine(batch).logits for batch in track(batches, "Measuring parity", count)])
    largest = float(np.abs(got - expected).max())
    changed = int((got.argmax(1) != expected.argmax(1)).sum())
    if not largest < bound or changed:
        raise ParityError(
            f"the exported model differs from training by {largest:.2g} in a logit and in {changed} first guesses",
            f"Below {bound:g} and 0 is asked; nothing was exported",
        )
    return {"photos": len(stored), "max_logit_difference": largest, "changed_top1": changed, "bound": bound}


def _batches(root: Path, rows: list[Row], preprocessing: Preprocessing) -> Iterator[Pixels]:
    for start in range(0, len(rows), _BATCH):
        yield np.stack([read_photo(root, row, preprocessing) for row in rows[start : start + _BATCH]])


def _halve(model: onnx.ModelProto) -> None:
    """Store large weights as 16-bit floats, cast back when the model is loaded."""
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size > 1024:
            stored = f"{tensor.name}.half"
            casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
