"""Attacks on the server by few clients: what others, who send a photo every quarter of a second, notice of each.

    python benchmarks/attack.py [MODEL] [--seconds 10] [--only NAME ...] [--tries 2]

Each has a server of its own, and sends from a process of its own. A line each: photos of the others, and how many of
them were refused or took over 2 s; the slowest photo; the longest that `GET /health`, asked every 50 ms over new
connections, took; responses with status 5xx but 503; by how much the resident memory of the server's processes grew;
and the statuses of all responses. Then SIGTERM under load, and where a photo's file name is found afterwards. Exits 1
where, `--tries` times in turn, a photo is refused or late, a response is a 500, `/health` takes over 0.5 s, or memory
grows by over 256 MB. It all runs on one machine: the line without an attack says what that machine's other work costs.
"""

import argparse
import asyncio
import http.client
import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import psutil
import timing
from server import JPEG, Server, memory, running

LATE, FREEZE, GROWTH = 2.0, 0.5, 256
LARGE = 16_000_000
CANARY = "canary7391"
Send = Callable[[bytes], Awaitable[None]]
Play = Callable[[Send, bytes, int], Awaitable[None]]


def head(path: str, length: object, kind: str = "image/jpeg", method: str = "POST") -> bytes:
    """A request's head; a length that is no number is that of chunks."""
    size = f"Content-Length: {length}" if isinstance(length, int) else "Transfer-Encoding: chunked"
    return (
        f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()
    )


@cache
def form(part: bytes, count: int) -> bytes:
    """A form of many equal parts, as a whole request."""
    body = (b"--x\r\n" + part + b"\r\n\r\ny\r\n") * count + b"--x--"
    return head("/predict", len(body), "multipart/form-data; boundary=x") + body


@cache
def json_bomb() -> bytes:
    """15 MB of unknown keys."""
    body = b'{"inputs":"AAAA",' + b",".join(b'"k%d":1' % number for number in range(1_250_000)) + b"}"
    return head("/", len(body), "application/json") + body


def drip(first: Callable[[], bytes], rest: bytes = b"", pause: float = 3) -> Play:
    """What sends a start, then little and often, for ever."""

    async def play(send: Send, *_: object) -> None:
        await asyncio.sleep(random.uniform(0, 2))  # or all would be one wave
        await send(first())
        while True:
            await asyncio.sleep(pause)
            await send(rest)

    return play


