"""Our own side in a process of its own, asked as the peers are.

    python ours.py predict PHOTOS MODEL [RUNTIME PRECISION]
    python ours.py large PHOTO MODEL [RUNTIME PRECISION]

MODEL is a model folder. Prints a JSON line; times are seconds.
"""

import json
import sys
import time
from pathlib import Path

import spectraderm

TIMES = 10


def main() -> None:
    """Do what was asked."""
    mode, what, folder, *how = sys.argv[1:]
    runtime, precision = how or ("onnxruntime", "fp32")
    model = spectraderm.load_model(folder, runtime=runtime, precision=precision)
    if mode == "large":
        model.predict(what)
        print(json.dumps({"answers": [seconds(lambda: model.predict(what)) for _ in range(TIMES)]}))
        return
    paths = sorted(str(path) for path in Path(what).rglob("*") if path.is_file())
    model.predict(paths[0])
    together = seconds(lambda: list(model.predict_each((path, path) for path in paths)))
    print(json.dumps({"together": together, "photos": len(paths)}))


def seconds(call: object) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
