"""`transformers.pipeline("image-classification")`, on PyTorch; run by the benchmarks in an environment of its own.

    python transformers_pipeline.py write MODEL WEIGHTS
    python transformers_pipeline.py predict PHOTOS MODEL
    python transformers_pipeline.py first PHOTO MODEL
    python transformers_pipeline.py large PHOTO MODEL

`write` puts a head for eight classes onto the ResNet-50 of WEIGHTS, which `benchmarks/resnet50.py` wrote, and the image
processor of `microsoft/resnet-50` beside it. Prints a JSON line; times are seconds, `ready` since Python began.
"""

# ruff: noqa: E402
import time

BEGUN = time.perf_counter()
import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import ResNetForImageClassification, pipeline

CLASSES, BATCH, TIMES = 8, 8, 10
PROCESSOR = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
}


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("what", type=Path)
    parser.add_argument("model", type=Path)
    given = parser.parse_args()
    print(json.dumps(MODES[given.mode](given.what, given.model)), flush=True)


def write(folder: Path, weights: Path) -> dict[str, Any]:
    """A local model folder that `pipeline` opens."""
    model: Any = ResNetForImageClassification.from_pretrained(weights, num_labels=CLASSES)
    model.save_pretrained(folder)
    colours = json.loads((weights / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | colours))
    return {}


def predict(photos: Path, model: Path) -> dict[str, Any]:
    """Photos below a folder, one by one, then in batches."""
    classify: Any = pipeline("image-classification", model=str(model))
    paths = sorted(str(path) for path in photos.rglob("*") if path.is_file())
    classify(paths[0])
    ready = time.perf_counter()
    for path in paths:
        classify(path)
    single = time.perf_counter()
    classify(paths, batch_size=BATCH)
    together = time.perf_counter()
    return {"ready": ready - BEGUN, "one_by_one": single - ready, "together": together - single, "photos": len(paths)}


def first(photo: Path, model: Path) -> dict[str, Any]:
    """One photo, from nothing."""
    classify: Any = pipeline("image-classification", model=str(model))
    return {"said": classify(str(photo))[0]["label"]}


def large(photo: Path, model: Path) -> dict[str, Any]:
    """One photo over and over."""
    classify: Any = pipeline("image-classification", model=str(model))
    taken = []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        classify(str(photo))
        taken.append(time.perf_counter() - start)
    return {"answers": taken[1:]}


MODES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "write": write,
    "predict": predict,
    "first": first,
    "large": large,
}

if __name__ == "__main__":
    main()
