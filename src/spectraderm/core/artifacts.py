"""Run folders: names, columns, checksums, and writes that are whole or not there at all.

Knows nothing of what the files mean; the stages that write them do.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import files as writing
from spectraderm.core.checksums import note
from spectraderm.core.errors import RunFolderError

MANIFEST, AUDIT, SPLIT = "manifest.csv", "audit.json", "split.csv"
COPIES, MEASUREMENTS, GALLERY = "copies.csv", "measurements.npz", "gallery.html"
CONFIG, ENVIRONMENT = "config.json", "environment.json"
HISTORY, CURVES, LOGITS = "history.csv", "curves.png", "logits.csv"
STATE, CHECKPOINT = "state.safetensors", "checkpoint.safetensors"
FEATURES, HEATMAPS = "features.npy", "heatmaps.npz"
CALIBRATION = "calibration.json"
NOVELTY = "novelty.npy"
EVALUATION, REPORT, CARD = "evaluation.json", "report.html", "README.md"
MODEL, MODEL_INT8 = "model", "model-int8"
CACHE, OUTSIDE, LEDGER = "cache", "outside", "test_ledger.csv"
FINAL = "final"
"""Name of the fold whose model is exported; the folds beside it only measure."""
ORIGINAL = "original"
"""Name of the measuring fold that keeps the folders as they came, copies and all, beside the honest ones."""

LOGIT_COLUMNS = ("path", "photo_group", "split", "label")
"""Of `logits.csv`; then one column `logit:<class>` per class, in the order of the model's outputs."""


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
