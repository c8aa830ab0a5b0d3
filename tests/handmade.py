"""Run folders and model folders written by hand: nothing is trained, torch is not needed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from spectraderm import artifacts
from spectraderm.data.manifest import display_name
from spectraderm.preprocessing import Preprocessing
from spectraderm.training import config as recipes

LABELS = ("BA- a", "b-c", "d")


class Said(NamedTuple):
    """A row of `logits.csv`: what a model said of a photo; the guess has the logit `sure`, all others 0."""

    path: str
    group: int
    split: str
    label: str
    guess: str
    sure: float = 2.0


def write_run(
    run: Path,
    folds: Mapping[str, Sequence[Said]],
    protocol: str,
    labels: Sequence[str] = LABELS,
    audit: Mapping[str, Any] | None = None,
    **config: object,
) -> Path:
    """A trained run folder; `audit` and `config` say what differs from the usual."""
    artifacts.write_json(
        run / artifacts.CONFIG,
        {
            "recipe": recipes.load("mission").model_dump(),
            "backbone": "some-resnet@1",
            "backbone_name": "some/resnet",
            "backbone_license": "MIT",
            "labels": list(labels),
            "display_names": {label: display_name(label) for label in labels},
            "protocol": protocol,
            "folds": [{"fold": fold, "seed": seed} for seed, fold in enumerate(folds)],
            **config,
        },
    )
    facts = {
        "root": "/nowhere/at/all",
        "photos": 9,
        "photo_groups": 8,
        "leakage": {"test_photos": 0, "test_photos_with_copy_in_train": 0, "share": None},
        "findings": [],
    }
    artifacts.write_json(run / artifacts.AUDIT, facts | dict(audit or {}))
    environment = {"command": "spectraderm run", "python": "3", "device": "cpu", "threads": 1, "packages": {"a": "1"}}
    artifacts.write_json(run / artifacts.ENVIRONMENT, environment)
    for fold, rows in folds.items():
        write_fold(artifacts.fold_folder(run, fold), rows, labels)
    return run


def write_fold(folder: Path, rows: Sequence[Said], labels: Sequence[str] = LABELS) -> None:
    columns = [*artifacts.LOGIT_COLUMNS, *(f"logit:{label}" for label in labels)]
    records = (
        dict(zip(columns, (*row[:4], *(row.sure * (label == row.guess) for label in labels)), strict=True))
        for row in rows
    )
    artifacts.write_csv(folder / artifacts.LOGITS, columns, records)
    epochs = [
        {"epoch": n, **{f"{s}_{w}": 1 / n for s in ("train", "val") for w in ("loss", "accuracy")}} for n in (1, 2)
    ]
    artifacts.write_csv(folder / artifacts.HISTORY, list(epochs[0]), epochs)


def leaking_run(run: Path, root: Path | None = None) -> Path:
    """As given: three training photos and, of each class, a test photo; the one of `d` is a copy of a training photo.

    The tests of `b-c` and `d` are guessed wrong, the latter the more surely.
    """
    a, b, d = LABELS
    rows = [
        Said("train/a.jpg", 0, "train", a, a),
        Said("train/b.jpg", 1, "train", b, b),
        Said("train/d.jpg", 2, "val", d, d),
        Said("test/a.jpg", 3, "test", a, a),
        Said("test/b.jpg", 4, "test", b, a),
        Said("test/d.jpg", 2, "test", d, b, 5.0),
    ]
    leakage = {"test_photos": 3, "test_photos_with_copy_in_train": 1, "share": 1 / 3}
    audit = {"leakage": leakage} | ({"root": str(root)} if root else {})
    return write_run(run, {"final": rows}, "as-given", audit=audit)


def graph(classes: int = 3, size: int = 56, change: Callable[[ModelProto], None] | None = None) -> bytes:
    """ONNX as `export` writes it, of one linear layer on averaged colours; `size` is a multiple of 7."""
    random = np.random.default_rng(classes)
    weights = {"scale": np.float32(1 / 64), "weight": random.random((classes, 3, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["spread"], kernel_shape=[size // 7] * 2, strides=[size // 7] * 2),
        helper.make_node("Conv", ["spread", "weight"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("GlobalAveragePool", ["spread"], ["colour"]),
        helper.make_node("Flatten", ["colour"], ["features"]),
    ]
    shapes: dict[str, list[str | int]] = {"logits": ["n", classes], "features": ["n", 3], "maps": ["n", classes, 7, 7]}
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", size, size, 3])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "painted", inputs, outputs, stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if change:
        change(model)
    data: bytes = model.SerializeToString()
    return data


def model_files(labels: Sequence[str] = LABELS, size: int = 56) -> dict[str, bytes]:
    """The files of a model folder, but `spectraderm.json`."""
    return {
        artifacts.MODEL_CONFIG: json.dumps({"id2label": dict(enumerate(labels))}).encode(),
        artifacts.PREPROCESSOR: json.dumps(Preprocessing(size=size).to_hub()).encode(),
        artifacts.ONNX: graph(len(labels), size),
    }


def write_model(folder: Path, labels: Sequence[str] = LABELS, files: Mapping[str, bytes] | None = None) -> Path:
    """A model folder that is right, but for `files`."""
    facts = {"model_id": "by-hand", "display_names": {label: display_name(label) for label in labels}}
    artifacts.write_model_folder(folder, model_files(labels) | dict(files or {}), facts)
    return folder
