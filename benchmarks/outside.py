"""How a model does on another folder of photos, whose class folders bear the names of the model's classes.

    python benchmarks/outside.py PHOTOS [--model FOLDER]...

Prints accuracy and balanced accuracy over the classes that are there, with 95 % intervals by photo group.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from spectraderm.data.audit import audit
from spectraderm.errors import SpectraDermError
from spectraderm.evaluation.metrics import Guesses, scores
from spectraderm.serving.classifier import load_model


def main() -> None:
    """Predict every photo that can be read and print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", action="append", help="by default the one that comes with the package")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = audit(arguments.photos, Path(folder)).rows
    for source in arguments.model or [None]:
        model = load_model(source)
        number = {label: i for i, label in enumerate(model.labels)}
        strange = {row.label for row in rows} - number.keys()
        if strange:
            sys.exit(f"error: {arguments.photos} has classes that {model.model_id} does not know: {sorted(strange)}")
        predictions = model.predict([arguments.photos / row.path for row in rows])
        guessed = Guesses(
            np.array([number[row.label] for row in rows]),
            np.array([number[prediction.label] for prediction in predictions]),
            np.array([row.photo_group for row in rows]),
        )
        result = scores(guessed)
        shown = ", ".join(
            f"{name.replace('_', ' ')} {100 * result[name]['value']:.1f} % "
            f"({100 * result[name]['low']:.1f}–{100 * result[name]['high']:.1f})"
            for name in ("accuracy", "balanced_accuracy")
        )
        print(f"{source or 'default model'} ({model.model_id}): {shown}, {result['n_photos']} photos")


if __name__ == "__main__":
    try:
        main()
    except SpectraDermError as error:
        sys.exit(f"error: {error}")
