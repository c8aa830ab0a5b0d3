"""OpenVINO as its own guides use it: OpenCV, its preprocessing, an asynchronous queue; in an environment of its own.

    python openvino_loop.py predict PHOTOS ONNX
    python openvino_loop.py first PHOTO ONNX
    python openvino_loop.py large PHOTO ONNX

ONNX is the network of one of our model folders, in 32-bit floats. Photos are squashed to 224x224, without antialiasing,
as OpenCV does it. Prints a JSON line; times are seconds.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import openvino
from openvino import preprocess

SIZE, TIMES = 224, 10
MEAN, DEVIATION = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


def main() -> None:
    """Do what was asked."""
    mode, what, onnx = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    core = openvino.Core()
    model = core.read_model(onnx)
    shape = model.input().partial_shape
    shape[0] = 1
    model.reshape(shape)
    steps = preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().tensor().set_color_format(preprocess.ColorFormat.BGR)
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32)
    steps.input().preprocess().convert_color(preprocess.ColorFormat.RGB).mean(MEAN).scale(DEVIATION)
    hint = "THROUGHPUT" if mode == "predict" else "LATENCY"
    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(steps.build(), "CPU", settings)

    def pixels(path: Path) -> np.ndarray:
        image = np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR))
        return cv2.resize(image, (SIZE, SIZE))[None]

    if mode != "predict":
        taken = []
        for _ in range(1 if mode == "first" else 1 + TIMES):
            start = time.perf_counter()
            said = int(compiled(pixels(what))[0].argmax())
            taken.append(time.perf_counter() - start)
        print(json.dumps({"said": said} if mode == "first" else {"answers": taken[1:]}), flush=True)
        return
    paths = sorted(path for path in what.rglob("*") if path.is_file())
    queue, answers = openvino.AsyncInferQueue(compiled), [0] * len(paths)
    queue.set_callback(
        lambda request, number: answers.__setitem__(number, int(request.get_output_tensor(0).data.argmax()))
    )
    compiled(pixels(paths[0]))
    start = time.perf_counter()
    for path in paths:
        compiled(pixels(path))
    single = time.perf_counter()
    for number, path in enumerate(paths):
        queue.start_async({0: pixels(path)}, number)
    queue.wait_all()
    together = time.perf_counter()
    print(json.dumps({"one_by_one": single - start, "together": together - single, "photos": len(paths)}))


if __name__ == "__main__":
    main()
