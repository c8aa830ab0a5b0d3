"""Do the Hub's own tools give our logits? Optimum, transformers and transformers.js on one model folder, as a table.

    make test-hub [MODEL=FOLDER] [DATA=PHOTOS]       # installs the tools, once
    python benchmarks/hub.py MODEL [--photos FOLDER] [--count 40] [--python .venv-hub/bin/python]

Each tool gets the network's input as we make it, and must give our logits to 1e-4, or this ends with an error; then the
photo files, from which it makes its input by itself: decoders and resizing differ, and that is told, not judged.
transformers reads `model.safetensors`, which the packaged default model has not; it is tried in the version of its
environment, which Optimum needs to be below 5, and in the one that this script runs in.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import timing

import spectraderm
from spectraderm.inference.calibration import softmax

BOUND = 1e-4
HERE = Path(__file__).parent / "hub"
SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Print the table; end with an error where logits of the same input differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a model folder; the packaged one if not given")
    parser.add_argument("--photos", type=Path, help="a folder; painted photos if not given")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--python", type=Path, default=Path(".venv-hub/bin/python"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = sorted(path for path in (given.photos or Path()).rglob("*") if path.suffix.lower() in SUFFIXES)
        if given.photos is None:
            photos = [timing.painted(Path(folder) / f"{n}.jpg", (640, 480), n) for n in range(given.count)]
        places = np.linspace(0, len(photos) - 1, min(given.count, len(photos))).astype(int)
        worst = compare(given.model, [photos[place] for place in places], Path(folder), given.python)
    if worst >= BOUND:
        sys.exit(f"the same input gives logits that differ by {worst:.2g}")


def compare(model: str | None, photos: list[Path], work: Path, python: Path) -> float:
    """Print a line for every tool; the largest difference of a logit that the same input gave."""
    ours = spectraderm.load_model(model)
    pixels = np.stack([ours.pixels(photo) for photo in photos])
    values = ours.preprocessing.normalised(pixels)
    values.tofile(work / "pixel_values")
    expected = np.concatenate([ours.engine(photo[None]).logits for photo in pixels])
    task = {
        "folder": str(ours.folder.path.resolve()),
        "photos": [str(photo.resolve()) for photo in photos],
        "shape": values.shape,
        "classes": len(ours.labels),
        "pixel_values": str(work / "pixel_values"),
    }
    (work / "task.json").write_text(json.dumps(task))
    print(f"{timing.machine()}\n\n{ours.model_id}, {len(photos)} photos; logits from {expected.min():.3g} ", end="")
    print(f"to {expected.max():.3g}\n\n| tool | logits, same input | logits, photo files | scores | guesses changed |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    worst = 0.0
    script = str(HERE / "python_tools.py")
    for command in ([str(python), script], ["node", str(HERE / "transformers_js.mjs")], [sys.executable, script]):
        for result in asked([*command, str(work / "task.json")]):
            same, own = (np.array(result[name]) for name in ("same", "own"))
            scores = np.array([[entry[label] for label in ours.labels] for entry in result["scores"]])
            worst = max(worst, float(np.abs(same - expected).max()))
            off = [np.abs(same - expected), np.abs(own - expected), np.abs(scores - softmax(expected))]
            changed = int((own.argmax(1) != expected.argmax(1)).sum())
            numbers = " | ".join(f"{part.max():.2g} (median {np.median(part.max(1)):.2g})" for part in off)
            print(f"| {result['tool']} | {numbers} | {changed} |", flush=True)
    return worst


def asked(command: list[str]) -> list[dict[str, Any]]:
    """What a tool prints last; nothing where none of its kind can open the folder."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=offline)
    if done.returncode:
        sys.exit(f"{' '.join(command[:2])}: {done.stderr.strip()[-800:]}")
    results: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


if __name__ == "__main__":
    main()
