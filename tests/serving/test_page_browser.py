"""The page in a real browser: what a person can do, and what it asks of other hosts (nothing)."""

import base64
import shutil
from collections.abc import Iterator
from importlib import resources
from typing import Any, TypeAlias

import pytest

pytest.importorskip("gradio", reason="the web page needs the extra `page`")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)

from conftest import encode, paint  # noqa: E402
from served_page import Served, served  # noqa: E402

from spectraderm.serving.refusals import TooBusy  # noqa: E402

Browser: TypeAlias = Any
Tab: TypeAlias = Any
PAINTINGS = sorted((resources.files("spectraderm.serving") / "examples").iterdir(), key=lambda file: file.name)
BUTTON = "input[type=file]:not(.camera input)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("page") / "model", max_mb=1) as page:
        yield page


@pytest.fixture
def site(whole: Served) -> Iterator[Served]:
    whole.asked.clear()
    yield whole
    whole.trouble = None


def opened(browser: Browser, site: Served, **options: object) -> Tab:
    """The page in a window of its own; `tab.asked` are the addresses that it asked for."""
    size = {"width": 360, "height": 740}
    tab = browser.new_context(viewport=size, is_mobile=True, has_touch=True, **options).new_page()
    tab.asked = []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.goto(site.url)
    tab.wait_for_selector("#photo")
    return tab


def photo(data: bytes) -> dict[str, Any]:
    return {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": data}


def finding(tab: Tab) -> list[str]:
    """What axe holds to be serious or critical."""
    found = axe.Axe().run(tab).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def answer(tab: Tab, kind: str) -> str:
    """The answer's text once it is of that kind; what holds for all answers holds for it."""
    text: str = tab.wait_for_selector(f"#answer .card.{kind}", timeout=15_000).inner_text()
    assert "Not a diagnosis" in text
    assert "When to see a doctor" in text
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    return text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_readable_and_asks_no_other_host(browser: Browser, site: Served, scheme: str) -> None:
    tab = opened(browser, site, color_scheme=scheme)
    assert tab.title() == "SpectraDerm"
    assert "Not a diagnosis" in tab.inner_text("header")
    assert "At once" in tab.inner_text("#doctor")
    assert finding(tab) == []
    tab.locator(".example").first.click()
    assert answer(tab, "predicted").startswith("It looks most like")
    assert finding(tab) == []
    tab.locator(".example").nth(1).click()
    assert answer(tab, "unsure").startswith("The model can't tell")
    assert site.asked == [file.read_bytes() for file in PAINTINGS[:2]]
    tab.set_input_files(BUTTON, photo(encode(paint(1).point(lambda level: level // 40))))
    assert "too dark" in answer(tab, "unusable_photo")
    tab.set_input_files(BUTTON, photo(b"no photo"))
    assert answer(tab, "refused").startswith("This file can't be used")
    assert finding(tab) == []
    assert {url.split("/")[2] for url in tab.asked if not url.startswith("data:")} == {site.url.split("/")[2]}
    tab.context.close()


@pytest.fixture(scope="module")
def tab(browser: Browser, whole: Served) -> Tab:
    return opened(browser, whole)


def test_keys_are_enough_and_the_colour_obeys(tab: Tab, site: Served) -> None:
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.classList.contains('example')"):
            break
    tab.keyboard.press("Enter")
    answer(tab, "predicted")
    assert tab.get_attribute("#answer [aria-live]", "aria-live") == "polite"
    heat, slider = tab.locator(".heat"), tab.locator(".opacity input")
    for key, opacity in (("Home", "0"), ("End", "1")):
        slider.press(key)
        assert heat.evaluate("one => getComputedStyle(one).opacity") == opacity


PICTURE = "() => document.querySelector('#answer .frame img')?.src"
NEW_PICTURE = f"(old) => {{ const now = ({PICTURE})(); return now && now !== old; }}"
HANDED = """([data, how]) => {
  const files = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  files.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
  if (how === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: files, bubbles: true }));
  else document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
}"""


def test_a_photo_is_dropped_pasted_or_taken_and_arrives_unchanged(tab: Tab, site: Served) -> None:
    photos = [encode(paint(seed), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0") for seed in (11, 12, 13)]
    shown = tab.evaluate(PICTURE)
    for number, how in enumerate(("drop", "paste", "camera")):
        if how == "camera":
            tab.set_input_files(".camera input", photo(photos[number]))
        else:
            tab.evaluate(HANDED, [base64.b64encode(photos[number]).decode(), how])
        tab.wait_for_function(NEW_PICTURE, arg=shown, timeout=15_000)
        shown = tab.evaluate(PICTURE)
    assert site.asked == photos


def test_a_busy_server_and_our_own_defects_are_told_calmly(tab: Tab, site: Served) -> None:
    site.trouble = TooBusy("All places are taken", "Try again in a moment")
    tab.locator(".example").first.click()
    assert "All places are taken. Try again in a moment." in answer(tab, "refused")
    site.trouble = RuntimeError("/secret/place")
    tab.locator(".example").first.click()
    tab.wait_for_selector("text=Something went wrong on our side", timeout=15_000)
    assert "Not a diagnosis" in answer(tab, "refused")
    assert "secret" not in tab.inner_text("body")


def test_what_is_no_photo_by_its_name_is_refused_like_any_other(tab: Tab) -> None:
    """And not by a passing message of Gradio's, with the last answer left standing."""
    tab.locator(BUTTON).set_input_files({"name": "hostname", "mimeType": "", "buffer": b"no photo"})
    tab.wait_for_selector('#answer .card.refused h2:has-text("This file can\'t be used")', timeout=15_000)
    assert tab.locator(BUTTON).get_attribute("accept") == "image/*,.heic,.heif"


def test_too_large_a_photo_is_refused_before_it_is_sent(tab: Tab, site: Served) -> None:
    tab.set_input_files(BUTTON, photo(bytes(1_200_000)))
    assert "It has more than 1 MB." in answer(tab, "refused")
    assert site.asked == []
    tab.locator(".example").first.click()
    answer(tab, "predicted")
