"""Trained run folder -> model folder: Hugging Face layout, ONNX, and the proof that it gives training's logits."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save
from torch import Tensor, nn

from spectraderm.core import artifacts
from spectraderm.core.errors import ParityError, RunFolderError
from spectraderm.core.progress import Track, no_track
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.data.manifest import Row
from spectraderm.images.perceptual_hash import from_hex
from spectraderm.images.preprocessing import Pixels, Preprocessing
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import Calibration
from spectraderm.inference.engine import INPUT, OUTPUTS, Engine, Floats
from spectraderm.training.augmentation import transformed
from spectraderm.training.dataset import read_photo
from spectraderm.training.network import Backbone, Normalise, SkinResNet
from spectraderm.training.robustness import measure_stability, to_markdown
from spectraderm.training.train import read_config, restore

PARITY = 1e-3
"""The largest difference of a logit between training and the exported model that is let pass; and no first guess may
change."""
PARITY_HALF = 5e-2
"""The same for weights stored as 16-bit floats."""
_BATCH = 16
_CALIBRATE = "Run `spectraderm calibrate RUN` first"


@dataclass(frozen=True)
class Integers:
    """A run in 8-bit integers: its folder, of `quantize.quantize`, calibrated; and the accuracy that it loses."""

    folder: Path
    loss: Mapping[str, Any]


def export(
    run: Path,
    backbone: Backbone,
    out: Path | None = None,
    onnx_only: bool = False,
    notes: str = "",
    integers: Integers | None = None,
    track: Track = no_track,
) -> dict[str, Any]:
    """Write the model folder of a trained and evaluated run: one network, in one precision, with its calibration.

    The ONNX weights are stored as 16-bit floats, half the size, and computed with in 32 bits; where that would change
    a first guess of any photo of the run, they are stored in 32 bits.

    Args:
        run: the run folder.
        backbone: the one it was trained from.
        out: the model folder; by default `run/model`, or `run/model-int8`.
        onnx_only: leave `model.safetensors` out.
        notes: Markdown to put at the end of the model card, such as what was measured elsewhere.
        integers: export this network in 8-bit integers instead, without `model.safetensors`.
        track: how progress is shown.

    Returns:
        What was measured: `parity`, photos, largest difference of a logit, changed first guesses and the bound; or of
        integers their `loss`.

    Raises:
        ParityError: the exported model does not give the logits that training stored; nothing is written.
        RunFolderError: the run is not trained, calibrated or evaluated.
    """
    config = read_config(run)
    source = integers.folder if integers else run
    calibration = _calibration(source, len(config["labels"]))
    references = artifacts.read_array(source / artifacts.NOVELTY, _CALIBRATE)
    card = run / artifacts.CARD
    if not card.is_file():
        raise RunFolderError(f"{run} has no model card yet", "Run `spectraderm evaluate RUN` first")
    known = training_hashes(run)
    network, preprocessing = restore(run, backbone)
    measured: dict[str, Any]
    if integers:
        graph, precision = (source / model_folder.ONNX).read_bytes(), "int8"
        measured = {"loss": dict(integers.loss)}
    else:
        graph, precision, parity = _in_floats(run, network, preprocessing, track)
        measured = {"parity": parity}
    stability = measure_stability(run, Engine(graph), preprocessing, track)
    parts = [to_markdown(stability), *([_of_int8(integers.loss)] if integers else [])]
    files = {
        artifacts.CARD: b"\n".join(
            [card.read_bytes(), *(part.encode() for part in [*parts, *([f"{notes.strip()}\n"] if notes else [])])]
        ),
        model_folder.ONNX: graph,
        model_folder.NOVELTY: artifacts.array_bytes(references),
        model_folder.HASHES: artifacts.array_bytes(known),
        **_hub_files(network, preprocessing, onnx_only or integers is not None),
    }
    facts = {
        **_facts(run, config, graph),
        "precision": precision,
        **measured,
        "stability": stability,
        "calibration": calibration,
    }
    model_folder.write_model_folder(out or run / (artifacts.MODEL_INT8 if integers else artifacts.MODEL), files, facts)
    return measured


def _in_floats(
    run: Path, network: SkinResNet, preprocessing: Preprocessing, track: Track
) -> tuple[bytes, str, dict[str, Any]]:
    """The network's graph, how its weights are stored, and the measured parity."""
    whole = to_onnx(network, preprocessing)
    try:
        graph = halved(whole)
        engine = Engine(graph)
        return graph, "float16", measure_parity(run, engine, preprocessing, PARITY_HALF, track)
    except ParityError:  # a guess hangs on the last digits
        engine = Engine(whole)
        return whole, "float32", measure_parity(run, engine, preprocessing, PARITY, track)


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


