"""A cluster of two Ray nodes, both on this machine; one is killed while photos are predicted, and the command goes on.

    python benchmarks/machines.py [--photos 600] [--tries 3] [--seed 0]

Prints a line per try: parts that were there when the node was killed, seconds until the command ended, its exit code,
photos without an answer, and whether all parts are those of an unbroken local run, byte for byte.
"""

import argparse
import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import growth
import psutil
import scale
import scale_kill

SHARD = 16
HEADER = ("parts", "seconds", "exit code", "lost", "same bytes")


def main() -> None:
    """Try it so often. Exit code 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    moments, failed = random.Random(given.seed), False
    asked = argparse.Namespace(model="", shard_size=SHARD, kill=True)
    with tempfile.TemporaryDirectory(prefix="m-") as name:
        folder = Path(name)
        photos = growth.link(growth.paint_some(folder / "painted", 100), folder / "photos", given.photos)
        out = folder / "out"
        whole = scale.watched(scale.command(photos, out, "local", asked), "local", given.photos, out)
        print("  ".join(f"{cell:>10}" for cell in HEADER), flush=True)
        with cluster(folder) as address:
            for _ in range(given.tries):
                shutil.rmtree(out)
                command = [*scale.command(photos, out, "ray", asked), "--address", address]
                there, seconds, code = one_try(command, out, address, int(moments.random() * len(whole.sums) * 0.8))
                lost = given.photos - len(set(scale_kill.paths(out / "predictions")))
                same = scale_kill.sums(out) == whole.sums
                cells = (there, f"{seconds:.0f}", code, lost, same)
                print("  ".join(f"{cell!s:>10}" for cell in cells), flush=True)
                failed |= bool(code or lost or not same)
    sys.exit(failed)


def one_try(command: list[str], out: Path, address: str, wanted: int) -> tuple[int, float, int]:
    """Start a second node, have it killed once so many parts are there: how many there were, seconds, exit code."""
    second = node("--address", address, "--num-cpus", "1")
    began = time.monotonic()
    process = subprocess.Popen(command, env=scale.environment())
    while process.poll() is None and len(scale_kill.parts(out)) < wanted:
        time.sleep(0.02)
    there = len(scale_kill.parts(out))
    second.kill()
    code = process.wait(600)
    return there, time.monotonic() - began, code


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The address of a new cluster of one node with one worker; in the end all of its processes are killed."""
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    temporary = str(folder / "r")
    options = ("--include-dashboard", "false", "--temp-dir", temporary, "--node-ip-address", "127.0.0.1")
    try:
        node("--head", "--port", port, "--num-cpus", "1", *options)
        yield f"127.0.0.1:{port}"
    finally:
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(temporary in word for word in one.cmdline()):
                    one.kill()


def node(*options: str) -> psutil.Process:
    """Start one with `ray start`; its raylet."""
    before = set(raylets())
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "start", "--object-store-memory", "100000000", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return next(one for one in raylets() if one not in before)


def raylets() -> list[psutil.Process]:
    """All that run here."""
    return [one for one in psutil.process_iter(["name"]) if one.info["name"] == "raylet"]


if __name__ == "__main__":
    main()
