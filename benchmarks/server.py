"""The server under load: more clients than it can hold, its workers killed; and beside a plain handler and LitServe.

    make bench-peers                                   # installs LitServe, once
    python benchmarks/server.py [--seconds 60] [--clients 80] [--rounds 3] [--only plain litserve overload killed]

Painted photos (640x480), the default model, everything on this machine. Refused clients ask again after 0.2 s. It exits
with 1 where anything but 200, 429 or 503 was answered, or a photo that was accepted got no answer.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import timing

from spectraderm.inference.model_folder import open_model

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
JPEG = {"content-type": "image/jpeg"}
ALLOWED = {200, 429, 503}


@dataclass
class Answers:
    """Seconds until each answer, by status (0: no connection), and of all of it."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    wall: float = 0.0

    @property
    def counts(self) -> dict[int, int]:
        """Answers by status."""
        return dict(Counter({status: len(taken) for status, taken in sorted(self.seconds.items())}))

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return len(self.seconds.get(200, [])) / self.wall

    def quantile(self, share: float, status: int = 200) -> float:
        """Of the seconds until an answer of a status."""
        return float(np.quantile(self.seconds.get(status, [np.nan]), share))


def main() -> None:
    """Print what came of each."""
    parser = timing.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    print(timing.machine())
    with tempfile.TemporaryDirectory() as folder:
        bodies = [timing.painted(Path(folder, f"{n}.jpg"), (640, 480), n).read_bytes() for n in range(16)]
        good = [PARTS[name](bodies, given) for name in given.only]
    sys.exit(not all(good))


def plain(bodies: list[bytes], given: argparse.Namespace) -> bool:
    """Beside a FastAPI handler that classifies in its event loop."""
    return beside("plain", [sys.executable, "-c", PLAIN], bodies, given)


def litserve(bodies: list[bytes], given: argparse.Namespace) -> bool:
    """Beside LitServe, which serves the same network."""
    if not given.peers.is_file():
        print(f"litserve: {timing.NOT_INSTALLED}")
        return True
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder, "model.onnx")
        onnx.write_bytes(open_model().network)
        script = timing.HERE / "peers" / "litserve_server.py"
        return beside("litserve", [str(given.peers), str(script), str(onnx)], bodies, given)


def beside(peer: str, command: list[str], bodies: list[bytes], given: argparse.Namespace) -> bool:
    """Photos a second, p99 and memory of a peer and of ours, in turns; 8 clients, and 1."""
    for clients in (8, 1):
        rates, waits, sizes = ({peer: list[float](), "ours": list[float]()} for _ in range(3))
        for _ in range(given.rounds):
            for name, words in ((peer, command), ("ours", None)):
                with running(words) as server:
                    answers = asyncio.run(crowd(server.url, bodies, clients, 8))
                    sizes[name].append(memory(server.process))
                if set(answers.counts) != {200}:
                    sys.exit(f"{name} answered {answers.counts}")
                rates[name].append(answers.rate)
                waits[name].append(answers.quantile(0.99))
        for what, sides, unit in (("photos/s", rates, ""), ("p99", waits, "s"), ("memory", sizes, "MB")):
            print(f"{clients} clients, {what}: {peer} {timing.spread(sides[peer], unit)}, ", end="")
            print(f"ours {timing.spread(sides['ours'], unit)}", flush=True)
    return True