def training_hashes(run: Path) -> npt.NDArray[np.uint8]:
    """Perceptual hashes `uint8[m, 8]` of the photos that the final model was trained or validated on.

    Raises:
        RunFolderError: the audit was made before hashes were kept.
    """
    rows = manifest.read(run / artifacts.MANIFEST)
    folds = splits.read(run / artifacts.SPLIT, rows).folds
    final = next(fold for fold in folds if fold.name == artifacts.FINAL)
    seen = {row.phash for row in rows if final.splits[row.path] in ("train", "val")}
    if "" in seen:
        raise RunFolderError(f"{run / artifacts.MANIFEST} has no hashes of photos", "Audit, split and train again")
    return from_hex(sorted(seen))


def _hub_files(network: SkinResNet, preprocessing: Preprocessing, onnx_only: bool) -> dict[str, bytes]:
    """What `transformers` reads, and the notice of whose weights they are."""
    files = {
        model_folder.MODEL_CONFIG: artifacts.json_bytes(network.config.to_diff_dict()),
        model_folder.PREPROCESSOR: artifacts.json_bytes(preprocessing.to_hub()),
        "NOTICE": (resources.files("spectraderm") / "model_notice.txt").read_bytes(),
    }
    if not onnx_only:
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        files[model_folder.WEIGHTS] = save(state, metadata={"format": "pt"})
    return files


def _of_int8(loss: Mapping[str, Any]) -> str:
    """What a network in 8-bit integers loses, as a section of the model card."""
    found = loss["accuracy_difference"]
    value, low, high = (
        "?" if found[key] is None else f"{100 * found[key]:+.2f}".replace("-", "−") for key in ("value", "low", "high")
    )
    return (
        "## In 8-bit integers\n"
        "This model computes in 8-bit integers, with a calibration of its own.\n"
        f"On {loss['photos']} held-out photos ({loss['photo_groups']} different ones, each counted once) its accuracy "
        f"differs by {value} points ({low} to {high}) from that in floats,\nand its first guess is another in "
        f"{100 * loss['changed_top1']:.1f} % of the files. All other numbers above but those on the camera are of the "
        "model in floats.\n"
    )


def _facts(run: Path, config: dict[str, Any], graph: bytes) -> dict[str, Any]:
    """What `spectraderm.json` says of where the model came from."""
    return {
        "spectraderm": metadata.version("spectraderm"),
        "model_id": f"spectraderm-{config['recipe']['name']}-{artifacts.sha256(graph)[:8]}",
        **{name: config[name] for name in ("labels", "display_names", "recipe", "backbone", "protocol")},
        "audit_sha256": artifacts.sha256((run / artifacts.AUDIT).read_bytes()),
    }


def _calibration(run: Path, classes: int) -> dict[str, Any]:
    """The run's `calibration.json`, as it is, once it is found to be one of so many classes."""
    settings = artifacts.read_json(run / artifacts.CALIBRATION, _CALIBRATE)
    try:
        found = Calibration.from_dict(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{run / artifacts.CALIBRATION} is damaged ({error!r})", _CALIBRATE) from error
    if len(found.thresholds) != classes:
        raise RunFolderError(f"{run / artifacts.CALIBRATION} is of another run", _CALIBRATE)
    return settings


def _batches(root: Path, rows: list[Row], preprocessing: Preprocessing) -> Iterator[Pixels]:
    for start in range(0, len(rows), _BATCH):
        yield np.stack([read_photo(root, row, preprocessing) for row in rows[start : start + _BATCH]])


class Deployable(nn.Module):
    """The network as it is exported: pixels in; logits, features and class activation maps out."""

    def __init__(self, network: SkinResNet, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.normalise = Normalise(preprocessing)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels `uint8[n, s, s, 3]` -> see `spectraderm.inference.engine.Answer`."""
        photos = self.normalise(pixels)
        maps = self.network.feature_maps(transformed(photos, self.network.test_transforms))
        features = self.network.averaged(maps, photos.shape[0])
        return self.network.classifier(features), features, self.network.evidence(maps[: photos.shape[0]])


def to_onnx(network: SkinResNet, preprocessing: Preprocessing) -> bytes:
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
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def halved(graph: bytes) -> bytes:
    """The same graph with large weights stored as 16-bit floats, cast back when the model is loaded."""
    model = onnx.load_from_string(graph)
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
    data: bytes = model.SerializeToString()
    return data
