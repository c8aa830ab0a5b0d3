"""LitServe serving one of our networks, in an environment of its own: a process per core, each with one thread.

    python litserve_server.py ONNX PORT

ONNX is the network of one of our model folders. POST /predict takes a photo's bytes, as ours does, and answers with the
likeliest class's number and all probabilities; it measures nothing else of the photo.
"""

import io
import os
import sys
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Body
from PIL import Image

SIZE = 224
MEAN, DEVIATION = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)


class Skin(litserve.LitAPI):  # type: ignore[misc]
    """Photos squashed to 224x224, with antialiasing."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        """Open the network, once in each process."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: Annotated[bytes, Body()]) -> np.ndarray:
        """A photo's bytes -> the network's input. LitServe looks for an argument of this name."""
        image = Image.open(io.BytesIO(request)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return ((np.asarray(image, np.float32) - MEAN) / DEVIATION).transpose(2, 0, 1)[None]

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of the classes."""
        logits = self.session.run(None, {"pixel_values": x})[0][0]
        shares: np.ndarray = np.exp(logits - logits.max())
        shares /= shares.sum()
        return shares

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """The answer's JSON."""
        return {"class": int(output.argmax()), "probabilities": output.tolist()}


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    server = litserve.LitServer(
        Skin(api_path="/predict"), accelerator="cpu", workers_per_device=cores, healthcheck_path="/ready", timeout=60
    )
    server.run(port=int(sys.argv[2]), log_level="critical", generate_client_file=False)
