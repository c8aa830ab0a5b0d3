"""The name of a model -> its folder, read whole and checked: here, in the package, or on the Hugging Face Hub.

Every file's SHA-256 is compared, nothing outside the folder is read, and what could run code is never opened. All that
a door tells of its model comes from here, without loading the network.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spectraderm.core import OTHER, of_hub
from spectraderm.core.errors import ModelFolderError, RecipeError, WrongArgument, needs, remedy_of
from spectraderm.core.files import json_bytes, sha256, write_folder
from spectraderm.core.names import check_name, tell_apart
from spectraderm.images.perceptual_hash import Hashes
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.inference import model_files
from spectraderm.inference.calibration import Calibrations, Features
from spectraderm.inference.model_files import AGAIN, PICKLES, ModelFiles, read_part
from spectraderm.inference.network_bounds import check_network

FACTS, WEIGHTS, ONNX = model_files.FACTS, model_files.WEIGHTS, model_files.ONNX
MODEL_CONFIG, PREPROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
MODELING = "modeling_spectraderm.py"
"""Code that transformers runs where it is told to trust a folder. It is listed, compared, and never imported here."""
NOVELTY, HASHES, STATISTICS = "novelty.npy", "training_photos.npy", model_files.STATISTICS
DEFAULT = "default"
"""Name of the model that comes with the package, unless a folder of that name is here."""

MAX_JSON_BYTES, MAX_MODEL_FILES, MAX_CLASSES = 2_000_000, 1000, 10_000
"""Of a JSON file; how many files there may be, and classes."""

_RENAME = "Rename the folder of the class, then train and export again; of a model of others, tell them"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read whole, found unaltered, and understood.

    Attributes:
        path: where it is.
        hub: its id on the Hugging Face Hub; empty where it was read from a folder.
        files: the content of every file by relative name, `spectraderm.json` among them.
        facts: what `spectraderm.json` says: recipe, backbone, measured parity, checksums.
        model_id: what its predictions call it.
        labels: the classes, in the order of the logits.
        display_names: by label, names for people.
        calibrations: the settings of its verdicts, at home and elsewhere.
        references: features `float[m, channels]` of training photos, one of every photo group, of 16 or 32 bits.
        training_hashes: perceptual hashes `uint8[n, 8]` of the photos that it learned from.
        preprocessing: how photos become its input.
    """

    path: Path
    hub: str
    files: Mapping[str, bytes]
    facts: dict[str, Any]
    model_id: str
    labels: list[str]
    display_names: dict[str, str]
    calibrations: Calibrations
    references: Features
    training_hashes: Hashes
    preprocessing: Preprocessing

    @property
    def conditions(self) -> list[str]:
        """The classes that it can name: all but `other`."""
        return [label for label in self.labels if label != OTHER]

    @property
    def network(self) -> bytes:
        """The network, ONNX."""
        return self.files[ONNX]

    def check_network(self) -> None:
        """Raise `ModelFolderError` where the network is none that a runtime should load."""
        check_network(self.network, f"{self.path.name}/{ONNX}")

    @property
    def card(self) -> str:
        """The model card, Markdown; empty where it has none."""
        return self.files.get(CARD, b"").decode("utf-8", "replace")


def open_model(source: str | os.PathLike[str] | None = None) -> ModelFolder:
    """Find a model and read it; see `find_model` and `read_model_folder`."""
    here = _here(source)
    return read_model_folder(here or _from_hub(str(source)), "" if here else str(source))


def find_model(source: str | os.PathLike[str] | None = None) -> Path:
    """The folder of a model: every door calls its model as this does.

    Args:
        source: a folder; None or `default` for the model that comes with the package (a folder called `default` comes
            first); or else its id on the Hugging Face Hub, `owner/name@revision`, from where it is downloaded.

    Raises:
        ModelFolderError: there is none of that name.
        MissingExtra: it is none of the first two, and the `hub` extra is not installed.
    """
    return _here(source) or _from_hub(str(source))


def check_model(source: str | os.PathLike[str] | None) -> None:
    """Raise `ModelFolderError`, before anything takes long, where a model is not here and can't be on the Hub."""
    if _here(source) is None:
        _check_hub_id(str(source))


def is_model_folder(source: str | os.PathLike[str]) -> bool:
    """Whether this names a model folder on this machine, whole or not."""
    here = _here(source)
    return here is not None and (here / FACTS).is_file()


def read_model_folder(path: Path, hub: str = "") -> ModelFolder:
    """Read a model folder and check it; `hub` is its id, where it was downloaded.

    Raises:
        ModelFolderError: it is not a model folder, a file lacks, is damaged or leads out of it, or one was altered.
    """
    data, facts, sums = _read_facts(path)
    files = ModelFiles(path, sums, data)
    for needed in (MODEL_CONFIG, PREPROCESSOR, ONNX):
        if needed not in files:
            raise ModelFolderError(f"{path} lists no {needed}", AGAIN)
    settings = facts.get("calibration")
    flat = isinstance(settings, dict) and "temperature" in settings
    if settings is None or flat or not {NOVELTY, HASHES} <= files.keys():
        raise ModelFolderError(
            f"{path.name} has no calibration: an earlier version exported it",
            "Train again with this one, or run `spectraderm calibrate`, `evaluate` and `export` on its run folder",
        )
    return _parse(path, hub, files, facts)


