"""A model folder, opened and checked -> a `Prediction` for a photo, however the photo comes."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args, overload

import numpy as np
from PIL import Image

from spectraderm.core import Choice, other_of
from spectraderm.core.errors import ModelFolderError, SpectraDermError, WrongArgument
from spectraderm.images.decoding import PhotoLike, open_photo, return_memory
from spectraderm.images.perceptual_hash import MAX_DISTANCE, Hashes, nearest, turned_hashes
from spectraderm.images.preprocessing import Pixels
from spectraderm.images.quality import flaws, measure
from spectraderm.inference.calibration import Reals, References
from spectraderm.inference.engine import FLOATS, FP32, ONNXRUNTIME, Answer, Engine, Runtime
from spectraderm.inference.model_folder import ONNX, ModelFolder, open_model, read_model_folder
from spectraderm.inference.prediction import Prediction, worded

__all__ = ["Classifier", "Prediction", "load_model"]

T = TypeVar("T")
R = TypeVar("R")

Opened = tuple[Image.Image, Hashes | None]
"""An upright RGB photo, and its `turned_hashes` where they are known."""

FEW = 32
"""So many photos are done before another engine, for many, would have been loaded."""
MAX_THREADS = 1024
_MOST_STREAMS = 8
"""Each holds a decoded photo and the network's maps in memory."""


