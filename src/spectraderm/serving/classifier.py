"""A model folder, opened and checked -> a `Prediction` for a photo, however the photo comes."""

import os
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectraderm import artifacts
from spectraderm.calibration import softmax
from spectraderm.engine import Engine, Floats
from spectraderm.errors import MissingExtra, ModelFolderError, UnreadablePhoto
from spectraderm.preprocessing import (
    MAX_BYTES,
    Pixels,
    Preprocessing,
    check_size,
    decode,
    to_rgb,
    upright,
)

PhotoLike = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path, a file's bytes, a Pillow image, or pixels `uint8[h, w]`, `uint8[h, w, 3]` (RGB) or `uint8[h, w, 4]`."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one photo. Not a diagnosis.

    Attributes:
        label: the most probable class, as its folder was named; `display_name` is the same for people.
        probability: the model's for `label`, 0 to 1. Softmax of the logits, not yet calibrated: it tends to be
            too sure of itself.
        probabilities: for every class, most probable first.
        heatmap: rows of numbers in 0..1, top to bottom: where in the model's input the evidence for `label` lies.
        model_id: which model said so.
    """

    label: str
    display_name: str
    probability: float
    probabilities: dict[str, float]
    heatmap: list[list[float]]
    model_id: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self)


class Classifier:
    """A loaded model. Make one with `load_model`.

    Attributes:
        labels: the classes, in the order of the logits.
        preprocessing: how photos become its input.
        facts: what `spectraderm.json` says: recipe, backbone, measured parity, checksums.
    """

    def __init__(self, folder: artifacts.ModelFolder, threads: int = 0) -> None:
        self.facts = folder.facts
        self.preprocessing = Preprocessing.from_hub(folder.json(artifacts.PREPROCESSOR))
        self.model_id = str(folder.facts.get("model_id", folder.name))
        self.engine = Engine(folder.files[artifacts.ONNX], f"{folder.name}/{artifacts.ONNX}", threads)
        try:
            names = folder.json(artifacts.MODEL_CONFIG)["id2label"]
            self.labels: list[str] = [str(names[str(number)]) for number in range(len(names))]
            display = dict(folder.facts.get("display_names", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFolderError(
                f"{folder.name}: its class names are damaged ({error!r})", "Export it again"
            ) from error
        if (self.engine.size, self.engine.classes) != (self.preprocessing.size, len(self.labels)):
            raise ModelFolderError(f"{folder.name}: its files do not belong together", "Export it again")
        self._display = {label: str(display.get(label, label)) for label in self.labels}

    @overload
    def predict(self, photo: PhotoLike) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, photo: Sequence[PhotoLike]) -> list[Prediction]: ...

    def predict(self, photo: PhotoLike | Sequence[PhotoLike]) -> Prediction | list[Prediction]:
        """Classify one photo, or a list of photos.

        Raises:
            UnreadablePhoto: the photo can't be decoded; names it and says why.
            MissingExtra: a HEIC photo without the `heic` extra.
        """
        if isinstance(photo, Sequence) and not isinstance(photo, (str, bytes)):
            return [self._predict(one) for one in photo]
        return self._predict(photo)

    def display_name(self, label: str) -> str:
        """A class's name for people."""
        return self._display.get(label, label)

    def pixels(self, photo: PhotoLike) -> Pixels:
        """The model's input for a photo: `uint8[size, size, 3]`."""
        if isinstance(photo, Image.Image):
            image = _from_pillow(photo)
        elif isinstance(photo, np.ndarray):
            image = to_rgb(_from_array(photo))
        elif isinstance(photo, bytes):
            image = decode(photo).image
        else:
            image = decode(_read(Path(photo)), str(photo)).image
        return self.preprocessing(image)

    def _predict(self, photo: PhotoLike) -> Prediction:
        answer = self.engine(self.pixels(photo)[None])
        probabilities = softmax(answer.logits)[0]
        order = np.argsort(-probabilities, kind="stable")
        label = self.labels[order[0]]
        return Prediction(
            label=label,
            display_name=self.display_name(label),
            probability=float(probabilities[order[0]]),
            probabilities={self.labels[i]: float(probabilities[i]) for i in order},
            heatmap=_heatmap(answer.maps[0, order[0]]),
            model_id=self.model_id,
        )


def load_model(source: str | os.PathLike[str] | None = None, threads: int = 0) -> Classifier:
    """Open a model and check that it is whole and unaltered.

    Args:
        source: a model folder, the Hub id of one (`owner/name`, needs the `hub` extra and a connection), or None
            for the default model that comes with the package.
        threads: how many threads one photo may use; 0 is one per core.

    Raises:
        ModelFolderError: no such folder, or it is incomplete, altered, or of a kind that is never opened.
    """
    if source is None:
        path = Path(str(resources.files("spectraderm") / "default_model"))
    else:
        path = Path(source)
        try:
            here = path.exists()
        except OSError as error:  # such as a name that is too long
            raise ModelFolderError(f"{source}: {error.strerror}", "Check the path") from error
        path = path if here else _from_hub(str(source))
    return Classifier(artifacts.read_model_folder(path), threads)


def _heatmap(evidence: Floats) -> list[list[float]]:
    positive = np.maximum(evidence, 0)
    peak = float(positive.max())
    return np.round(positive / peak if peak > 0 else positive, 4).astype(float).tolist()  # type: ignore[no-any-return]


def _read(path: Path) -> bytes:
    """A file's bytes; what has no end or would wait for a writer, such as a pipe, is refused."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UnreadablePhoto(f"{path}: not a file", "Check the path")
        if about.st_size > MAX_BYTES:
            raise UnreadablePhoto(f"{path}: more than {MAX_BYTES // 1_000_000} MB", "Scale it down")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise UnreadablePhoto(f"{path}: {getattr(error, 'strerror', error)}", "Check the path") from error


def _from_pillow(photo: Image.Image) -> Image.Image:
    check_size(*photo.size, "the image")
    try:
        return to_rgb(upright(photo), "the image")
    except UnreadablePhoto:
        raise
    except Exception as error:  # Pillow decodes late, and raises nearly anything on damaged bytes
        raise UnreadablePhoto(f"the image can't be decoded ({error})") from error


def _from_array(array: npt.NDArray[np.uint8]) -> Image.Image:
    grey, colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour):
        raise UnreadablePhoto(
            f"an array of {array.dtype}{list(array.shape)} is not a photo",
            "Give uint8[h, w], uint8[h, w, 3] in RGB order, or uint8[h, w, 4]",
        )
    check_size(array.shape[1], array.shape[0], "the array")
    return Image.fromarray(array)


def _from_hub(name: str) -> Path:
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelFolderError(f"there is no model folder {name}", "Give a folder that `spectraderm export` wrote")
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra(f"there is no folder {name}, and what asks the Hub", "hub") from error
    try:
        return Path(snapshot_download(name))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, ValueError) as error:
        raise ModelFolderError(
            f"there is no folder {name}, and the Hugging Face Hub does not give it "
            f"({(str(error).strip() or repr(error)).splitlines()[0]})",
            "Check the name and the connection",
        ) from error