def write_model_folder(target: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> None:
    """Write a model folder with its checksums, whole; replaces a model folder that is there, and nothing else."""
    if target.exists():
        _read_facts(target)
    sums = {name: sha256(data) for name, data in sorted(files.items())}
    write_folder(target, {**files, FACTS: json_bytes({**facts, "sha256": sums})})


def _here(source: str | os.PathLike[str] | None) -> Path | None:
    """The folder of a model on this machine; None where there is no folder or file of that name."""
    if not isinstance(source, str | os.PathLike | None) or not str(source).strip():
        raise WrongArgument(f"{source!r} names no model", "Give a folder, as text or `Path`, or an id of the Hub")
    try:
        if source is not None and (path := Path(os.fsdecode(source)).expanduser()).exists():
            return path
    except (OSError, RuntimeError) as error:  # such as a name that is too long, or `~` of nobody
        raise ModelFolderError(f"{source}: {getattr(error, 'strerror', error)}", "Check the path") from error
    if source is None or str(source) == DEFAULT:
        return Path(__file__).parents[1] / "default_model"
    return None


def _check_hub_id(name: str) -> None:
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        remedy = remedy_of(name, "Give a folder that `spectraderm export` wrote, or `OWNER/NAME`")
        raise ModelFolderError(f"there is no model folder {name}", remedy)


def _from_hub(name: str) -> Path:
    _check_hub_id(name)
    with needs("hub", f"there is no folder {name}, and what asks the Hub"):
        from huggingface_hub import snapshot_download  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    try:
        repository, revision = of_hub(name)
        return Path(snapshot_download(repository, revision=revision))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise ModelFolderError(
            f"there is no folder {name}, and the Hugging Face Hub does not give it "
            f"({(str(error).strip() or repr(error)).splitlines()[0]})",
            "Check the name and the connection",
        ) from error


def _read_facts(path: Path) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The bytes of `spectraderm.json`, what it says, and its checksums by file name."""
    if path.suffix.lower() in PICKLES:
        raise ModelFolderError(
            f"{path} is a pickled or Keras model, which can run code when opened",
            "Give a folder that `spectraderm export` wrote",
        )
    if not (path / FACTS).is_file():
        raise ModelFolderError(f"{path} is not a model folder: it has no {FACTS}", "Give one that `export` wrote")
    data = read_part(path, FACTS, MAX_JSON_BYTES)
    with _understood(f"{path / FACTS} is damaged"):
        facts = _json(data)
        sums = facts["sha256"]
        if not isinstance(sums, dict) or len(sums) > MAX_MODEL_FILES:
            raise ValueError("sha256 does not list files")
    return data, facts, sums


def _parse(path: Path, hub: str, files: ModelFiles, facts: dict[str, Any]) -> ModelFolder:
    """A `ModelFolder` of unaltered files. Raises `ModelFolderError` where one is damaged."""
    with _understood(f"{path.name}/{MODEL_CONFIG} names no classes"):
        names = _json(files[MODEL_CONFIG])["id2label"]
        labels = [str(names[str(number)]) for number in range(len(names))]
        if not 0 < len(set(labels)) == len(labels) <= MAX_CLASSES:
            raise ValueError(f"a class twice, none, or more than {MAX_CLASSES}")
    with _understood(f"{path.name}/{FACTS}: its calibration is damaged"):
        calibrations = Calibrations.from_dict(facts["calibration"])
        if len(calibrations.home.thresholds) != len(labels):
            raise ValueError(f"{len(calibrations.home.thresholds)} thresholds of {len(labels)} classes")
    with _understood(f"{path.name}/{PREPROCESSOR} is damaged"):
        preprocessing = Preprocessing.from_hub(_json(files[PREPROCESSOR]))
    with _understood(f"{path.name}/{NOVELTY} does not hold features"), np.errstate(over="ignore"):
        array = _array(files[NOVELTY])
        references: Features = np.empty(0, np.float32)
        if array.dtype.kind == "f":
            references = array.astype(np.float16) if array.dtype == np.float16 else array.astype(np.float32)
        if references.ndim != 2 or not references.size or not np.isfinite(references).all():
            raise ValueError(f"{array.dtype}{list(array.shape)}")
        files.let_go(NOVELTY)  # the array is all of it
    with _understood(f"{path.name}/{HASHES} does not hold hashes"):
        hashes = _array(files[HASHES])
        if hashes.dtype != np.uint8 or hashes.ndim != 2 or hashes.shape[1] != 8:
            raise ValueError(f"{hashes.dtype}{list(hashes.shape)}")
    named = facts.get("display_names")
    display_names = {label: str(named.get(label, label)) if isinstance(named, dict) else label for label in labels}
    model_id = str(facts.get("model_id", path.name))
    for name in (*labels, *display_names.values()):
        check_name(name, path.name, _RENAME, ModelFolderError)
    check_name(model_id, path.name, AGAIN, ModelFolderError)
    names = (model_id, labels, tell_apart(display_names))
    return ModelFolder(
        path, hub, files, facts, *names, calibrations, references, hashes.astype(np.uint8), preprocessing
    )


@contextmanager
def _understood(problem: str) -> Iterator[None]:
    """Turn what Python raises on content of another kind into a `ModelFolderError`."""
    try:
        yield
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError, RecipeError) as error:
        raise ModelFolderError(f"{problem} ({error!r})", AGAIN) from error


def _json(data: bytes) -> Any:  # noqa: ANN401
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"more than {MAX_JSON_BYTES // 1_000_000} MB")
    return json.loads(data, parse_constant=int)  # raises `ValueError` for NaN and infinities


def _array(data: bytes) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy raises nearly anything on damaged bytes
        raise ValueError(f"no NumPy array: {error}") from error
    return array
