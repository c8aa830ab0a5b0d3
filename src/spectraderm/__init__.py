"""SpectraDerm: a folder of skin photos in, a classifier out that says how far it can be believed.

    import spectraderm
    model = spectraderm.load_model()          # the default model, a model folder, or a Hub id
    print(model.predict("photo.jpg").label)   # a path, bytes, a Pillow image or a NumPy array

Not a medical device; nothing it says is a diagnosis.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectraderm.adaptation import adapt
    from spectraderm.core.errors import SpectraDermError
    from spectraderm.inference.classifier import Classifier, load_model
    from spectraderm.inference.prediction import Prediction

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
"""Or ONNX Runtime reports to its makers from its import on, and leaves a number of this user in ~/.cache."""

__all__ = ["Classifier", "Prediction", "SpectraDermError", "adapt", "load_model"]

_HOMES = {
    "Classifier": "spectraderm.inference.classifier",
    "Prediction": "spectraderm.inference.prediction",
    "adapt": "spectraderm.adaptation",
    "load_model": "spectraderm.inference.classifier",
    "SpectraDermError": "spectraderm.core.errors",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `spectraderm --help` does not wait for NumPy."""
    if name in _HOMES:
        attribute: object = getattr(import_module(_HOMES[name]), name)
        return attribute
    raise AttributeError(f"module 'spectraderm' has no attribute {name!r}")
