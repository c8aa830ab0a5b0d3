"""The plain way with our own model: Pillow decodes in full and resizes, ONNX Runtime answers in fp32.

    python plain.py large PHOTO MODEL

Prints a JSON line; times are seconds.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

TIMES = 10


def main() -> None:
    """One photo over and over, the first not counted."""
    _, photo, folder = sys.argv[1:]
    session = onnxruntime.InferenceSession(Path(folder, "onnx", "model.onnx"))
    asked = session.get_inputs()[0]
    side, taken = asked.shape[1], []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        with Image.open(photo) as image:
            pixels = np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))
        session.run(None, {asked.name: pixels[None]})
        taken.append(time.perf_counter() - start)
    print(json.dumps({"answers": taken[1:]}))


if __name__ == "__main__":
    main()
