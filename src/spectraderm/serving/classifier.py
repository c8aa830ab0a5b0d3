"""A model folder, opened and checked -> a `Prediction` for a photo, however the photo comes."""

import os
from collections.abc import Sequence
from typing import overload

import numpy as np
from PIL import Image

from spectraderm import artifacts, hashing
from spectraderm.calibration import VERDICTS, novelty
from spectraderm.engine import Answer, Engine, Floats
from spectraderm.errors import ModelFolderError
from spectraderm.preprocessing import Pixels
from spectraderm.quality import flaws, measure
from spectraderm.serving import learned
from spectraderm.serving.finding import find_model
from spectraderm.serving.opening import PhotoLike, open_photo
from spectraderm.serving.prediction import Prediction, unusable
from spectraderm.serving.reasons import reason

_AGAIN = "Export or download it again"
__all__ = ["Classifier", "PhotoLike", "Prediction", "load_model"]


class Classifier:
    """A loaded model. Make one with `load_model`.

    Attributes:
        labels: the classes, in the order of the logits.
        preprocessing: how photos become its input.
        calibration: the settings of its verdicts.
        facts: what `spectraderm.json` says: recipe, backbone, measured parity, checksums.
    """

    def __init__(self, folder: artifacts.ModelFolder, threads: int = 0) -> None:
        self.facts = folder.facts
        self.model_id = folder.model_id
        self._learned = learned.read(folder)
        self.preprocessing = self._learned.preprocessing
        self.engine = Engine(folder.files[artifacts.ONNX], f"{folder.name}/{artifacts.ONNX}", threads)
        self.labels, self.calibration = self._learned.labels, self._learned.calibration
        if not self._belongs_together():
            raise ModelFolderError(f"{folder.name}: its files do not belong together", "Export it again")

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
            return [self._predict(open_photo(one)) for one in photo]
        return self._predict(open_photo(photo))

    def display_name(self, label: str) -> str:
        """A class's name for people."""
        return self._learned.display.get(label, label)

    def pixels(self, photo: PhotoLike) -> Pixels:
        """The model's input for a photo: `uint8[size, size, 3]`."""
        return self.preprocessing(open_photo(photo))

    def _predict(self, image: Image.Image) -> Prediction:
        against = [flaw for flaw in flaws(measure(image), *image.size) if flaw.unusable]
        if against:
            why = f"{against[0].reason} {against[0].remedy}"
            return unusable(why, self.calibration.coverage, self.model_id)
        answer = self.engine(self.preprocessing(image)[None])
        if not all(np.isfinite(part).all() for part in (answer.logits, answer.features, answer.maps)):
            raise ModelFolderError(f"{self.model_id} answers with what is no number", _AGAIN)
        seen = hashing.nearest(hashing.turned_hashes(image), self._learned.known) <= hashing.MAX_DISTANCE
        return self._judge(answer, seen)

    def _judge(self, answer: Answer, in_training: bool) -> Prediction:
        strange = novelty(answer.features, self._learned.references)
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

    def _belongs_together(self) -> bool:
        size = self.preprocessing.size
        if self.engine.size != size or self.engine.classes != len(self.labels):
            return False
        channels = self.engine(np.zeros((1, size, size, 3), np.uint8)).features.shape[1]
        return bool(channels == self._learned.references.shape[1])


def load_model(source: str | os.PathLike[str] | None = None, threads: int = 0) -> Classifier:
    """Open a model and check that it is whole and unaltered.

    Args:
        source: a model folder, the Hub id of one (`owner/name`, needs the `hub` extra and a connection), or None
            for the default model that comes with the package.
        threads: how many threads one photo may use; 0 is one per core.

    Raises:
        ModelFolderError: no such folder, or it is incomplete, altered, or of a kind that is never opened.
    """
    return Classifier(artifacts.read_model_folder(find_model(source)), threads)


def _heatmap(evidence: Floats) -> list[list[float]]:
    positive = np.maximum(evidence, 0)
    peak = float(positive.max())
    return np.round(positive / peak if peak > 0 else positive, 4).astype(float).tolist()  # type: ignore[no-any-return]
