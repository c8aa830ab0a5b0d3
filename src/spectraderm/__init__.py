"""SpectraDerm: a folder of skin photos in, a classifier out that says how far it can be believed.

    import spectraderm as sd
    model = sd.load_model()                         # the default model, a model folder, or a Hub id
    model("photo.jpg")                              # a path, bytes, a Pillow image, an array; a folder, a list of them
    run = sd.run("photos", "runs/mine")             # what `spectraderm run photos --out runs/mine` does
    run.evaluation, run.figures, run.manifest

Not a medical device; nothing it says is a diagnosis.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spectraderm.adaptation import NotBetter, adapt
    from spectraderm.api.runs import audit, export, run, split, train
    from spectraderm.api.scores import calibrate, compare, evaluate, import_
    from spectraderm.core.errors import SpectraDermError, UnreadablePhoto
    from spectraderm.core.progress import progress
    from spectraderm.core.run import Run
    from spectraderm.inference.classifier import Classifier, load_model
    from spectraderm.inference.prediction import Prediction

    __version__: str

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
"""Or ONNX Runtime reports to its makers from its import on, and leaves a number of this user in ~/.cache."""

__all__ = [
    "Classifier",
    "NotBetter",
    "Prediction",
    "Run",
    "SpectraDermError",
    "UnreadablePhoto",
    "__version__",
    "adapt",
    "audit",
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "import_",
    "load_model",
    "progress",
    "run",
    "split",
    "train",
]

_NAMES_OF = {
    "adaptation": "NotBetter adapt",
    "api.runs": "audit export run split train",
    "api.scores": "calibrate compare evaluate import_",
    "core.errors": "SpectraDermError UnreadablePhoto",
    "core.progress": "progress",
    "core.run": "Run",
    "inference.classifier": "Classifier load_model",
    "inference.prediction": "Prediction",
}
_HOMES = {name: f"spectraderm.{home}" for home, names in _NAMES_OF.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `spectraderm --help` does not wait for NumPy."""
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415 - takes a while

        return metadata.version("spectraderm")
    if name in _HOMES:
        attribute: object = getattr(import_module(_HOMES[name]), name)
        return attribute
    raise AttributeError(f"module 'spectraderm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