async def unread(send: Send, *_: object) -> None:
    """Requests without end, whose responses nobody takes."""
    await send(b"GET /preview.png HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000)
    await asyncio.sleep(3600)


async def cut(send: Send, photo: bytes, number: int) -> None:
    """One of 140 clients that send a photo every ten seconds or so; every tenth is cut off in the midst of it."""
    await asyncio.sleep(random.uniform(0, 10))
    whole = head("/predict", len(photo)) + photo
    await send(whole[: len(whole) // 2] if number % 10 == 0 else whole)
    await asyncio.sleep(0 if number % 10 == 0 else 5)


async def leave(send: Send, photo: bytes, _: int) -> None:
    """Send a photo and leave, four times a second."""
    await asyncio.sleep(random.uniform(0, 0.4))
    await send(head("/predict", len(photo)) + photo)


_FILE = b'Content-Disposition: form-data; name="a"; filename="b"'
_START = b"GET / HTTP/1.1\r\n"

_LETTERS = b"x" * LARGE
ATTACKS: dict[str, tuple[int, Play]] = {
    "no attack": (0, unread),
    "1,500 slow heads": (1500, drip(lambda: _START, b"X: y\r\n", 2)),
    "1,500 idle connections": (1500, drip(lambda: _START + b"Host: a\r\n\r\n")),
    "400 bodies of a letter a second": (400, drip(lambda: head("/predict", 9999), b"x", 1)),
    "40 bodies of 12 MB, then 20 kB a second": (
        40, drip(lambda: head("/predict", LARGE) + _LETTERS[:12_000_000], b"x" * 10_000, 0.5)),
    "16 bodies in chunks of a letter": (16, drip(lambda: head("/predict", None), b"1\r\nx\r\n" * 1000, 0)),
    "16 times 16 MB to /health": (16, drip(lambda: head("/health", LARGE, method="GET") + _LETTERS)),
    "16 endless GETs": (16, drip(lambda: head("/", None, method="GET"), b"ffff\r\n" + b"x" * 65_535 + b"\r\n", 0)),
    "16 times 16 MB that are no photo": (16, drip(lambda: head("/predict", LARGE) + _LETTERS)),
    "64 clients that never read": (64, unread),
    "8 times JSON of a million unknown keys": (8, drip(json_bomb)),
    "8 times JSON of 16 MB of brackets": (8, drip(lambda: head("/", LARGE, "application/json") + b"[" * LARGE)),
    "8 forms of 200,000 parts": (8, drip(lambda: form(_FILE, 200_000))),
    "8 forms of 1,500,000 headers": (8, drip(lambda: form(b"A: b\r\n" * 1_500_000, 1))),
    "160 photos a second whose senders leave": (40, leave),
    "140 clients, 14 of them cut off": (140, cut),
}  # fmt: skip


async def attack(name: str, port: int, seconds: float, photo: bytes) -> None:
    """So many connections at once, each opened again when it ends."""
    count, play = ATTACKS[name]
    end = time.monotonic() + seconds

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(play(send, photo, number))]
        tasks += [] if play is unread else [asyncio.ensure_future(reader.read())]  # ends where the server hangs up
        try:
            async with asyncio.timeout(max(end - time.monotonic(), 0.1)):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.transport.abort()

    async def again(number: int) -> None:
        while time.monotonic() < end:
            with suppress(OSError, TimeoutError):
                await one(number)
            await asyncio.sleep(0.05)

    await asyncio.gather(asyncio.sleep(seconds), *map(again, range(count)))


class Others:
    """Who else uses the server meanwhile, and what they notice."""

    def __init__(self, server: Server, photos: list[bytes]) -> None:
        self.port, self._process, self._photos = int(server.url.rpartition(":")[2]), server.process, photos
        self.statuses: list[int] = []
        self.waits: list[float] = []
        self.health: list[float] = []
        self.peak = self.before = 0.0
        self._stop = threading.Event()

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, float, str]:
        """Status, seconds and text of a response; status 0 is none."""
        start, link = time.perf_counter(), http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path, body or None, JPEG if body else {})
            response = link.getresponse()
            return response.status, time.perf_counter() - start, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, time.perf_counter() - start, ""
        finally:
            link.close()

    def photo(self, number: int) -> None:
        """Send a photo."""
        status, seconds, _ = self.ask("POST", "/predict", self._photos[number % len(self._photos)])
        self.statuses.append(status)
        self.waits.append(seconds)

    def _every(self, pause: float, call: Callable[[int], object]) -> None:
        for number in itertools.count():
            if self._stop.wait(pause):
                return
            call(number)

    def _measure(self, _: int) -> None:
        with suppress(psutil.Error):
            self.peak = max(self.peak, memory(self._process))

    def watch(self, during: Callable[[], object]) -> None:
        """Ask all the while."""
        for number in range(16):
            self.ask("POST", "/predict", self._photos[number])
        self.before = self.peak = memory(self._process)
        calls: list[tuple[float, Callable[[int], object]]] = [
            (0.25, self.photo),
            (0.05, lambda _: self.health.append(self.ask("GET", "/health")[1])),
            (0.1, self._measure),
        ]
        threads = [threading.Thread(target=self._every, args=call) for call in calls]
        for thread in threads:
            thread.start()
        during()
        self._stop.set()
        for thread in threads:
            thread.join()

    def row(self, name: str) -> tuple[str, bool]:
        """A line of the table, and whether it is as it should be."""
        text = self.ask("GET", "/metrics")[2]
        counts = {
            int(status): int(float(n)) for status, n in re.findall(r'requests_total\{status="(\d+)"\} (\S+)', text)
        }
        late = sum(status != 200 or wait > LATE for status, wait in zip(self.statuses, self.waits, strict=True))
        failed = sum(count for status, count in counts.items() if status >= 500 and status != 503)
        freeze, growth = max(self.health), self.peak - self.before
        good = bool(counts) and not late and not failed and freeze <= FREEZE and growth <= GROWTH
        listed = ", ".join(f"{count:,} {status or 'gone'}" for status, count in sorted(counts.items()))
        figures = f"{len(self.statuses)} | {late} | {max(self.waits):.2f} | {freeze:.2f} | {failed} | {growth:.0f}"
        return f"| {name} | {figures} | {listed} |{'' if good else ' **!**'}", good


