"""More clients than capacity, an engine killed under load, and SIGTERM under load: what becomes of every request.

    python benchmarks/overload.py [--seconds 60] [--clients 80]

Painted photos, the default model, a server of its own process. Refused clients ask again after 0.2 s.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx
import numpy as np
import psutil
from clients import OURS, Told, crowd, memory, photos, running

URL = "http://127.0.0.1:{port}"


def main() -> None:
    """All of it; exits with 1 where something else than 200, 429 or 503 was answered, or an accepted photo was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=80)
    given, bodies = parser.parse_args(), photos(16)
    fine = overload(bodies, given.clients, given.seconds)
    fine &= killed(bodies)
    fine &= told_to_stop(bodies)
    raise SystemExit(0 if fine else 1)


def overload(bodies: list[bytes], clients: int, seconds: float) -> bool:
    """More clients than the server can hold, for so long."""
    with (
        NamedTemporaryFile() as file,
        running(OURS, 8300, "--queue", "8", journal=Path(file.name)) as server,
    ):
        url = URL.format(port=8300)
        calm = asyncio.run(crowd(url, bodies, 2, 5))
        before, marks = memory(server), []

        async def watched() -> None:
            while True:
                await asyncio.sleep(1)
                marks.append(memory(server))

        async def both() -> Told:
            watcher = asyncio.create_task(watched())
            try:
                return await crowd(url, bodies, clients, seconds, pause=0.2)
            finally:
                watcher.cancel()

        told = asyncio.run(both())
        start = time.perf_counter()
        again = httpx.post(f"{url}/predict", content=bodies[0], headers={"content-type": "image/jpeg"}, timeout=30)
        recovered = time.perf_counter() - start
        after = asyncio.run(crowd(url, bodies, 2, 5))
        lines = [json.loads(line) for line in Path(file.name).read_text().splitlines() if line.startswith("{")]
        busy = [line["ms"] for line in lines if line["verdict"] == "TooBusy"]
    print(f"Overload: {clients} clients for {seconds:g} s, 2 of them at a time before and after")
    print(f"  answers by status {told.counts}; {told.rate:.1f} photos/s ({calm.rate:.1f} with 2 clients)")
    print(f"  200: p50 {told.quantile(0.5):.2f} s, p99 {told.quantile(0.99):.2f} s ({calm.quantile(0.99):.2f} with 2)")
    print(
        f"  429: p50 {told.quantile(0.5, 429):.2f} s, p99 {told.quantile(0.99, 429):.2f} s as these clients see it, who"
    )
    print(
        f"    share the cores; within the server p50 {np.quantile(busy, 0.5)} ms, p99 {np.quantile(busy, 0.99):.0f} ms"
    )
    half = len(marks) // 2
    print(
        f"  memory {before:.0f} MB before, median {statistics.median(marks[:half]):.0f} in the first half, "
        f"{statistics.median(marks[half:]):.0f} in the second, highest {max(marks):.0f}"
    )
    print(f"  next request: {again.status_code} after {recovered:.2f} s; then {after.rate:.1f} photos/s")
    return set(told.counts) <= {200, 429, 503} and again.status_code == 200


def killed(bodies: list[bytes]) -> bool:
    """SIGKILL to an engine every two seconds, under load."""
    with running(OURS, 8301) as server:

        async def both() -> tuple[Told, int]:
            asking = asyncio.create_task(crowd(URL.format(port=8301), bodies, 8, 20))
            kills = 0
            while not asking.done():
                await asyncio.sleep(2)
                engines = [one for one in server.children() if any("spawn_main" in word for word in one.cmdline())]
                if engines and not asking.done():
                    os.kill(engines[kills % len(engines)].pid, signal.SIGKILL)
                    kills += 1
            return await asking, kills

        told, kills = asyncio.run(both())
    print(f"An engine killed {kills} times in 20 s, 8 clients: answers by status {told.counts}")
    return set(told.counts) <= {200, 429, 503}


def told_to_stop(bodies: list[bytes]) -> bool:
    """SIGTERM with photos under way: each that was accepted is answered."""
    lost, taken, ends = 0, 0, []
    for turn in range(5):
        with running(OURS, 8302 + turn) as server:
            answers, seconds = asyncio.run(_stopped(URL.format(port=8302 + turn), bodies, server))
        taken += len(answers)
        lost += sum(status not in (200, 429, 503) for status in answers)
        ends.append(seconds)
    print(f"SIGTERM with 32 requests under way, 5 times: {lost} of {taken} lost; ended within {max(ends):.1f} s")
    return lost == 0


async def _stopped(url: str, bodies: list[bytes], server: psutil.Process) -> tuple[list[int], float]:
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=32)) as client:
        headers = {"content-type": "image/jpeg"}
        asking = [
            asyncio.create_task(client.post("/predict", content=bodies[number % 16], headers=headers))
            for number in range(32)
        ]
        await asyncio.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        start = time.perf_counter()
        said = await asyncio.gather(*asking, return_exceptions=True)
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.perf_counter() < start + 60:
        await asyncio.sleep(0.05)
    return [0 if isinstance(one, BaseException) else one.status_code for one in said], time.perf_counter() - start


if __name__ == "__main__":
    main()