class Classifier:
    """A loaded model. Make one with `load_model`.

    Attributes:
        folder: the model folder that it was made from, which says all else of the model.
        labels: the classes, in the order of the logits.
        model_id: what its predictions call it.
        preprocessing: how photos become its input.
        calibrations: the settings of its verdicts, at home and elsewhere.
        calibration: which of them judge: `home`, `elsewhere`, or by `auto` what `Calibrations.choose` says.
    """

    def __init__(
        self, folder: ModelFolder, threads: int = 0, runtime: Runtime = FLOATS, calibration: Choice = "auto"
    ) -> None:
        self.folder, self._threads, self._runtime = folder, threads, runtime
        self.labels, self.model_id = folder.labels, folder.model_id
        self.calibrations, self.preprocessing, self.calibration = folder.calibrations, folder.preprocessing, calibration
        if isinstance(threads, bool) or not isinstance(threads, int) or not 0 <= threads <= MAX_THREADS:
            raise WrongArgument(f"threads can't be {threads!r}", f"Give a whole number from 0 to {MAX_THREADS}")
        if calibration not in get_args(Choice):
            raise WrongArgument(
                f"there is no calibration {calibration!r}", f"Give one of {', '.join(get_args(Choice))}"
            )
        if calibration == "elsewhere" and folder.calibrations.elsewhere is None:
            raise ModelFolderError(
                f"{self.model_id} was never calibrated on photos from elsewhere",
                "Run `spectraderm calibrate MODEL --external PHOTOS`, or ask for `auto` or `home`",
            )
        self._references = References(folder.references)

    @cached_property
    def engine(self) -> Engine:
        """What computes the network. It is opened when it is first asked for, and by `load_model` at once."""
        return self._engine(self._threads)

    @overload
    def predict(self, photo: PhotoLike) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, photo: Iterator[PhotoLike]) -> Iterator[Prediction]: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, photo: Iterable[PhotoLike]) -> list[Prediction]: ...

    def predict(self, photo: Any) -> Any:
        """Classify a photo, or many. Calling the model does the same.

        Args:
            photo: a path, a file's bytes, an open binary file, a Pillow image, or pixels `uint8[h, w]`,
                `uint8[h, w, 3]` (RGB) or `uint8[h, w, 4]`. Many are a folder (with all below it), a glob, a list or an
                iterator of any of these. Write `predict([folder])` for a type checker to know that they are many.

        Returns:
            A `Prediction`; of many a list of them, and of an iterator an iterator, which asks for a few photos more
            than it has answered. Among many, a photo that can't be read is an `unusable_photo` whose `error` says why.

        Raises:
            UnreadablePhoto: the one photo can't be decoded; names it and says why. Or a folder or glob holds none.
            MissingExtra: the one photo is a HEIC without the `heic` extra.
            ModelFolderError: the model's weights are damaged, so that it answers with what is no number.
        """
        from spectraderm.inference.photos_given import as_many, entries  # noqa: PLC0415 - not for the command line

        many = as_many(photo)
        if many is None:
            [entry] = entries(self, [photo])
            if entry.error:
                raise entry.error
            return entry
        as_they_come = isinstance(photo, Iterator)
        answered = (entry for _, entry in self._each((("", one) for one in many), entries, as_they_come=as_they_come))
        return answered if as_they_come else list(answered)

    __call__ = predict

    def predict_opened(self, photos: Iterable[Opened | SpectraDermError]) -> list[Prediction | SpectraDermError]:
        """Classify photos as `open_photo` gives them, each with its `turned_hashes`, or None where they are not known.

        Each is let go before the next is asked for. In place of a photo may come the error of opening it, which is
        returned in place of its prediction. A few at a time take less time than one by one, and are answered alike.
        """
        looked = [photo if isinstance(photo, SpectraDermError) else self._look_at(*photo) for photo in photos]
        asked = [one for one in looked if isinstance(one, _Asked)]
        answers = [self.engine(one.pixels[None]) for one in asked]
        novelties = self._novelties(answers)
        judged = map(self._judged, asked, answers, novelties)
        return [next(judged) if isinstance(one, _Asked) else one for one in looked]

    def predict_each(
        self, photos: Iterable[tuple[str, PhotoLike | SpectraDermError]]
    ) -> Iterator[tuple[str, Prediction | SpectraDermError]]:
        """Classify named photos in order, in memory that does not grow with their number.

        A photo that can't be read gives its error in place of a prediction, as does an error that came with its name.
        A few are taken one after the other, with all threads in the network; where more come, several at once, each
        through all stages by one thread.
        """
        return self._each(photos, lambda model, few: model.predict_opened(map(model.opened, few)))

    def for_many(self) -> tuple["Classifier", int]:
        """The same model for many photos, and how many threads are to call it at once.

        There is one per core, up to eight, which share the cores, or as many as `threads` says, with one core each; and
        one more, which takes its turn while another waits.
        """
        from spectraderm.core.parallel import cores  # noqa: PLC0415

        streams = self._threads or min(cores(), _MOST_STREAMS)
        many = object.__new__(Classifier)
        vars(many).update(vars(self))
        many.engine = self._engine(1 if self._threads else max(cores() // streams, 1), streams)
        return many, streams + 1  # while one waits for Python's lock, another computes

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes: the model folder is opened again there, and must be the same."""
        where = (str(self.folder.path.resolve()), self.folder.hub, self.model_id)
        return _opened_again, (*where, self._threads, self._runtime, self.calibration)

    def __repr__(self) -> str:
        places = "at home and elsewhere" if self.calibrations.elsewhere else "at home"
        return f"Classifier({self.model_id!r}): {len(self.folder.conditions)} conditions, calibrated {places}"

    def display_name(self, label: str) -> str:
        """A class's name for people."""
        return self.folder.display_names.get(label, label)

    def pixels(self, photo: PhotoLike) -> Pixels:
        """The model's input for a photo: `uint8[size, size, 3]`."""
        return self.preprocessing(open_photo(photo, self.preprocessing.shortest_side))

    def opened(self, photo: PhotoLike | SpectraDermError, name: str = "photo") -> Opened | SpectraDermError:
        """A photo as `predict_opened` takes it, or why it can't be read. `name` is what errors call bytes."""
        try:
            if not isinstance(photo, SpectraDermError):
                return open_photo(photo, self.preprocessing.shortest_side, name), None
        except SpectraDermError as error:
            return error
        return photo

    def unusable(self, why: str) -> Prediction:
        """What is said of a photo that no model was asked about."""
        place, settings = self.calibrations.choose(self.calibration, in_training=False)
        return Prediction(
            verdict="unusable_photo",
            reason=why,
            coverage=settings.coverage,
            calibrated_on=place,
            model_id=self.model_id,
        )

    def _engine(self, threads: int, streams: int = 1) -> Engine:
        name = f"{self.folder.path.name}/{ONNX}"
        engine = Engine(self.folder.network, self.preprocessing, name, threads, self._runtime, streams)
        if (engine.size, engine.classes) != (self.preprocessing.size, len(self.labels)):
            raise self._apart()
        return_memory()  # copies of the weights, twice their size, of which loading is done
        return engine

    def _each(
        self,
        photos: Iterable[tuple[str, T]],
        work: Callable[["Classifier", list[T]], Sequence[R]],
        *,
        as_they_come: bool = False,
    ) -> Iterator[tuple[str, R]]:
        """Each photo's name and result. `as_they_come`: the first is answered before another is asked for."""
        coming = iter(photos)
        known = [] if as_they_come else list(islice(coming, FEW + 1))
        if len(known) <= FEW:
            for name, photo in chain(known, islice(coming, FEW)):
                yield name, work(self, [photo])[0]
            known = list(islice(coming, 1))
        if not known:
            return
        from spectraderm.core.parallel import in_chunks  # noqa: PLC0415 - its threads are slow to import

        many, threads = self.for_many()
        named = in_chunks(lambda few: work(many, [photo for _, photo in few]), chain(known, coming), threads)
        for (name, _), result in named:
            yield name, result

    def _look_at(self, image: Image.Image, hashes: Hashes | None) -> "Prediction | _Asked":
        """What the quality gate says against a photo, or else what the model is asked."""
        against = [flaw for flaw in flaws(measure(image), *image.size) if flaw.unusable]
        if against:
            return self.unusable(f"{against[0].reason} {against[0].remedy}")
        return _Asked(self.preprocessing(image), turned_hashes(image) if hashes is None else hashes)

    def _novelties(self, answers: Sequence[Answer]) -> Reals:
        """Of all photos at once, so that the references are read from memory once."""
        if any(answer.features.shape[1] != self._references.channels for answer in answers):
            raise self._apart()
        features = [answer.features for answer in answers]
        with np.errstate(all="ignore"):  # what damaged weights give
            return self._references.novelty(np.concatenate(features)) if features else np.empty(0)

    def _judged(self, asked: "_Asked", answer: Answer, novelty: float) -> Prediction:
        known = nearest(asked.hashes, self.folder.training_hashes) <= MAX_DISTANCE
        place, settings = self.calibrations.choose(self.calibration, in_training=known)
        with np.errstate(all="ignore"):  # what damaged weights give
            judged = settings.judge(answer.logits, np.array([novelty]), other_of(self.labels))
        numbers = (answer.logits, answer.features, answer.maps, novelty, judged.probabilities)
        if not all(np.isfinite(part).all() for part in numbers):
            raise ModelFolderError(f"{self.model_id} answers with what is no number", "Export or download it again")
        said = worded(self.folder, judged, answer.maps[0], place, settings)
        return replace(said, novelty=float(novelty), in_training=known)

    def _apart(self) -> ModelFolderError:
        return ModelFolderError(f"{self.model_id}: its files do not belong together", "Export it again")


class _Asked(NamedTuple):
    """Of a photo that a model is asked about: its input, and its hashes."""

    pixels: Pixels
    hashes: Hashes


def load_model(
    source: str | os.PathLike[str] | None = None,
    threads: int = 0,
    runtime: str = ONNXRUNTIME,
    calibration: Choice = "auto",
    precision: str = FP32,
) -> Classifier:
    """Open a model and check that it is whole and unaltered.

    Args:
        source: a model folder, the Hub id of one (`owner/name`, needs the `hub` extra and a connection), or None
            or `default` for the model that comes with the package.
        threads: how many threads one photo may use; 0 is one per core.
        runtime: `onnxruntime`, which uses an NVIDIA card where it is built for one, or `openvino`, an extra.
        calibration: what photos are judged by. `home`: as photos of the collection that it learned from, such as of the
            same clinic and camera. `elsewhere`: as photos of other places. `auto`: a photo that is in training by
            `home`, any other by `elsewhere` where the model has that.
        precision: `fp32`: 32-bit floats. `bf16`: 16-bit floats, by the runtime `openvino`, on a processor that has
            units for them: faster, and its answers differ a little.

    Raises:
        ModelFolderError: no such folder, or it is incomplete, altered, or of a kind that is never opened; or it was
            never calibrated `elsewhere`.
        MissingExtra: `runtime` or the Hub needs an extra that is not installed.
        SpectraDermError: no such runtime or precision, or the processor has no 16-bit floats.
        WrongArgument: an argument is of another kind.
    """
    classifier = Classifier(open_model(source), threads, Runtime(runtime, precision), calibration)
    _ = classifier.engine  # what is wrong with it is said here
    return classifier


def _opened_again(
    path: str, hub: str, model_id: str, threads: int, runtime: Runtime, calibration: Choice
) -> Classifier:
    """A model that was pickled in another process."""
    folder = open_model(hub) if hub and not Path(path).is_dir() else read_model_folder(Path(path), hub)
    if folder.model_id != model_id:
        raise ModelFolderError(f"{path} is {folder.model_id} now, and was {model_id}", "Load the model again")
    return Classifier(folder, threads, runtime, calibration)
