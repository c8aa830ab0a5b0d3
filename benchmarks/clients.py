"""Clients that ask a server of ours on this machine for predictions, and servers to ask; used by the scripts here."""

import asyncio
import io
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from spectraderm.data.synthetic import paint_photo

PLAIN = """
import sys, uvicorn, spectraderm
from fastapi import FastAPI, Request
app, model = FastAPI(), spectraderm.load_model()
@app.post("/predict")
async def predict(request: Request):
    return model.predict(await request.body()).to_dict()
@app.get("/ready")
def ready():
    return {}
uvicorn.run(app, port=int(sys.argv[1]), log_level="critical")
"""
OURS = (
    "import sys; from spectraderm.cli.commands import main; sys.argv[0:1] = ['spectraderm', 'serve', '--port']; main()"
)


@dataclass
class Told:
    """What a crowd of clients was told: seconds by status; 0 is a connection that failed."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def counts(self) -> dict[int, int]:
        """Answers by status."""
        return dict(Counter({status: len(all_) for status, all_ in sorted(self.seconds.items())}))

    def quantile(self, share: float, status: int = 200) -> float:
        """Of the seconds until an answer of that status."""
        return float(np.quantile(self.seconds.get(status, [np.nan]), share))

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return len(self.seconds.get(200, [])) / self.wall


def photos(count: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """Painted photos as JPEG."""
    made = []
    for seed in range(count):
        image: Image.Image = paint_photo("FU-ringworm", np.random.default_rng(seed), size)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


async def crowd(url: str, bodies: list[bytes], clients: int, seconds: float, pause: float = 0.0) -> Told:
    """So many clients at once, each asking again when it was answered, or after a pause when refused, for `seconds`."""
    told, end = Told(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                answer = await client.post(
                    "/predict", content=bodies[number % len(bodies)], headers={"content-type": "image/jpeg"}
                )
                status = answer.status_code
            except httpx.HTTPError:
                status = 0
            told.seconds.setdefault(status, []).append(time.perf_counter() - start)
            number += clients
            if status != 200:
                await asyncio.sleep(pause)

    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        await asyncio.gather(*(one(client, number) for number in range(clients)))
    told.wall = time.perf_counter() - start
    return told


@contextmanager
def running(program: str, port: int, *options: str, journal: Path | None = None) -> Iterator[psutil.Process]:
    """A server in a process of its own, once it is ready; `journal` is where its stderr goes."""
    command = [sys.executable, "-c", program, str(port), *options]
    with Path(journal or os.devnull).open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}")
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def wait_until_ready(url: str, seconds: float = 60) -> float:
    """Until `/ready` says so; returns the seconds that it took."""
    start = time.perf_counter()
    while time.perf_counter() < start + seconds:
        try:
            if httpx.get(f"{url}/ready", timeout=1).status_code == 200:
                return time.perf_counter() - start
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} was not ready within {seconds:g} s")


def memory(process: psutil.Process) -> float:
    """Resident MB of a process and all below it."""
    family = [process, *process.children(recursive=True)]
    return sum(float(one.memory_info().rss) for one in family if one.is_running()) / 1e6
