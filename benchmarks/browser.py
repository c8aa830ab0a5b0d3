"""The page on which the model runs in the browser: how long its first answer takes, and how its answers differ.

    python benchmarks/browser.py [--model FOLDER]

Compares fifty painted photos with Python's answers, photo by photo, in headless Chromium, and prints what differs. For
timings that mean something nothing else may run.
"""

import argparse
import base64
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page

from spectraderm import load_model
from spectraderm.inference.model_folder import find_model
from spectraderm.serving.spaces.deploy import deploy

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser_photos import photos
from browser_site import chromium, difference, pixels, predict, served

VISITS = 5
_FIRST = """async (text) => {
  const photo = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  await window.spectraderm.predict(photo);
  const first = performance.now();
  await window.spectraderm.predict(photo);
  return [first, performance.now() - first];
}"""


def main() -> None:
    """Build the site, visit it, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=find_model(None))
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        deploy(str(model), "static", Path(folder) / "site")
        print(f"built in {time.monotonic() - started:.1f} s")
        with served(Path(folder) / "site") as url, chromium() as browser:
            visits(browser, url)
            page = browser.new_page()
            page.goto(url)
            compare(page, model)


def visits(browser: Browser, url: str) -> None:
    """Seconds from an empty cache to the first verdict, and from there to the second."""
    photo = base64.b64encode(photos()["large"]).decode()
    found = []
    for _ in range(VISITS):
        context = browser.new_context(service_workers="block")
        page = context.new_page()
        page.goto(url, wait_until="commit")
        while not page.evaluate("Boolean(window.spectraderm)"):
            time.sleep(0.01)
        found.append(page.evaluate(_FIRST, photo))
        context.close()
    for name, times in zip(("first", "next"), zip(*found, strict=True), strict=True):
        middle = statistics.median(times)
        print(
            f"{name} answer: {middle / 1e3:.2f} s (median of {VISITS}, {min(times) / 1e3:.2f}-{max(times) / 1e3:.2f})"
        )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def compare(page: Page, model: Path) -> None:
    """Print each photo whose answer differs at all, and the largest differences."""
    classifier = load_model(model)
    worst = {"pixels": 0.0, "probabilities": 0.0, "novelty": 0.0}
    given, other = photos(), 0
    for name, data in given.items():
        found = difference(predict(page, data), classifier.predict(data).to_dict())
        found["pixels"] = int(np.abs(pixels(page, data).astype(int) - classifier.pixels(data)).max())
        numbers = {key: found.pop(key) for key in worst}
        worst = {key: max(value, numbers[key]) for key, value in worst.items()}
        other += bool(found)
        if found or numbers["pixels"]:
            print(name, found, numbers)
    print(f"{len(given)} photos, {other} with another verdict, label, set or reason; largest differences: {worst}")


if __name__ == "__main__":
    main()
