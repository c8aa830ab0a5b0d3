"""The page as a browser and Gradio's own client meet it: on a port, with a model made by hand."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from handmade import calibration, write_model

from spectraderm import load_model
from spectraderm.inference.classifier import Classifier, Prediction
from spectraderm.inference.model_folder import open_model
from spectraderm.serving.page.mount import mount_compare, mount_page

LABELS = ("VI-shingles", "FU-ringworm", "other")


@dataclass
class Served:
    """A page that is being served; `asked` are the photos that the model was given, byte for byte."""

    url: str
    model: Classifier
    asked: list[bytes] = field(default_factory=list)
    trouble: Exception | None = None

    async def predict(self, data: bytes) -> Prediction:
        self.asked.append(data)
        if self.trouble:
            raise self.trouble
        return await asyncio.to_thread(self.model.predict, data)

    def call(self, photo: object) -> tuple[str, str]:
        """Ask `/gradio_api/call/predict` about what a client claims to have uploaded: the last event and its data."""
        started = httpx.post(f"{self.url}/gradio_api/call/predict", json={"data": [photo]})
        events = httpx.get(f"{self.url}/gradio_api/call/predict/{started.json()['event_id']}", timeout=20).text
        name, data = events.strip().rsplit("event: ", 1)[1].split("\n", 1)
        return name, data.removeprefix("data: ")


@contextmanager
def served(folder: Path, models: int = 1, max_mb: float = 16) -> Iterator[Served]:
    """A page with REST's routes beside it; in all verdicts but `out_of_scope` unless a photo is dark."""
    write_model(folder, LABELS, facts={"calibration": calibration(3, novelty_threshold=0.2)})
    listening = socket.create_server(("127.0.0.1", 0))
    page = Served(f"http://127.0.0.1:{listening.getsockname()[1]}", load_model(folder, threads=1))
    app = FastAPI()
    app.add_api_route("/health", lambda: {"alive": True}, methods=["GET"])
    app.add_api_route("/", lambda: {"inputs": True}, methods=["POST"])
    app.add_api_route("/predict", lambda: {"raw": True}, methods=["POST"])
    if models > 1:
        mount_compare(app, [(open_model(folder), page.predict)] * models, max_mb)
    else:
        mount_page(app, page.predict, open_model(folder), max_mb)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield page
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
