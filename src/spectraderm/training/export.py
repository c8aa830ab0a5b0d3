"""Trained run folder -> model folder: Hugging Face layout, ONNX, and the proof that it gives training's logits."""

from collections.abc import Iterator, Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save

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
from spectraderm.inference.engine import Engine, Floats
from spectraderm.inference.runtimes import ONNXRUNTIME
from spectraderm.training.dataset import read_photo
from spectraderm.training.graph import to_onnx
from spectraderm.training.network import Backbone, SkinResNet
from spectraderm.training.robustness import measure_stability, to_markdown
from spectraderm.training.train import read_config, restore

PARITY = 1e-3
"""The largest difference of a logit between training and the exported model that is let pass."""
PARITY_HALF = 5e-2
"""The same for weights stored as 16-bit floats, which also must not change a single first guess."""
_BATCH = 16
_CALIBRATE = "Run `spectraderm calibrate RUN` first"


def export(
    run: Path,
    backbone: Backbone,
    out: Path | None = None,
    half: bool = False,
    onnx_only: bool = False,
    notes: str = "",
    int8: Mapping[str, Any] | None = None,
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
        int8: of the quantised network in `run/int8/`, which is to go with it, what was measured; None leaves it out.
        track: how progress is shown.

    Returns:
        The measured parity: photos, largest difference of a logit, changed first guesses, and the bounds.

    Raises:
        ParityError: the exported model does not give the logits that training stored; nothing is written.
        RunFolderError: the run is not trained, calibrated or evaluated.
    """
    config = read_config(run)
    calibration = _calibration(run, len(config["labels"]))
    references = artifacts.read_array(run / artifacts.NOVELTY, _CALIBRATE)
    card = run / artifacts.CARD
    if not card.is_file():
        raise RunFolderError(f"{run} has no model card yet", "Run `spectraderm evaluate RUN` first")
    known = training_hashes(run)
    network, preprocessing = restore(run, backbone)
    graph = to_onnx(network, preprocessing, half)
    engine = Engine(graph, runtime=ONNXRUNTIME)
    parity = measure_parity(run, engine, preprocessing, PARITY_HALF if half else PARITY, track)
    quantised = _quantised(run) if int8 else {}
    served = Engine(quantised[model_folder.ONNX_INT8], runtime=ONNXRUNTIME) if int8 else engine
    stability = measure_stability(run, served, preprocessing, track)
    added = [to_markdown(stability), *([_of_int8(int8)] if int8 else []), *([f"{notes.strip()}\n"] if notes else [])]
    files = {
        artifacts.CARD: b"\n".join([card.read_bytes(), *(part.encode() for part in added)]),
        model_folder.ONNX: graph,
        model_folder.NOVELTY: artifacts.array_bytes(references),
        model_folder.HASHES: artifacts.array_bytes(known),
        **quantised,
        **_hub_files(network, preprocessing, onnx_only),
    }
    facts = {**_facts(run, config, graph), "parity": parity, "stability": stability, "calibration": calibration}
    if int8:
        facts[artifacts.INT8] = {**int8, "calibration": _calibration(run / artifacts.INT8, len(config["labels"]))}
    model_folder.write_model_folder(out or run / artifacts.MODEL, files, facts)
    return parity


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


def _quantised(run: Path) -> dict[str, bytes]:
    """The network in 8-bit integers, and the training photos' features as it has them."""
    folder = run / artifacts.INT8
    try:
        graph = (folder / model_folder.ONNX).read_bytes()
    except OSError as error:
        raise RunFolderError(f"{folder} has no network ({error.strerror})", "Export again") from error
    return {
        model_folder.ONNX_INT8: graph,
        model_folder.NOVELTY_INT8: artifacts.array_bytes(artifacts.read_array(folder / artifacts.NOVELTY, _CALIBRATE)),
    }


def _of_int8(measured: Mapping[str, Any]) -> str:
    """What was measured of the network in 8-bit integers, as a section of the model card."""
    found = measured["accuracy_difference"]
    value, low, high = (
        "?" if found[key] is None else f"{100 * found[key]:+.2f}".replace("-", "−") for key in ("value", "low", "high")
    )
    return (
        "## In 8-bit integers\n"
        "The model answers by `onnx/model_int8.onnx`, in 8-bit integers, with a calibration of its own.\n"
        f"On {measured['photos']} held-out photos ({measured['photo_groups']} different ones, each counted once) its "
        f"accuracy differs by {value} points ({low} to {high}) from that in floats,\nand its first guess is another in "
        f"{100 * measured['changed_top1']:.1f} % of the files. All other numbers above but those on the camera are of "
        "the model in floats.\n"
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