def attacked(name: str, model: list[str], photos: list[bytes], seconds: float) -> bool:
    """Try an attack, and print its line."""
    with tempfile.TemporaryDirectory() as folder, running(None, *model, folder=Path(folder)) as server:
        others = Others(server, photos)
        command = [sys.executable, __file__, "--from-here", name, str(others.port), str(seconds)]
        others.watch(lambda: subprocess.run(command, check=True))
        line, good = others.row(name)
    print(line, flush=True)
    return good


def stopped(model: list[str], photos: list[bytes]) -> bool:
    """SIGTERM with 32 photos under way, five times: each is answered, and `/ready` says no at once."""
    lost, ends, noes = 0, [], []
    for _ in range(5):
        with running(None, *model) as server:
            others = Others(server, photos)
            threads = [threading.Thread(target=others.photo, args=(number,)) for number in range(32)]
            for thread in threads:
                thread.start()
            while not others.statuses:
                time.sleep(0.005)
            server.process.terminate()
            start = time.perf_counter()
            while others.ask("GET", "/ready")[0] == 200:
                pass
            noes.append(time.perf_counter() - start)
            for thread in threads:
                thread.join()
            server.process.wait(40)
            ends.append(time.perf_counter() - start)
        lost += sum(status not in (200, 429, 503) for status in others.statuses)
    worst = f"not ready after {max(noes):.2f} s at most, ended after {max(ends):.1f} s at most"
    print(f"\nSIGTERM with 32 photos under way, 5 times: {lost} of 160 lost; {worst}")
    return not lost and max(noes) < FREEZE


def canary(model: list[str], photos: list[bytes]) -> bool:
    """A word in all that names a photo, and the photo's last bytes: are they in the log, or in any file?"""
    with tempfile.TemporaryDirectory() as folder:
        start, photo = time.time(), photos[0] + CANARY.encode()
        with running(None, *model, folder=Path(folder)) as server:
            headers = {"x-request-id": CANARY, "user-agent": CANARY, "referer": CANARY, "cookie": CANARY}
            for data in (photo, photo[:900] + CANARY.encode(), CANARY.encode()):
                httpx.post(f"{server.url}/predict?{CANARY}={CANARY}", content=data, headers=JPEG | headers)
                httpx.post(f"{server.url}/predict", files={CANARY: (f"{CANARY}.jpg", data)}, headers=headers)
                httpx.post(f"{server.url}/", json={"inputs": CANARY, CANARY: CANARY}, headers=headers)
                httpx.get(f"{server.url}/{CANARY}", headers=headers)
        places = [Path(folder), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
        files = {file for place in places for file in place.glob("*" if place != Path(folder) else "**/*")}
        new = [file for file in files if file.is_file() and os.access(file, os.R_OK) and file.stat().st_mtime >= start]
        hits = [file for file in new if CANARY.encode() in file.read_bytes()]
        lines = Path(folder, "log").read_bytes().count(b"\n")
    print(
        f"a word in names, headers, addresses and photos: in {len(hits)} of {len(new)} files (the log: {lines} lines)"
    )
    return not hits and lines >= 12


def main() -> int:
    """Try them all."""
    parser = timing.parser(__doc__)
    parser.add_argument("model", nargs="*", help="a model folder")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="attacks whose name contains one of these; stop; canary"
    )
    parser.add_argument("--tries", type=int, default=2)
    parser.add_argument("--from-here", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = [timing.painted(Path(folder, f"{n}.jpg"), (640, 480), n).read_bytes() for n in range(16)]
    if given.from_here:
        name, port, seconds = given.from_here
        asyncio.run(attack(name, int(port), float(seconds), photos[0]))
        return 0
    print(f"{timing.machine()} Load before: {os.getloadavg()[0]:.1f}.\n")
    print("| attack | photos | refused or late | slowest s | /health s | 500s | MB more | responses |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    wanted = [name for name in ATTACKS if any(part in name for part in given.only)]
    good = [any(attacked(name, given.model, photos, given.seconds) for _ in range(given.tries)) for name in wanted]
    for name, call in {"stop": stopped, "canary": canary}.items():
        if any(part in name for part in given.only):
            good.append(any(call(given.model, photos) for _ in range(given.tries)))
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
