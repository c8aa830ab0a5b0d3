"""A server as it is run: another process, real sockets and signals."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import schemathesis
from conftest import encode, paint
from handmade import write_model
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

import spectraderm
from spectraderm.core.errors import ModelFolderError, SpectraDermError
from spectraderm.serving.server import ServeOptions, serve

_START = """
import sys
from spectraderm.serving import connection, server
connection.HEAD_SECONDS = connection.STALL_SECONDS = 0.4
workers = int(sys.argv[2])
server.serve(server.ServeOptions(sys.argv[1], port=0, workers=workers, queue=50, body_seconds=0.4, grace=5))
"""
JPEG = {"content-type": "image/jpeg"}


class Running:
    """A server in another process."""

    def __init__(self, model: Path, workers: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(model), str(workers)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr
        self.printed = [self.process.stderr.readline()]
        assert self.printed[0].startswith("Serving by-hand on http://127.0.0.1:"), self.printed
        self.port = int(self.printed[0].split()[3].rsplit(":", 1)[1])
        self._reader = threading.Thread(target=lambda: self.printed.extend(self.process.stderr or []))
        self._reader.start()

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            link.request(method, path, body, JPEG)
            response = link.getresponse()
            return response.status, response.read()
        finally:
            link.close()

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def hung_up_on(self, link: socket.socket, letters: bytes) -> float:
        """Seconds until it closes the connection although a letter comes every 20 ms."""
        start = time.monotonic()
        with contextlib.suppress(OSError):
            for letter in letters:
                link.sendall(bytes([letter]))
                time.sleep(0.02)
            raise AssertionError("it takes all of it")
        return time.monotonic() - start

    def workers(self) -> list[int]:
        """The numbers of its worker processes."""
        below = psutil.Process(self.process.pid).children()
        return [one.pid for one in below if any("spawn_main" in word for word in one.cmdline())]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr
        self.process.stderr.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "model")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Running]:
    made = Running(folder, workers=2)
    yield made
    made.end()


def gone(pids: list[int], seconds: float = 3) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            return True
        time.sleep(0.02)
    return False


def healthy(link: socket.socket) -> bool:
    """Whether this is what comes next."""
    received = b""
    while not received.endswith(b'{"status":"ok"}') and (more := link.recv(1000)):
        received += more
    return received.startswith(b"HTTP/1.1 200 ")


def test_a_worker_that_is_killed_is_replaced(running: Running, folder: Path) -> None:
    photo = encode(paint(1))
    expected = spectraderm.load_model(folder, threads=1).predict(photo)
    before = running.workers()
    assert len(before) == 2
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for _ in range(4):
        status, body = running.send("POST", "/predict?heatmap=true", photo)
        assert status == 200
        assert {**json.loads(body), "notice": ""} == expected.to_dict() | {"notice": ""}


def test_answers_leave_at_once(running: Running) -> None:
    """On a connection that stays open, a body that waits for its head to be confirmed comes 40 ms late."""
    link = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    seconds = []
    for _ in range(9):
        began = time.perf_counter()
        link.request("GET", "/health")
        link.getresponse().read()
        seconds.append(time.perf_counter() - began)
    link.close()
    assert sorted(seconds)[1] < 0.03  # the first one never waits


def test_a_slow_head_is_hung_up_on(running: Running) -> None:
    """However steadily it drips; a head in two pieces is not slow."""
    with running.raw() as link:
        assert 0.3 < running.hung_up_on(link, b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200) < 3
    with running.raw() as link:
        link.sendall(b"GET /health HTTP/1.1\r\n")
        time.sleep(0.1)
        link.sendall(b"Host: a\r\n\r\n")
        assert healthy(link)
        time.sleep(0.6)  # longer than a head may take: a connection may rest between requests
        link.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert healthy(link)


def test_a_slow_body_is_refused(running: Running) -> None:
    with running.raw() as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: 99\r\n\r\nx")
        assert link.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert running.hung_up_on(link, b"y" * 95) < 1.5  # nor is the rest waited for


def test_a_body_on_a_slow_line_is_read_for_as_long_as_it_comes(running: Running) -> None:
    with running.raw() as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: 30000\r\n\r\n")
        for _ in range(10):  # a second in all, of which the limit is 0.4
            time.sleep(0.1)
            link.sendall(b"y" * 3000)
        assert link.recv(1000).startswith(b"HTTP/1.1 422 ")


def test_a_large_body_or_one_of_two_lengths_is_refused_before_it_was_sent(running: Running) -> None:
    with running.raw() as link:
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
        link.sendall(head + b"99999999\r\n\r\n")
        assert link.recv(1000).startswith(b"HTTP/1.1 413 ")
    with running.raw() as link:  # of two lengths: what could smuggle a request past a proxy
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
        assert link.recv(1000).startswith(b"HTTP/1.1 400 ")


def request(method: str, path: str, head: str = "", body: bytes = b"") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\n{head}\r\n".encode() + body


def sized(length: int) -> str:
    return f"Content-Type: image/jpeg\r\nContent-Length: {length}\r\n"


_CHUNKED = "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        *((request(method, "/health", sized(9), b"x"), 400) for method in ("GET", "HEAD", "OPTIONS")),
        (request("GET", "/ready", _CHUNKED, b"f" * 9), 400),
        (request("GET", "/app.css", sized(16_000_000)), 400),
        (request("POST", "/health", sized(16_000_000), b"x" * 4_000_000), 405),
        (request("PUT", "/predict", sized(9)), 405),
        (request("POST", "/nothing", sized(16_000_000), b"x" * 4_000_000), 404),
        (request("POST", "/predict", sized(99_000_000), b"x" * 4_000_000), 413),
        (request("POST", "/predict", "Expect: 100-continue\r\n" + sized(99_000_000)), 413),
        (request("GET", "/health", "Expect: 100-continue\r\n" + sized(5)), 400),
        (request("POST", "/predict", "Content-Encoding: gzip\r\n" + sized(9)), 415),
        (request("POST", "/predict", sized(5) + _CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"), 400),
        (request("GET", "/health", "Content-Length: 0\r\n" + _CHUNKED, b"0\r\n\r\n"), 400),
        (request("POST", "/predict", sized(5) + "Content-Length: 6\r\n", b"hello!"), 400),
        *((request("POST", "/predict", f"Content-Length: {bad}\r\n"), 400) for bad in ("-1", "+5", "5 5", "9" * 30)),
        (request("POST", "/predict", _CHUNKED, b"1\r\nx\r\n" * 99_999), 400),
        (request("POST", "/predict", _CHUNKED, b"5;" + b"x" * 200_000), 400),
        (request("POST", "/predict", _CHUNKED, b"0\r\n" + b"A: b\r\n" * 30_000), 400),
        (request("POST", "/predict", "Content-Encoding: gzip\r\n" + _CHUNKED, b"5\r\nhello\r\nzz\r\n"), 400),
        (request("GET", "/health", "A: b\r\n" * 10_000), 400),
    ],
)  # fmt: skip
def test_what_is_not_due_is_refused_from_the_head_and_hung_up_on(running: Running, sent: bytes, status: int) -> None:
    """The response arrives although the rest of the body is never read."""
    with running.raw() as link, contextlib.suppress(ConnectionError):
        link.sendall(sent)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "path",
    ["/predict/", "/health/", "//a", "/examples", "/" + "a" * 5000, "/%00", "/examples/%2e%2e/x", "/%ff", "/a\\b"],
)
def test_no_path_leads_elsewhere(running: Running, path: str) -> None:
    with running.raw() as link:
        link.sendall(request("GET", path, "Connection: close\r\n"))
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"evil.example" not in answer


def test_who_never_reads_is_hung_up_on(running: Running) -> None:
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", running.port))
        with pytest.raises(ConnectionError):
            flood(link, time.monotonic() + 5)


def flood(link: socket.socket, end: float) -> None:
    while time.monotonic() < end:
        link.sendall(request("GET", "/openapi.json") * 50)


def test_photos_of_clients_that_left_wait_no_longer(running: Running) -> None:
    """They would fill the queue of 50 else."""
    photo = encode(paint(1, (1200, 900)), quality=90)
    for _ in range(99):
        with running.raw() as link:
            link.sendall(request("POST", "/predict", sized(len(photo)), photo))
    time.sleep(0.1)
    assert running.send("POST", "/predict", photo)[0] == 200


POSTS = [(path, "POST", mode) for path in ("/predict", "/") for mode in GenerationMode]
GETS = [(path, "GET", GenerationMode.POSITIVE) for path in ("/health", "/ready", "/model", "/metrics")]


@pytest.mark.parametrize(("path", "method", "mode"), POSTS + GETS)
def test_every_answer_is_as_described_and_no_request_is_a_defect(
    running: Running, path: str, method: str, mode: GenerationMode
) -> None:
    """Requests of every shape, right and wrong, made from the interface's description."""
    interface = schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")
    operation = interface[path][method]

    @settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def sent(case: "schemathesis.Case[Any]") -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])  # any bytes may be sent, but few are photos

    sent()


