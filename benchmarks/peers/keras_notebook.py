"""The way the mission's notebook does it, with Keras; run by the benchmarks in an environment of its own.

    python keras_notebook.py train DATA WEIGHTS [--epochs 12] [--pause]
    python keras_notebook.py predict PHOTOS WEIGHTS
    python keras_notebook.py first PHOTO WEIGHTS
    python keras_notebook.py large PHOTO WEIGHTS
    python keras_notebook.py features ARRAY WEIGHTS

The notebook, cell by cell: photos by `cv2.imread` (blue first) and `cv2.resize`, `preprocess_input`, a random split 80
to 20, one-hot labels, a frozen `ResNet50` without its top, `GlobalAveragePooling2D`, `Dense(512, "relu")`, `Dense(8,
"softmax")`, Adam, 12 epochs of batches of 32, accuracy and confusion matrix of the test folder. No curves are drawn.
`--pause` waits for a line before every epoch. Prints JSON lines; times are seconds, `ready` since Python began.
"""

# ruff: noqa: ANN401, E402
import time

BEGUN = time.perf_counter()
import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras  # type: ignore[import-not-found]
import numpy as np
from keras.applications.resnet50 import preprocess_input  # type: ignore[import-not-found]
from keras_weights import SIDE, backbone, build

CLASSES, BATCH, TIMES = 8, 32, 10


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("what", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--pause", action="store_true")
    given = parser.parse_args()
    MODES[given.mode](given)


def train(given: argparse.Namespace) -> None:
    """The whole notebook; `given.what` holds `train_set` and `test_set`."""
    from sklearn.metrics import confusion_matrix  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    classes = sorted(path.name for path in (given.what / "train_set").iterdir())
    pixels, labels = photos(given.what / "train_set", classes)
    here, there, right, also = train_test_split(pixels, labels, test_size=0.2)
    model = build(given.weights, len(classes))
    say(ready=time.perf_counter() - BEGUN)
    settings = {"batch_size": BATCH, "epochs": given.epochs, "callbacks": [Epochs(given.pause)], "verbose": 0}
    told = model.fit(here, right, validation_data=(there, also), **settings)
    start = time.perf_counter()
    pixels, labels = photos(given.what / "test_set", classes)
    matrix = confusion_matrix(labels.argmax(1), model.predict(pixels, verbose=0).argmax(1))
    accuracies = {"test": matrix.trace() / matrix.sum(), "validation": told.history["val_accuracy"][-1]}
    say(evaluate=time.perf_counter() - start, whole=time.perf_counter() - BEGUN, **accuracies)


def predict(given: argparse.Namespace) -> None:
    """Photos below a folder, one by one as the notebook does, then all at once."""
    model = build(given.weights, CLASSES)
    paths = sorted(path for path in given.what.rglob("*") if path.is_file())
    answer(model, paths[0])  # the first traces the graph
    ready = time.perf_counter()
    for path in paths:
        answer(model, path)
    single = time.perf_counter()
    model.predict(preprocess_input(np.array([read(path) for path in paths], np.float32)), verbose=0)
    together = time.perf_counter()
    say(ready=ready - BEGUN, one_by_one=single - ready, together=together - single, photos=len(paths))


def first(given: argparse.Namespace) -> None:
    """One photo, from nothing."""
    say(label=int(answer(build(given.weights, CLASSES), given.what).argmax()))


def large(given: argparse.Namespace) -> None:
    """One photo decoded in full by Pillow, and resized by it."""
    from PIL import Image  # noqa: PLC0415

    model, taken = build(given.weights, CLASSES), []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        with Image.open(given.what) as image:
            rgb = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32)
        model.predict(preprocess_input(rgb[None]), verbose=0)
        taken.append(time.perf_counter() - start)
    say(answers=taken[1:])


def features(given: argparse.Namespace) -> None:
    """Mean features `[n, 2048]` of pixels `uint8[n, 224, 224, 3]`, red first, that `given.what` (.npy) holds."""
    pixels = preprocess_input(np.load(given.what).astype(np.float32))
    say(features=backbone(given.weights, "avg").predict(pixels, verbose=0).tolist())


def photos(root: Path, classes: list[str]) -> tuple[Any, Any]:
    """All photos `float32[n, 224, 224, 3]` and one-hot labels `float[n, classes]` of `root/<class>/*`."""
    paths = [(path, number) for number, name in enumerate(classes) for path in sorted((root / name).iterdir())]
    pixels = preprocess_input(np.array([read(path) for path, _ in paths], np.float32))
    return pixels, keras.utils.to_categorical([number for _, number in paths], len(classes))


def read(path: Path) -> Any:
    """A photo as the notebook reads it: blue first, squashed."""
    image: Any = cv2.imread(str(path))
    return cv2.resize(image, (SIDE, SIDE))


def answer(model: Any, path: Path) -> Any:
    """Probabilities `float32[classes]` of a photo, as in the notebook's last cell."""
    return model.predict(preprocess_input(read(path)[None].astype(np.float32)), verbose=0)[0]


def say(**facts: object) -> None:
    """A line for the benchmark."""
    print(json.dumps(facts), flush=True)


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """Says the seconds of each epoch, its validation with it; waits for a line before, if told to."""

    def __init__(self, pause: bool) -> None:
        super().__init__()
        self.pause = pause

    def on_epoch_begin(self, *_: object) -> None:
        """Start."""
        if self.pause and not sys.stdin.readline():
            sys.exit("nobody waits for this")
        self.begun = time.perf_counter()

    def on_epoch_end(self, *_: object) -> None:
        """Stop."""
        say(epoch=time.perf_counter() - self.begun)


MODES: dict[str, Callable[[argparse.Namespace], None]] = {
    "train": train,
    "predict": predict,
    "first": first,
    "large": large,
    "features": features,
}

if __name__ == "__main__":
    main()
