"""The default model: whether it is whole, what it runs on, and whether a painted photo gets through it."""

import io
import math
import time
from collections.abc import Iterator

import numpy as np
from PIL import Image

from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.cli.doctor.room import size
from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.inference.batch import FEW
from spectraderm.inference.classifier import Classifier
from spectraderm.inference.finding import find_model
from spectraderm.inference.prediction import Prediction
from spectraderm.inference.remembering import remembered
from spectraderm.inference.runtimes import AUTO, VARIABLE, Choice, asked, usual

THEME = "Predictions"
_AGAIN = "pip install --force-reinstall --no-deps spectraderm"


def predicting() -> Iterator[Fact]:
    """What will classify photos here, tried once."""
    try:
        whole = artifacts.read_model_folder(find_model(None))
        folder = whole.in_precision("auto")
    except SpectraDermError as error:
        yield Fact(THEME, "default model", error.problem, State.broken, _AGAIN)
        return
    sizes = sum(map(len, whole.files.values()))
    yield Fact(THEME, "default model", f"{folder.model_id}: {len(whole.files)} files, {size(sizes)}, checksums right")
    integers = folder.files[artifacts.ONNX] is not whole.files[artifacts.ONNX]
    told = "8-bit integers; 32-bit floats with --precision float" if integers else "32-bit floats"
    yield Fact(THEME, "precision", told)
    yield from _answers(folder)


def _answers(folder: artifacts.ModelFolder) -> Iterator[Fact]:
    try:
        classifier, photo = Classifier(folder), painted()
        classifier.predict(photo)  # the first is slower: memory is taken, and threads are started
        began = time.perf_counter()
        prediction = classifier.predict(photo)
        seconds = time.perf_counter() - began
    except SpectraDermError as error:
        yield Fact(THEME, "a painted photo", error.problem, State.broken, error.remedy or _AGAIN)
        return
    yield engine(classifier.engine.runtime, classifier.engine.note)
    yield threads(asked(), remembered(folder.files[artifacts.ONNX]))
    yield judged(prediction, len(classifier.labels), seconds)


def engine(runtime: str, note: str) -> Fact:
    """The runtime that answers, and why it is not another."""
    if note:
        return Fact(THEME, "engine", note, State.warning, f"unset {VARIABLE}, or mend what it names")
    return Fact(THEME, "engine", runtime + (f" (by {VARIABLE})" if asked() != AUTO else ""))


def threads(wanted: str, found: Choice | None) -> Fact:
    """How many will work, and whether that was measured here."""
    choice = found if found and wanted == AUTO else usual()
    one = f"{choice.threads or 'all cores'} for a photo"
    told = f"{one}; with more than {FEW} photos {choice.streams} at once, {choice.stream_threads} each"
    if wanted != AUTO:
        return Fact(THEME, "threads", told)
    how = "found fastest on this machine" if found else "what is usual: others are tried with the first many photos"
    return Fact(THEME, "threads", f"{told} ({how})")


def judged(prediction: Prediction, classes: int, seconds: float) -> Fact:
    """Whether the answer is one: probabilities of every class that sum to 1."""
    name, values = "a painted photo", list(prediction.probabilities.values())
    if len(values) != classes or not math.isclose(math.fsum(values), 1, abs_tol=1e-4):
        told = f"{prediction.verdict}, with probabilities that are none"
        return Fact(THEME, name, told, State.broken, "Install another version of onnxruntime")
    return Fact(THEME, name, f"{prediction.verdict.replace('_', ' ')}, in {1000 * seconds:.0f} ms")


def painted() -> bytes:
    """A JPEG of soft coloured patches, good enough for the gate."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()