def test_an_orderly_end_loses_no_request(running: Running) -> None:
    """SIGTERM goes to all its processes, as from a service manager. Ends the server of the tests above."""
    photo = encode(paint(1, (1200, 900)), quality=90)
    statuses: list[int] = []

    def post() -> None:
        statuses.append(running.send("POST", "/predict", photo)[0])

    threads = [threading.Thread(target=post) for _ in range(32)]
    workers = running.workers()
    idle = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    idle.request("GET", "/ready")
    assert idle.getresponse().read() == b'{"status":"ready"}'
    for thread in threads:
        thread.start()
    while not statuses:
        time.sleep(0.005)
    assert len(statuses) < 32
    start = time.monotonic()
    os.killpg(running.process.pid, signal.SIGTERM)
    time.sleep(0.05)
    idle.request("GET", "/ready")
    response = idle.getresponse()
    assert (response.status, response.headers["connection"]) == (503, "close")
    idle.close()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 32
    assert running.process.wait(10) == 0
    assert time.monotonic() - start < 6
    assert gone(workers)
    assert [line for line in running.printed[2:] if not line.startswith('{"time"')] == []


@pytest.mark.parametrize("ends", [signal.SIGTERM, signal.SIGKILL])
def test_a_second_signal_ends_it_at_once_and_its_workers_with_it(ends: signal.Signals, folder: Path) -> None:
    """They see that it has gone, however it went."""
    server = Running(folder, workers=1)
    workers = server.workers()
    with server.raw() as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        server.process.send_signal(ends)
        assert server.process.wait(3) == (0 if ends == signal.SIGTERM else -ends)
    assert gone(workers)
    server.end()


def test_what_speaks_against_a_start(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError):
        serve(ServeOptions(str(tmp_path)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SpectraDermError, match=f"127.0.0.1, port {port} "):
            serve(ServeOptions(str(folder), port=port))
    with pytest.raises(SpectraDermError, match="99999"):
        serve(ServeOptions(str(folder), port=99999))
