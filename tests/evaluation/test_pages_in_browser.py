"""Report and gallery as a browser meets them, from a file: phone, dark, keyboard, and no finding of axe."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import encode, paint, row
from handmade import LABELS, Said, write_run
from pages import external, read, share
from playwright.sync_api import Browser, Page

from spectraderm.core.run import COPIES, GALLERY, REPORT, Run
from spectraderm.data import gallery
from spectraderm.data.duplicates import Copy
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.report import write_report
from spectraderm.images.thumbnails import data_url

STANDARD = "confusion matrix, ROC, precision, recall, F1, reliability diagram, calibration, heatmap"
MOST_WORDS = 900


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painted run with errors, sources elsewhere, and a gallery; don't write into it."""
    folder = tmp_path_factory.mktemp("run")
    rows = []
    for number in range(36):
        split = ("train", "val", "test")[number % 3]
        for i, name in enumerate(LABELS):
            guess = name if number % 4 else LABELS[i - 1]
            rows.append(Said(f"{split}/{name}{number}.jpg", 10 * number + i, split, name, guess, 1.0 + number % 5))
    for said in rows:
        (folder / said.path).parent.mkdir(exist_ok=True)
        (folder / said.path).write_bytes(encode(paint(said.group)))
    write_run(folder, {"final": rows}, "deduplicated", audit={"root": str(folder)})
    scores = {name: share(0.4) for name in ("accuracy", "group_accuracy", "balanced_accuracy", "macro_f1", "stated")}
    for name, right in (("clinic", 0.6), ("web", 0.3), ("atlas", 0.45)):
        own = {"n_photos": 40, "n_groups": 30, **scores, "group_accuracy": share(right)}
        external(folder, name, scores=own, chosen_on=True)
    write_report(Run(folder), evaluate(Run(folder)))
    pairs = [
        row("test/a.jpg", "a", 1, "test"),
        row("train/a.jpg", "a", 1, "train"),
        row("train/b.jpg", "b", 2, "train"),
    ]
    copies = [Copy("test/a.jpg", "train/a.jpg", "near", "test", "train")]
    gallery.write(folder / GALLERY, pairs, copies, lambda number: data_url(paint(number), 40))
    assert not (folder / COPIES).exists()
    return folder


def opened(browser: Browser, path: Path, width: int = 375, scheme: str = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: pytest.fail(message.text))
    page.goto(path.as_uri())
    return page


def test_the_report_says_it_in_few_words_and_in_those_of_the_field(run: Path) -> None:
    shown = read(run).shown
    words = [word for word in shown.split() if re.search(r"\w", word)]
    assert 200 < len(words) <= MOST_WORDS
    assert [word for word in STANDARD.split(", ") if word.lower() not in shown.lower()] == []
    parts = ("are guessed right", "at home, on new photos", "believe the first", "elsewhere: web", "ROC")
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)  # the verdict, at home and elsewhere, then pictures


@pytest.mark.parametrize("name", [REPORT, GALLERY])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_sticks_out_of_a_phone(
    browser: Browser, run: Path, name: str, scheme: str
) -> None:
    page = opened(browser, run / name, scheme=scheme)
    page.evaluate("() => document.querySelectorAll('details').forEach((part) => (part.open = true))")
    assert [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(page).response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.close()


def test_tables_sort_by_mouse_and_keys_and_say_so(browser: Browser, run: Path) -> None:
    page = opened(browser, run / REPORT)
    table = page.get_by_role("region", name="At home and elsewhere")

    def column(number: int) -> list[str]:
        cells = table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()
        return [cell.split("\n")[0].removeprefix("elsewhere: ").split(" chosen")[0] for cell in cells]

    assert column(1)[1:4] == ["atlas", "clinic", "web"]
    head = table.get_by_role("columnheader").nth(1)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(cell.removesuffix(" %")) for cell in column(2)[:4]]
    assert values == sorted(values, reverse=True)
    assert column(1)[4].startswith("elsewhere, mean")  # stays at the end
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert [float(cell.removesuffix(" %")) for cell in column(2)[:4]] == sorted(values)
    table.get_by_role("columnheader").nth(0).get_by_role("button").press(" ")
    assert head.get_attribute("aria-sort") is None
    assert column(1)[1:4] == ["atlas", "clinic", "web"]
    page.close()


def test_a_link_into_a_folded_part_opens_it(browser: Browser, run: Path) -> None:
    page = opened(browser, run / REPORT)
    part = page.locator("details", has=page.locator("#calibration"))
    assert part.get_attribute("open") is None
    page.get_by_role("link", name="Calibration").click()
    page.wait_for_function("document.getElementById('calibration').closest('details').open")
    page.close()
