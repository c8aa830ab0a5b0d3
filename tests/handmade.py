"""Run folders and model folders written by hand: nothing is trained, torch is not needed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from spectraderm.core.files import array_bytes, write_array, write_arrays, write_csv, write_json
from spectraderm.core.run import (
    AUDIT,
    CALIBRATION,
    CONFIG,
    ENVIRONMENT,
    FEATURES,
    HISTORY,
    LOGIT_COLUMNS,
    LOGITS,
    MANIFEST,
    MEASUREMENTS,
    Run,
)
from spectraderm.data import manifest
from spectraderm.data.manifest import Row, display_name
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import engine, model_folder
from spectraderm.inference.calibration import Calibration
from spectraderm.training import recipe as recipes

LABELS = ("BA- a", "b-c", "d")

CALIBRATED: dict[str, Any] = Calibration(1.0, 0.9, "lac", (0.9,) * 3, 0.5, 0.95, 0.5).to_dict() | {
    "promise_asked": 0.95,
    "promise_fails_at": 0.1,
    "why": "",
    "per_class": False,
    "fitted_on": "val",
    "n_photos": 3,
    "n_groups": 3,
    "novelty_method": "knn",
    "novelty_kept": 0.95,
}
"""`home` of a `calibration.json`."""


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
    write_json(
        run / CONFIG,
        {
            "recipe": recipes.load("notebook").model_dump(),
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
    write_json(run / AUDIT, facts | dict(audit or {}))
    environment = {"command": "spectraderm run", "python": "3", "device": "cpu", "threads": 1, "packages": {"a": "1"}}
    write_json(run / ENVIRONMENT, environment)
    for fold, rows in folds.items():
        write_fold(Run(run).fold(fold).folder, rows, labels)
    write_photos_of(run, next(iter(folds.values())))
    write_json(run / CALIBRATION, {"home": CALIBRATED | {"thresholds": [0.9] * len(labels)}})
    return run


def write_photos_of(run: Path, rows: Sequence[Said], metadata: Sequence[Mapping[str, str]] = ()) -> None:
    """What audit and training leave of these photos: `manifest.csv`, `measurements.npz` and `features.npy`.

    Photos of one group are exact copies of each other, others are nothing like each other; `metadata` is per photo.
    """
    facts = list(metadata) or [{}] * len(rows)
    manifest.write(
        run / MANIFEST,
        [
            Row(said.path, said.label, "", "0" * 64, "JPEG", 96, 72, 1000, int(said.group), dict(own))
            for said, own in zip(rows, facts, strict=True)
        ],
    )
    draws = [np.random.default_rng(int(said.group)) for said in rows]
    measured: dict[str, npt.NDArray[np.generic]] = {
        "hashes": np.stack([draw.integers(0, 256, (8, 8), dtype=np.uint8) for draw in draws]),
        "metadata": np.stack([draw.random(4, np.float32) for draw in draws]),
        "pixels_8x8": np.stack([draw.random(192, np.float32) for draw in draws]),
    }
    write_arrays(run / MEASUREMENTS, **measured)
    write_array(run / FEATURES, np.stack([draw.normal(size=16) for draw in draws]).astype("f2"))


def write_fold(folder: Path, rows: Sequence[Said], labels: Sequence[str] = LABELS) -> None:
    columns = [*LOGIT_COLUMNS, *(f"logit:{label}" for label in labels)]
    records = (
        dict(zip(columns, (*row[:4], *(row.sure * (label == row.guess) for label in labels)), strict=True))
        for row in rows
    )
    write_csv(folder / LOGITS, columns, records)
    epochs = [
        {"epoch": n, **{f"{s}_{w}": 1 / n for s in ("train", "val") for w in ("loss", "accuracy")}} for n in (1, 2)
    ]
    write_csv(folder / HISTORY, list(epochs[0]), epochs)


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
    return write_run(run, {"final": rows}, "original", audit=audit)


PREPROCESSING = Preprocessing(size=56)
"""What `graph` expects."""


def graph(classes: int = 3, size: int = 56, change: Callable[[ModelProto], None] | None = None) -> bytes:
    """ONNX as `export` writes it, of one linear layer on averaged colours; `size` is a multiple of 7."""
    random = np.random.default_rng(classes)
    weights = {"scale": np.float32(255 / 64), "weight": random.random((classes, 3, 1, 1), np.float32)}
    colours = {f"photo_{name}": getattr(Preprocessing(), name) for name in ("mean", "std")}
    weights |= {name: np.asarray(values, np.float32)[:, None, None] for name, values in colours.items()}
    nodes = [
        helper.make_node("Mul", [engine.INPUT, "photo_std"], ["centred"]),
        helper.make_node("Add", ["centred", "photo_mean"], ["shares"]),
        helper.make_node("Mul", ["shares", "scale"], ["planes"]),
        helper.make_node("AveragePool", ["planes"], ["spread"], kernel_shape=[size // 7] * 2, strides=[size // 7] * 2),
        helper.make_node("Conv", ["spread", "weight"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
        helper.make_node("GlobalAveragePool", ["spread"], ["colour"]),
        helper.make_node("Flatten", ["colour"], ["features"]),
    ]
    shapes: dict[str, list[str | int]] = {"logits": ["n", classes], "features": ["n", 3], "maps": ["n", classes, 7, 7]}
    inputs = [helper.make_tensor_value_info(engine.INPUT, TensorProto.FLOAT, ["n", 3, size, size])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "painted", inputs, outputs, stored)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if change:
        change(model)
    data: bytes = model.SerializeToString()
    return data


def calibration(classes: int, elsewhere: Mapping[str, object] | None = None, **changes: object) -> dict[str, Any]:
    """`calibration` of `spectraderm.json`: sure from 50 %, sets of all classes above 40 %, novel from 0.1.

    `changes` are of `home`; `elsewhere` is what differs there, where the model has that.
    """
    usual = Calibration(1.0, 0.9, "lac", (0.6,) * classes, 0.5, 0.95, 0.1).to_dict() | changes
    if elsewhere is None:
        return {"home": usual}
    return {"home": usual, "elsewhere": usual | {"answered_others": 0.05, "places": 3} | dict(elsewhere)}


def model_files(labels: Sequence[str] = LABELS, size: int = 56) -> dict[str, bytes]:
    """The files of a model folder, but `spectraderm.json`. It learned from one grey photo, whose hash is all zeros."""
    return {
        model_folder.MODEL_CONFIG: json.dumps({"id2label": dict(enumerate(labels))}).encode(),
        model_folder.PREPROCESSOR: json.dumps(Preprocessing(size=size).to_hub()).encode(),
        model_folder.ONNX: graph(len(labels), size),
        model_folder.NOVELTY: array_bytes(np.ones((1, 3), np.float16)),
        model_folder.HASHES: array_bytes(np.zeros((1, 8), np.uint8)),
    }


def write_model(
    folder: Path,
    labels: Sequence[str] = LABELS,
    files: Mapping[str, bytes] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """A model folder that is right, but for `files` and for `facts` in `spectraderm.json`."""
    usual = {
        "model_id": "by-hand",
        "display_names": {label: display_name(label) for label in labels},
        "calibration": calibration(len(labels)),
    }
    model_folder.write_model_folder(folder, model_files(labels) | dict(files or {}), usual | dict(facts or {}))
    return folder
