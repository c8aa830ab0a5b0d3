"""The same photos through every door: Python, command line, REST, Gradio's API, the web page, the page in the browser.

    python benchmarks/doors.py [--photos FOLDER] [--model FOLDER] [--count 20]

Without a folder the photos are painted. Prints, for each door, how many photos got another verdict, label, prediction
set or reason than from Python, and the largest difference of a probability; exits with 1 where that is too much.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio_client
import httpx
from clients import OURS, running
from playwright.sync_api import Browser

from spectraderm import load_model
from spectraderm.inference.batch import find
from spectraderm.inference.model_folder import find_model
from spectraderm.inference.reasons import percent
from spectraderm.serving.spaces.deploy import deploy

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import browser_photos
import browser_site

Said = dict[str, Any]
PORT = 8400
_CLI = "from spectraderm.cli.commands import main; main()"
_READ = """card => ({
  verdict: card.className.split(' ')[1],
  title: card.querySelector('h2').innerText,
  reason: card.querySelector('.why').innerText,
  fits: [...card.querySelectorAll('ul.fits li')].map(one => one.innerText),
  bars: Object.fromEntries([...card.querySelectorAll('.bars li')].map(
    one => [one.querySelector('span').innerText, one.querySelector('b').innerText])),
})"""


def main() -> None:
    """Ask at every door, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--model", type=Path, default=find_model(None))
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    model = load_model(given.model, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        paths = chosen(given.photos, given.count, Path(folder))
        expected = [model.predict(path).to_dict() for path in paths]
        print(f"{len(paths)} photos, {model.model_id}: {verdicts(expected)}")
        deploy(str(given.model), "static", Path(folder) / "site")
        doors = {"command line": (cli(paths, given.model), 1e-5)}
        with running(OURS, PORT, str(given.model), "--workers", "1"):
            doors["REST"] = ([rest(path) for path in paths], 1e-5)
            doors["Gradio's API"] = (gradio(paths), 1e-5)
            with browser_site.chromium() as browser:
                shown = page(browser, paths)
        with browser_site.served(Path(folder) / "site") as url, browser_site.chromium() as browser:
            doors["in the browser"] = (static(browser, url, paths), 0.01)
    fine = [compare(name, said, expected, bound) for name, (said, bound) in doors.items()]
    fine.append(compare_shown(shown, expected, model.display_name))
    raise SystemExit(0 if all(fine) else 1)


def chosen(folder: Path | None, count: int, scratch: Path) -> list[Path]:
    """So many photos, spread evenly over a folder; or painted ones."""
    if folder is None:
        for name, data in browser_photos.photos().items():
            (scratch / f"{name}.jpg").write_bytes(data)
        folder = scratch
    names = find(str(folder))
    return [Path(names[number * len(names) // count]) for number in range(count)]


def cli(paths: list[Path], model: Path) -> list[Said]:
    """`spectraderm predict`."""
    command = [sys.executable, "-c", _CLI, "predict", *map(str, paths), "--model", str(model)]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def rest(path: Path) -> Said:
    """`POST /predict`."""
    sent = {"content-type": "application/octet-stream"}
    answer = httpx.post(f"http://127.0.0.1:{PORT}/predict", content=path.read_bytes(), headers=sent, timeout=60)
    return dict(answer.raise_for_status().json())


def gradio(paths: list[Path]) -> list[Said]:
    """`/gradio_api/call/predict`, by Gradio's own client."""
    client = gradio_client.Client(f"http://127.0.0.1:{PORT}", verbose=False)
    return [client.predict(gradio_client.handle_file(path), api_name="/predict") for path in paths]


def page(browser: Browser, paths: list[Path]) -> list[Said]:
    """What the web page shows: words and rounded percentages."""
    tab = browser.new_page()
    tab.goto(f"http://127.0.0.1:{PORT}")
    tab.wait_for_selector("#photo")
    said = []
    for path in paths:
        tab.eval_on_selector("#answer .card", "card => card.dataset.old = 'yes'")
        tab.locator("input[type=file]:not(.camera input)").set_input_files(str(path))
        card = tab.wait_for_selector("#answer .card:not([data-old]) h2", timeout=30_000)
        assert card
        said.append(tab.eval_on_selector("#answer .card", _READ))
    return said


def static(browser: Browser, url: str, paths: list[Path]) -> list[Said]:
    """The page on which the model runs in the browser."""
    tab = browser.new_page()
    tab.goto(url)
    tab.wait_for_function("window.spectraderm")
    return [browser_site.predict(tab, path.read_bytes()) for path in paths]


def verdicts(said: list[Said]) -> str:
    """How many of each."""
    kinds = [one["verdict"] for one in said]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def compare(name: str, said: list[Said], expected: list[Said], bound: float) -> bool:
    """Print how a door's answers differ."""
    fields = ("verdict", "label", "prediction_set", "reason", "in_training")
    other = sum(any(one.get(field) != two[field] for field in fields) for one, two in zip(said, expected, strict=True))
    gaps = [
        abs(one.get("probabilities", {}).get(label, 2.0) - value)
        for one, two in zip(said, expected, strict=True)
        for label, value in two["probabilities"].items()
    ]
    largest = max(gaps, default=0.0)
    print(f"{name:15} {other} differ in {', '.join(fields)}; probabilities within {largest:.1e} (may: {bound:g})")
    return not other and largest <= bound


def compare_shown(shown: list[Said], expected: list[Said], name: Callable[[str], str]) -> bool:
    """The same of what the page shows."""
    other = 0
    for one, two in zip(shown, expected, strict=True):
        judged = two["verdict"] in ("predicted", "unsure")
        bars = {name(label): percent(value) for label, value in two["probabilities"].items()} if judged else {}
        fits = [name(label) for label in two["prediction_set"]] if judged else []
        right = (one["verdict"], one["reason"], one["bars"], one["fits"]) == (two["verdict"], two["reason"], bars, fits)
        other += not (right and (two["verdict"] != "predicted" or two["display_name"] in one["title"]))
    print(f"{'the web page':15} {other} differ in verdict, reason, condition, set, or a percentage as shown")
    return not other


if __name__ == "__main__":
    main()