def overload(bodies: list[bytes], given: argparse.Namespace) -> bool:
    """More clients than the server can hold."""
    clients, seconds = given.clients, given.seconds
    marks: list[float] = []
    with running(None, "--queue", "8") as server:
        calm = asyncio.run(crowd(server.url, bodies, 2, 5))
        before = memory(server.process)

        async def watch() -> None:
            while True:
                await asyncio.sleep(1)
                marks.append(memory(server.process))

        async def both() -> Answers:
            watching = asyncio.create_task(watch())
            try:
                return await crowd(server.url, bodies, clients, seconds, pause=0.2)
            finally:
                watching.cancel()

        answers = asyncio.run(both())
        start = time.perf_counter()
        again = httpx.post(f"{server.url}/predict", content=bodies[0], headers=JPEG, timeout=30)
        recovered = time.perf_counter() - start
    half = len(marks) // 2
    print(
        f"{clients} clients for {seconds:g} s: answers by status {answers.counts}, {answers.rate:.1f} photos/s "
        f"({calm.rate:.1f} with 2 clients)\n"
        f"  200: p50 {answers.quantile(0.5):.2f} s, p99 {answers.quantile(0.99):.2f} s; "
        f"429: p50 {answers.quantile(0.5, 429):.2f} s, p99 {answers.quantile(0.99, 429):.2f} s\n"
        f"  memory {before:.0f} MB before; median {statistics.median(marks[:half]):.0f} in the first half, "
        f"{statistics.median(marks[half:]):.0f} in the second, highest {max(marks):.0f}\n"
        f"  the next request: {again.status_code} after {recovered:.2f} s",
        flush=True,
    )
    return set(answers.counts) <= ALLOWED and again.status_code == 200


def killed(bodies: list[bytes], _: argparse.Namespace) -> bool:
    """SIGKILL to a worker every two seconds, under load."""
    with running(None) as server:

        async def both() -> tuple[Answers, int]:
            asking = asyncio.create_task(crowd(server.url, bodies, 8, 20))
            kills = 0
            while not asking.done():
                await asyncio.sleep(2)
                workers = [one for one in server.process.children() if any("spawn_main" in w for w in one.cmdline())]
                if workers and not asking.done():
                    os.kill(workers[kills % len(workers)].pid, signal.SIGKILL)
                    kills += 1
            return await asking, kills

        answers, kills = asyncio.run(both())
    print(f"a worker killed {kills} times in 20 s, 8 clients: answers by status {answers.counts}", flush=True)
    return kills > 0 and set(answers.counts) <= {*ALLOWED, 422}


async def crowd(url: str, bodies: list[bytes], clients: int, seconds: float, pause: float = 0.0) -> Answers:
    """So many clients at once, each asking again when it was answered, or after a pause when refused."""
    answers, end = Answers(), time.perf_counter() + seconds
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)

    async def one(client: httpx.AsyncClient, number: int) -> None:
        while time.perf_counter() < end:
            start = time.perf_counter()
            try:
                status = (await client.post("/predict", content=bodies[number % len(bodies)], headers=JPEG)).status_code
            except httpx.HTTPError:
                status = 0
            answers.seconds.setdefault(status, []).append(time.perf_counter() - start)
            number += clients
            if status != 200:
                await asyncio.sleep(pause)

    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        await asyncio.gather(*(one(client, number) for number in range(clients)))
    answers.wall = time.perf_counter() - start
    return answers


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    process: psutil.Process
    url: str


@contextmanager
def running(command: list[str] | None, *options: str, folder: Path | None = None) -> Iterator[Server]:
    """A server in a process of its own, once it is ready: `spectraderm serve`, or a command that takes a port.

    Given a folder, it works in there, writes there what is temporary, and logs into `log`.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = [*command, port] if command else [sys.executable, "-m", "spectraderm", "serve", "--port", port, *options]
    own = {"HOME": str(folder), "TMPDIR": str(folder)} if folder else {}
    with (
        Path(folder / "log" if folder else os.devnull).open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=os.environ | own) as process,
    ):
        url, start = f"http://127.0.0.1:{port}", time.perf_counter()
        try:
            while not _is_ready(url):
                if time.perf_counter() > start + 60:
                    sys.exit(f"{' '.join(words)} was not ready within 60 s")
                time.sleep(0.05)
            yield Server(psutil.Process(process.pid), url)
        finally:
            family = []
            if process.poll() is None:  # one that was stopped has left nobody
                family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(30)
            for left in psutil.wait_procs(family, 5)[1]:  # LitServe's own stay
                left.kill()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def memory(process: psutil.Process) -> float:
    """Resident MB of a process and all below it."""
    family = [process, *process.children(recursive=True)]
    return sum(float(one.memory_info().rss) for one in family if one.is_running()) / 1e6


PARTS = {"plain": plain, "litserve": litserve, "overload": overload, "killed": killed}

if __name__ == "__main__":
    main()
