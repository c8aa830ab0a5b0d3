"""A model folder, opened and checked -> a `Prediction` for a photo, however the photo comes."""

import copy
import os
from collections.abc import Sequence
from typing import overload

import numpy as np
from PIL import Image

from spectraderm.core.errors import ModelFolderError
from spectraderm.images import perceptual_hash as hashing
from spectraderm.images.opening import PhotoLike, open_photo
from spectraderm.images.preprocessing import Pixels
from spectraderm.images.quality import flaws, measure
from spectraderm.inference.calibration import VERDICTS, References
from spectraderm.inference.engine import Answer, Engine, Floats
from spectraderm.inference.model_folder import ONNX, ModelFolder, open_model
from spectraderm.inference.prediction import Prediction, unusable
from spectraderm.inference.reasons import reason

_AGAIN = "Export or download it again"
__all__ = ["Classifier", "PhotoLike", "Prediction", "load_model"]


class Classifier:
    """A loaded model. Make one with `load_model`.

    Attributes:
        labels: the classes, in the order of the logits.
        preprocessing: how photos become its input.
        calibration: the settings of its verdicts.
        folder: the model folder that it was made from, which says all else of the model.
    """

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        self.folder, self._threads = folder, threads
        self.labels, self.model_id, self.calibration = folder.labels, folder.model_id, folder.calibration
        self.preprocessing = folder.preprocessing
        self.engine = self._engine(threads)
        self._references = References(folder.references)
        if (self.engine.size, self.engine.classes) != (self.preprocessing.size, len(self.labels)):
            raise self._apart()

    @overload
    def predict(self, photo: PhotoLike) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, photo: Sequence[PhotoLike]) -> list[Prediction]: ...

    def predict(self, photo: PhotoLike | Sequence[PhotoLike]) -> Prediction | list[Prediction]:
        """Classify one photo, or a list of photos.

        Raises:
            UnreadablePhoto: the photo can't be decoded; names it and says why.
            MissingExtra: a HEIC photo without the `heic` extra.
            ModelFolderError: the model's weights are damaged, so that it answers with what is no number.
        """
        if isinstance(photo, Sequence) and not isinstance(photo, (str, bytes)):
            return [self._predict(self._open(one)) for one in photo]
        return self._predict(self._open(photo))

    def for_many(self) -> tuple["Classifier", int]:
        """The same model as it answers many photos fastest, and how many threads are to ask it at once.

        Where no number of threads was asked for, it is found once per machine; see `tuning`.
        """
        from spectraderm.inference.tuning import tuned  # noqa: PLC0415

        choice = None if self._threads else tuned(self.folder.network, f"{self.folder.path.name}/{ONNX}")
        streams, each = (choice.streams, choice.stream_threads) if choice else (self._threads, 1)
        if streams == 1:
            return self, 1
        many = copy.copy(self)
        many.engine = self._engine(each, streams)
        return many, streams

    def display_name(self, label: str) -> str:
        """A class's name for people."""
        return self.folder.display_names.get(label, label)

    def pixels(self, photo: PhotoLike) -> Pixels:
        """The model's input for a photo: `uint8[size, size, 3]`."""
        return self.preprocessing(self._open(photo))

    def _engine(self, threads: int, streams: int = 1) -> Engine:
        return Engine(self.folder.network, f"{self.folder.path.name}/{ONNX}", threads, streams=streams)

    def _open(self, photo: PhotoLike) -> Image.Image:
        return open_photo(photo, self.preprocessing.shortest_side)

    def _predict(self, image: Image.Image) -> Prediction:
        against = [flaw for flaw in flaws(measure(image), *image.size) if flaw.unusable]
        if against:
            why = f"{against[0].reason} {against[0].remedy}"
            return unusable(why, self.calibration.coverage, self.model_id)
        answer = self.engine(self.preprocessing(image)[None])
        if answer.features.shape[1] != self._references.channels:
            raise self._apart()
        if not all(np.isfinite(part).all() for part in (answer.logits, answer.features, answer.maps)):
            raise ModelFolderError(f"{self.model_id} answers with what is no number", _AGAIN)
        seen = hashing.nearest(hashing.turned_hashes(image), self.folder.training_hashes) <= hashing.MAX_DISTANCE
        return self._judge(answer, seen)

    def _judge(self, answer: Answer, in_training: bool) -> Prediction:
        strange = self._references.novelty(answer.features)
        judged = self.calibration.judge(answer.logits, strange)
        probabilities = judged.probabilities[0]
        if not np.isfinite([*probabilities, *strange]).all():
            raise ModelFolderError(f"{self.model_id} answers with what is no number", _AGAIN)
        order = np.argsort(-probabilities, kind="stable")
        verdict, label = VERDICTS[judged.verdicts[0]], self.labels[order[0]]
        fitting = [self.labels[number] for number in order if judged.sets[0, number]]
        names, probability = [self.display_name(one) for one in fitting], float(probabilities[order[0]])
        return Prediction(
            verdict=verdict,
            reason=reason(verdict, names, probability, self.calibration, len(self.labels)),
            label=label,
            display_name=self.display_name(label),
            probability=probability,
            probabilities={self.labels[number]: float(probabilities[number]) for number in order},
            prediction_set=fitting,
            coverage=self.calibration.coverage,
            novelty=float(strange[0]),
            in_training=in_training,
            heatmap=_heatmap(answer.maps[0, order[0]]),
            model_id=self.model_id,
        )

    def _apart(self) -> ModelFolderError:
        return ModelFolderError(f"{self.model_id}: its files do not belong together", "Export it again")


def load_model(source: str | os.PathLike[str] | None = None, threads: int = 0) -> Classifier:
    """Open a model and check that it is whole and unaltered.

    Args:
        source: a model folder, the Hub id of one (`owner/name`, needs the `hub` extra and a connection), or None
            for the default model that comes with the package.
        threads: how many threads one photo may use; 0 is one per core.

    Raises:
        ModelFolderError: no such folder, or it is incomplete, altered, or of a kind that is never opened.
    """
    return Classifier(open_model(source), threads)


def _heatmap(evidence: Floats) -> list[list[float]]:
    positive = np.maximum(evidence, 0)
    peak = float(positive.max())
    return np.round(positive / peak if peak > 0 else positive, 4).astype(float).tolist()  # type: ignore[no-any-return]
