"""The Spaces as their visitors get them: built, installed into an empty environment, started, and asked in a browser.

    python benchmarks/space.py [gradio|docker|static ...] [--model MODEL] [--chromium PATH]

`gradio` installs what the builder of a Gradio Space does, `gradio[oauth,mcp]` and `spaces` among it; `docker` what the
Dockerfile does, without a container. Then `python app.py` runs where no spectraderm is installed, and headless Chromium
gives it a painted photo. `static` is handed out by `http.server`. Prints the seconds of each step, and what the page
said beside what the model itself says. Installing takes minutes and needs a package index.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from spectraderm.data.synthetic import paint_photo
from spectraderm.inference.classifier import load_model
from spectraderm.serving.content import WORDS
from spectraderm.serving.spaces.deploy import deploy
from spectraderm.serving.spaces.folder import read_space

PORT = 7861
BUILDER = ("uvicorn>=0.14.0", "websockets>=10.4", "spaces")
PATIENCE = 900
LABEL = "FU-ringworm"
TITLES = [verdict["title"] for verdict in WORDS["verdicts"].values()]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long it took."""
    start = time.monotonic()
    yield
    print(f"  {what:<28} {time.monotonic() - start:7.1f} s", flush=True)


def install(space: Path, target: str, environment: Path) -> Path:
    """Install a Space's requirements as its builder does; returns the Python that has them."""
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    arguments = ["--requirement", str(space / "requirements.txt")]
    if target == "docker":
        arguments = ["--only-binary", ":all:", *arguments]
    else:
        lines = (space / "requirements.txt").read_text().splitlines()
        sdk = next(line.removeprefix("gradio") for line in lines if line.startswith("gradio=="))
        arguments += [f"gradio[oauth,mcp]{sdk}", *BUILDER]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "install", "--quiet", *arguments], env=clean, check=True, timeout=PATIENCE)
    subprocess.run([*pip, "check"], env=clean, check=True, timeout=60)
    return python


@contextmanager
def started(command: Sequence[str], folder: Path, ready: str) -> Iterator[None]:
    """Run a server in a folder of its own, until it answers; stop it at the end as a container would be."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    log = folder.with_suffix(".log")
    with log.open("w") as stream:
        settings = kept | {"PORT": str(PORT), "CPU_CORES": "1"}
        server = subprocess.Popen(command, cwd=folder, env=settings, stdout=stream, stderr=stream)
    try:
        for _ in range(600):
            if server.poll() is not None:
                raise SystemExit(f"{command} ended with {server.returncode}:\n{log.read_text()[-2000:]}")
            try:
                urlopen(f"http://127.0.0.1:{PORT}{ready}", timeout=5).close()
                break
            except (URLError, OSError):
                time.sleep(0.1)
        else:
            raise SystemExit(f"{command} does not answer:\n{log.read_text()[-2000:]}")
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def ask(browser: Browser, photo: Path) -> str:
    """Give the page a photo; returns what it says, in one line."""
    page = browser.new_page()
    elsewhere: list[str] = []
    page.on("request", lambda asked: None if f":{PORT}/" in asked.url or asked.url[:5] in ("data:", "blob:") else
            elsewhere.append(asked.url))  # fmt: skip
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.locator("input[type=file]").first.wait_for(state="attached", timeout=30_000)
    page.wait_for_load_state("networkidle")
    with timed("photo to verdict"):
        page.locator("input[type=file]").first.set_input_files(photo)
        page.wait_for_function(
            "titles => titles.some(title => document.body.innerText.includes(title))", arg=TITLES, timeout=60_000
        )
    said = next(title for title in TITLES if title in page.inner_text("body"))
    text = page.inner_text("body")
    page.close()
    around = " ".join(text[text.index(said) :].split())[:160]
    return f"{around} (asked elsewhere: {elsewhere or 'nothing'})"


def run(target: str, model: str | None, browser: Browser, work: Path) -> None:
    """One kind of Space, from the model folder to the verdict."""
    print(target, flush=True)
    space = work / target
    with timed("build"):
        deploy(model, target, space)
    size = sum(file.stat().st_size for file in space.rglob("*") if file.is_file())
    print(f"  {sum(file.is_file() for file in space.rglob('*'))} files, {size / 1e6:.1f} MB")
    command, ready = [sys.executable, "-m", "http.server", str(PORT), "--bind", "127.0.0.1"], "/"
    if target != "static":
        with timed("install"):
            command, ready = [str(install(space, target, work / f"venv-{target}")), "app.py"], "/ready"
    photo = work / "photo.jpg"
    paint_photo(LABEL, np.random.default_rng(7), (640, 480)).save(photo, quality=90)
    begin = time.monotonic()
    with started(command, space, ready):
        print(f"  {'start to ready':<28} {time.monotonic() - begin:7.1f} s")
        print(f"  the page says: {ask(browser, photo)}")
    said = load_model(model).predict(photo)
    print(f"  the model says: {said.verdict}, {said.display_name} {said.probability}")
    there = {file.relative_to(space).as_posix(): file.suffix for file in space.rglob("*") if file.is_file()}
    left = sorted({suffix for name, suffix in there.items() if name not in read_space(space).files})
    print(f"  files that running left: {left or 'none'}")


def main() -> None:
    """Run the chosen kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["gradio", "docker", "static"])
    parser.add_argument("--model")
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=options.chromium, args=flags)
        for target in options.targets:
            run(target, options.model, browser, Path(work))
        browser.close()


if __name__ == "__main__":
    main()
