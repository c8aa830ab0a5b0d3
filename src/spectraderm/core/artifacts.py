"""Run folders and model folders: names, columns, checksums, and writes that are whole or not there at all.

Knows nothing of what the files mean; the stages that write them do.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from spectraderm.core import files as writing
from spectraderm.core.checksums import note
from spectraderm.core.errors import ModelFolderError, RunFolderError
from spectraderm.core.reading import read_regular

MANIFEST, AUDIT, SPLIT = "manifest.csv", "audit.json", "split.csv"
COPIES, MEASUREMENTS, GALLERY = "copies.csv", "measurements.npz", "gallery.html"
CONFIG, ENVIRONMENT = "config.json", "environment.json"
HISTORY, CURVES, LOGITS = "history.csv", "curves.png", "logits.csv"
STATE, CHECKPOINT = "state.safetensors", "checkpoint.safetensors"
FEATURES, HEATMAPS = "features.npy", "heatmaps.npz"
CALIBRATION = "calibration.json"
NOVELTY, HASHES = "novelty.npy", "training_photos.npy"
EVALUATION, REPORT, CARD, MODEL = "evaluation.json", "report.html", "README.md", "model"
CACHE, OUTSIDE, LEDGER = "cache", "outside", "test_ledger.csv"
FACTS, MODEL_CONFIG, PREPROCESSOR = "spectraderm.json", "config.json", "preprocessor_config.json"
WEIGHTS, ONNX = "model.safetensors", "onnx/model.onnx"
INT8, ONNX_INT8, NOVELTY_INT8 = "int8", "onnx/model_int8.onnx", "novelty_int8.npy"
FINAL = "final"
"""Name of the fold whose model is exported; the folds beside it only measure."""
ORIGINAL = "original"
"""Name of the measuring fold that keeps the folders as they came, copies and all, beside the honest ones."""

Precision = Literal["auto", "int8", "float"]

LOGIT_COLUMNS = ("path", "photo_group", "split", "label")
"""Of `logits.csv`; then one column `logit:<class>` per class, in the order of the model's outputs."""

MAX_FACTS_BYTES, MAX_MODEL_BYTES, MAX_MODEL_FILES = 10_000_000, 2**31, 1000
"""Of `spectraderm.json`, of all files together (protobuf, and so ONNX, ends there), and how many those may be."""

_AGAIN = "Export or download the model folder again"
_PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".ckpt", ".h5", ".keras"}


def fold_folder(run: Path, fold: str) -> Path:
    """Where a run folder keeps the history, checkpoint and logits of one fold."""
    return run / "folds" / fold


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that after a crash there is the old one or the new one, never half of it.

    In a run folder where a stage is at work its checksum is noted. Raises `WriteError`.
    """
    writing.write_file(path, data)
    note(path, data)


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of these files in their order, whole or not at all.

    What is at `target` by then is deleted; whether it may be is for who calls this to check. Raises `WriteError`.
    """
    writing.write_folder(target, files, write_bytes)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, keys in the order given."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """`content` as every JSON file here is written. Raises `ValueError` for a number that JSON does not have."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under a header line; keys that are not columns are an error."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write one NumPy array, never pickled."""
    write_bytes(path, array_bytes(array))


def write_arrays(path: Path, **arrays: npt.NDArray[np.generic]) -> None:
    """Write named NumPy arrays as `.npz`. Its members get no time of day: the same arrays are the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    write_bytes(path, stream.getvalue())


def array_bytes(array: npt.NDArray[np.generic]) -> bytes:
    """An array as every `.npy` file here is written."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def read_array(path: Path, remedy: str) -> npt.NDArray[Any]:
    """Read what `write_array` wrote. Raises `RunFolderError`, with `remedy`, where it is missing or damaged."""
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    return array


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object. Raises `RunFolderError`, with `remedy`, where it is missing or not JSON."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    return json_object(data, str(path), remedy)


def json_object(data: bytes, name: str, remedy: str) -> dict[str, Any]:
    """The JSON object that a file called `name` holds. Raises `RunFolderError`, with `remedy`, where it holds none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{name} can't be read ({error})", remedy) from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{name} is not a JSON object", remedy)
    return content


