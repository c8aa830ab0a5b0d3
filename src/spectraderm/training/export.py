"""Trained run folder -> model folder: Hugging Face layout, ONNX, and the proof that it gives training's logits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np

from spectraderm.core.errors import ParityError, RunFolderError
from spectraderm.core.files import array_bytes, read_array, sha256
from spectraderm.core.parallel import cores, in_order
from spectraderm.core.progress import Track, as_one, no_track
from spectraderm.core.run import (
    AUDIT,
    CALIBRATION,
    CARD,
    CARD_PICTURES,
    FINAL,
    MANIFEST,
    MODEL,
    MODEL_INT8,
    NOVELTY,
    SPLIT,
    Run,
)
from spectraderm.data import manifest
from spectraderm.data import split as splits
from spectraderm.data.manifest import open_photo
from spectraderm.images.perceptual_hash import Hashes, from_hex
from spectraderm.images.preprocessing import Floats, Preprocessing
from spectraderm.inference import model_folder
from spectraderm.inference.calibration import Calibrations
from spectraderm.inference.engine import Engine
from spectraderm.training.backbones import Backbone
from spectraderm.training.hub_layout import hub_files
from spectraderm.training.onnx_graph import halved, rounded, to_onnx
from spectraderm.training.onnx_head import described, put_head
from spectraderm.training.pooling import SkinNetwork
from spectraderm.training.train import restore

PARITY = 1e-3
"""The largest difference of a logit between training and the exported model that is let pass; and no first guess may
change."""
PARITY_HALF = 5e-2
"""The same for weights stored as 16-bit floats."""
_BATCH = 4
_PACKAGE = resources.files("spectraderm")
_EXAMPLE = "examples/1-ring.jpg"
"""A painting, which the card's front matter gives the Hub's page of the model to try."""
_CALIBRATE = "Run `spectraderm calibrate RUN` first"


Robustness = Callable[[Callable[[str], Engine | None], Preprocessing], tuple[dict[str, Any], str]]


@dataclass(frozen=True)
class Integers:
    """A run in 8-bit integers: what `quantize.quantize` wrote, calibrated; and the accuracy that it loses."""

    run: Run
    loss: Mapping[str, Any]


def export(
    run: Run,
    backbone: Backbone,
    robustness: Robustness,
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
        robustness: measures the network that is exported, for `spectraderm.json` and as a section of the model card.
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
    config, source = run.config, integers.run if integers else run
    calibration = source.calibration
    try:
        classes = len(Calibrations.from_dict(calibration).home.thresholds)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{source.path(CALIBRATION)} is damaged ({error!r})", _CALIBRATE) from error
    if classes != len(config["labels"]):
        raise RunFolderError(f"{source.path(CALIBRATION)} is of another run", _CALIBRATE)
    references = read_array(source.path(NOVELTY), _CALIBRATE)
    if not run.path(CARD).is_file():
        raise RunFolderError(f"{run.folder} has no model card yet", "Run `spectraderm evaluate RUN` first")
    known = training_hashes(run)
    network, preprocessing = restore(run, backbone)
    measured: dict[str, Any]
    if integers:
        graph, precision = source.path(model_folder.ONNX).read_bytes(), "int8"
        measured = {"loss": dict(integers.loss)}
    else:
        graph, precision, parity = _in_floats(run, network, preprocessing, track)
        measured = {"parity": parity}
        network = rounded(network) if precision == "float16" else network
    graph = described(graph, _about(config))

    def engine_of(fold: str) -> Engine | None:
        """The exported network with the head of a fold; None for integers, whose head is the final one alone."""
        if fold == FINAL:
            return Engine(graph, preprocessing, threads=1)
        head = restore(run, backbone, fold)[0].linear_head
        if integers or head is None:
            return None
        weight, bias = (part.detach().numpy() for part in (head.weight, head.bias))
        return Engine(put_head(graph, weight, bias), preprocessing, threads=1)

    found, section = robustness(engine_of, preprocessing)
    parts = [section, *([_of_int8(integers.loss)] if integers else []), *([f"{notes.strip()}\n"] if notes else [])]
    files = {
        model_folder.CARD: b"\n".join([run.path(CARD).read_bytes(), *(part.encode() for part in parts)]),
        model_folder.ONNX: graph,
        model_folder.NOVELTY: array_bytes(references),
        model_folder.HASHES: array_bytes(known),
        **hub_files(network, preprocessing, weights=not onnx_only and not integers),
        **{name: run.path(name).read_bytes() for name in CARD_PICTURES if run.path(name).is_file()},
        _EXAMPLE: (_PACKAGE / "serving" / _EXAMPLE).read_bytes(),
        "NOTICE": (_PACKAGE / "model_notice.txt").read_bytes(),
    }
    if run.fold(FINAL).statistics.is_file() and not integers:  # features in integers are others
        files[model_folder.STATISTICS] = run.fold(FINAL).statistics.read_bytes()
    facts = {
        "spectraderm": metadata.version("spectraderm"),
        "model_id": f"spectraderm-{config['recipe']['name']}-{sha256(graph)[:8]}",
        **{name: config[name] for name in ("labels", "display_names", "recipe", "backbone", "protocol")},
        "datasets": run.audit.get("datasets", []),
        "logits_sha256": sha256(run.fold(FINAL).logits.read_bytes()),
        "audit_sha256": sha256(run.path(AUDIT).read_bytes()),
        "precision": precision,
        **measured,
        "robustness": found,
        "calibration": calibration,
    }
    model_folder.write_model_folder(out or run.path(MODEL_INT8 if integers else MODEL), files, facts)
    return measured


def measure_parity(
    run: Run, engine: Engine, preprocessing: Preprocessing, bound: float, track: Track = no_track
) -> dict[str, Any]:
    """Compare an exported model, on the photo files themselves, with the logits that training stored.

    Raises:
        DatasetError: a photo vanished or changed since the audit.
        ParityError: a logit differs by `bound` or more, or a first guess changed.
    """
    root, stored = run.photos, run.logits(FINAL)
    rows = {row.path: row for row in manifest.read(run.path(MANIFEST))}

    def logits_of(start: int) -> Floats:
        paths = stored.paths[start : start + _BATCH].tolist()
        return engine(np.stack([preprocessing(open_photo(root, rows[path])) for path in paths])).logits

    starts = range(0, len(stored), _BATCH)
    measured = track(in_order(logits_of, starts, cores()), "Measuring parity", len(starts))
    logits = np.concatenate([found for _, found in measured])
    largest = float(np.abs(logits - stored.values.astype(np.float32)).max())
    changed = int((logits.argmax(1) != stored.values.argmax(1)).sum())
    if not largest < bound or changed:
        raise ParityError(
            f"the exported model differs from training by {largest:.2g} in a logit and in {changed} first guesses",
            f"Below {bound:g} and 0 is asked; nothing was exported",
        )
    return {"photos": len(stored), "max_logit_difference": largest, "changed_top1": changed, "bound": bound}


def training_hashes(run: Run) -> Hashes:
    """Perceptual hashes `uint8[m, 8]` of the photos that the final model was trained or validated on.

    Raises:
        RunFolderError: the audit was made before hashes were kept.
    """
    rows = manifest.read(run.path(MANIFEST))
    folds = splits.read(run.path(SPLIT), rows).folds
    final = next(fold for fold in folds if fold.name == FINAL)
    hashes = {row.phash for row in rows if final.splits[row.path] in ("train", "val")}
    if "" in hashes:
        raise RunFolderError(f"{run.path(MANIFEST)} has no hashes of photos", "Audit, split and train again")
    return from_hex(sorted(hashes))


def _in_floats(
    run: Run, network: SkinNetwork, preprocessing: Preprocessing, track: Track
) -> tuple[bytes, str, dict[str, Any]]:
    """The network's graph, how its weights are stored, and the measured parity."""
    whole = as_one(track, "Writing the network", lambda: to_onnx(network, preprocessing.size))
    half = halved(whole)
    try:
        parity = measure_parity(run, Engine(half, preprocessing, threads=1), preprocessing, PARITY_HALF, track)
        return half, "float16", parity
    except ParityError:  # a guess depends on the last digits
        parity = measure_parity(run, Engine(whole, preprocessing, threads=1), preprocessing, PARITY, track)
        return whole, "float32", parity


def _about(config: Mapping[str, Any]) -> dict[str, str]:
    """What the graph says of itself beside who wrote it; nothing of this machine."""
    return {
        "labels": json.dumps(config["labels"], ensure_ascii=False),
        "license": f"Apache-2.0; backbone: {config['backbone_license']}",
        "backbone": str(config["backbone"]),
        "recipe": str(config["recipe"]["name"]),
    }


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