def read_csv(path: Path, needed: Sequence[str], remedy: str) -> list[dict[str, str]]:
    """Read rows as dictionaries. Raises `RunFolderError`, with `remedy`, where the file or a needed column lacks."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise RunFolderError(f"{path} has no column {', '.join(missing)}", remedy)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RunFolderError(f"{path} can't be read ({error})", remedy) from error
    if any(row[name] is None for row in rows for name in needed):
        raise RunFolderError(f"{path} has a line that is cut short", remedy)
    return rows


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read whole and found unaltered: file contents by relative name."""

    name: str
    files: dict[str, bytes]
    facts: dict[str, Any]

    @property
    def model_id(self) -> str:
        """What its predictions call it."""
        return str(self.facts.get("model_id", self.name))

    def in_precision(self, precision: Precision) -> "ModelFolder":
        """The same model as it answers in 8-bit integers, or in floats; `auto` is integers where it has them.

        Its network, novelty and calibration then are those of that precision, and its predictions are called by it.

        Raises:
            ModelFolderError: it has none in 8-bit integers.
        """
        own: Any = self.facts.get(INT8)
        if precision == "float" or (precision == "auto" and own is None):
            return self
        try:
            files = {**self.files, ONNX: self.files[ONNX_INT8], NOVELTY: self.files[NOVELTY_INT8]}
            facts = {**self.facts, "calibration": own["calibration"], "model_id": f"{self.model_id}-{INT8}"}
        except (KeyError, TypeError) as error:
            raise ModelFolderError(f"{self.name} has no model in 8-bit integers", _AGAIN) from error
        return ModelFolder(self.name, files, facts)

    @property
    def card(self) -> str:
        """The model card, Markdown; empty where it has none."""
        return self.files.get(CARD, b"").decode("utf-8", "replace")

    def json(self, name: str) -> dict[str, Any]:
        """One of its JSON files."""
        try:
            content = json.loads(self.files[name])
        except (KeyError, ValueError, RecursionError) as error:
            raise ModelFolderError(f"{self.name}/{name} is damaged ({error!r})", "Export it again") from error
        if not isinstance(content, dict):
            raise ModelFolderError(f"{self.name}/{name} is not a JSON object")
        return content


def write_model_folder(target: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Write a model folder with its checksums, whole; replaces one that is there, and nothing else."""
    if target.exists():
        read_model_folder(target, only_check=True)
    sums = {name: sha256(data) for name, data in sorted(files.items())}
    write_folder(target, {**files, FACTS: json_bytes({**facts, "sha256": sums})})


def read_model_folder(path: Path, only_check: bool = False) -> ModelFolder:
    """Read a model folder and check every file's SHA-256.

    Raises:
        ModelFolderError: it is not a model folder, a file lacks or leads out of it, or one was altered.
    """
    if path.suffix.lower() in _PICKLES:
        raise ModelFolderError(
            f"{path} is a pickled or Keras model, which can run code when opened",
            "Give a folder that `spectraderm export` wrote",
        )
    if not (path / FACTS).is_file():
        raise ModelFolderError(f"{path} is not a model folder: it has no {FACTS}", "Give one that `export` wrote")
    facts, sums = _read_facts(path)
    files: dict[str, bytes] = {}
    for name, expected in sums.items():
        _check_name(path, name)
        data = _read_part(path, name, MAX_MODEL_BYTES - sum(map(len, files.values())))
        if not only_check and sha256(data) != expected:
            raise ModelFolderError(f"{path / name} was altered: its SHA-256 is not the one in {FACTS}", _AGAIN)
        files[name] = data
    for needed in (MODEL_CONFIG, PREPROCESSOR, ONNX):
        if needed not in files:
            raise ModelFolderError(f"{path} lists no {needed}", _AGAIN)
    return ModelFolder(path.name, files, facts)


def _read_facts(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `spectraderm.json` says, and its checksums by file name."""
    try:
        facts = json.loads(_read_part(path, FACTS, MAX_FACTS_BYTES))
        sums = facts["sha256"]
        if not isinstance(sums, dict) or len(sums) > MAX_MODEL_FILES:
            raise ValueError("sha256 does not list files")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFolderError(f"{path / FACTS} is damaged ({error!r})", _AGAIN) from error
    return facts, sums


def _check_name(path: Path, name: str) -> None:
    """Raise `ModelFolderError` for what is no name of a file in the folder, or that of a pickled model."""
    if not name.isprintable() or Path(name).is_absolute() or ".." in Path(name).parts:
        raise ModelFolderError(f"{path / FACTS} names a file outside the model folder: {name!r}", _AGAIN)
    if Path(name).suffix.lower() in _PICKLES:
        raise ModelFolderError(f"{path / FACTS} lists {name}, which can run code when opened", _AGAIN)


def _read_part(path: Path, name: str, most: int) -> bytes:
    """A file of the folder. Links may lead about inside, or to where the Hugging Face Hub keeps what it downloads."""
    file = Path(os.path.realpath(path / name))
    homes = [Path(os.path.realpath(path))]
    if homes[0].parent.name == "snapshots":
        homes.append(homes[0].parent.parent / "blobs")
    if not any(file.is_relative_to(home) for home in homes):
        raise ModelFolderError(f"{path / name} is a link out of the model folder, which is not followed", _AGAIN)
    try:
        return read_regular(file, most)
    except FileNotFoundError as error:
        raise ModelFolderError(f"{path / name} is missing", _AGAIN) from error
    except OSError as error:
        raise ModelFolderError(f"{path / name} can't be read ({error.strerror})", _AGAIN) from error
