"""The page in a real browser: slow and failing uploads, large photos, several photos, a first visit."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser_photos import painted, photos
from browser_site import GIVEN, axe, build_or_skip, predict, served, wait_for
from conftest import encode, listening
from handmade import calibration, write_model
from PIL import Image
from playwright.sync_api import Browser, Page

from spectraderm import Classifier, load_model
from spectraderm.cli.console import write_predictions
from spectraderm.core.errors import UnreadablePhoto
from spectraderm.serving.refusals import public
from spectraderm.serving.spaces.site import page_files

NOISE = photos()["noise"]
"""Of 156 kB: the slow one."""


@dataclass
class Served:
    """A page, the model behind it, and what was sent to it."""

    page: Page
    model: Classifier
    bodies: list[bytes] = field(default_factory=list)
    scripted: dict[str, object] = field(default_factory=dict)
    """What takes the place of the model's."""

    def choose(self, *given: bytes, names: tuple[str, ...] = ("a.jpg", "b.jpg", "c.jpg")) -> None:
        files = [
            {"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in zip(names, given, strict=False)
        ]
        self.page.set_input_files("#file", files)  # type: ignore[arg-type]

    def text(self) -> str:
        return re.sub(r"\n+", "\n", self.page.inner_text("#answer"))

    def limit(self, upload: float) -> None:
        """Bytes a second of what is sent; -1: no limit."""
        speeds = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": upload}
        self.page.context.new_cdp_session(self.page).send("Network.emulateNetworkConditions", speeds)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    facts = {"calibration": calibration(3, elsewhere={"temperature": 3.0}, novelty_threshold=3.0)}
    return load_model(write_model(tmp_path_factory.mktemp("page") / "model", facts=facts), threads=1)


@pytest.fixture
def site(browser: Browser, model: Classifier) -> Iterator[Served]:
    page = browser.new_page(viewport={"width": 375, "height": 740})
    result = Served(page, model)
    with _server(result) as url:
        page.goto(url)
        wait_for(page, "#paintings button")
        yield result
        page.close()


@contextmanager
def _server(result: Served) -> Iterator[str]:
    files = page_files(result.model.folder, 0.5)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/") or "index.html"
            kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
            self._give(200 if name in files else 404, files.get(name, b""), kinds.get(name.rpartition(".")[2], ""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            result.bodies.append(body)
            try:
                self._give(200, json.dumps(result.model.predict(body).to_dict() | result.scripted).encode())
            except UnreadablePhoto as error:
                self._give(422, json.dumps({"error": public(error)}).encode())

        def _give(self, status: int, data: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with listening(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield address


def test_a_slow_upload_shows_its_progress_and_clears_the_verdict_before_it(site: Served) -> None:
    page = site.page
    site.choose(photos()["bmp"])
    wait_for(page, "#answer .verdict")
    site.limit(upload=100_000)
    site.choose(NOISE)
    assert page.query_selector("#answer .verdict, #answer figure") is None  # at once, not when the next is there
    assert page.query_selector("#answer .thumbnail img")
    wait_for(page, "#answer progress[value]")
    assert re.search(r"^Sending the photo: \d+ % of 0\.2 MB", site.text())
    assert 0 < page.evaluate("document.querySelector('#answer progress').value") < 1
    site.choose(photos()["jpeg-30-2"])  # instead of the one that is on its way
    wait_for(page, "#answer .verdict")
    assert NOISE not in site.bodies
    site.choose(NOISE)
    wait_for(page, "#answer .verdict")
    assert site.bodies[-1] == NOISE
    assert site.model.predict(NOISE).to_dict() == predict(page, NOISE)


def test_a_failing_upload_shows_its_error_until_the_next_action(site: Served) -> None:
    page = site.page
    page.route("**/predict*", lambda route: route.abort())
    site.choose(photos()["bmp"])
    wait_for(page, "#answer .verdict")
    shown = site.text()
    assert shown.startswith("No answer this time\nThe server does not answer. Try again in a moment.")
    page.unroute("**/predict*")
    page.mouse.wheel(0, 500)
    page.wait_for_timeout(300)
    assert site.text() == shown
    site.choose(photos()["bmp"])
    assert "No answer" not in site.text()
    wait_for(page, "#answer .bars")
    page.evaluate("document.dispatchEvent(new DragEvent('drop', { dataTransfer: new DataTransfer() }))")
    wait_for(page, "#answer .verdict:not(:has(.hint))")
    assert "No photo came with that. Save the picture, then choose its file." in site.text()


def test_a_large_photo_is_sent_turned_and_smaller_and_any_other_as_it_is(site: Served) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    painting = painted(3).resize((3000, 1500), Image.Resampling.BICUBIC)
    large = encode(painting, quality=100, exif=exif.tobytes())
    assert len(large) > 500_000  # more than this server takes
    prediction = predict(site.page, large)
    assert prediction["verdict"] in ("predicted", "unsure")
    with Image.open(io.BytesIO(site.bodies.pop())) as sent:
        assert (sent.format, sent.size, len(sent.getexif())) == ("JPEG", (1024, 2048), 0)
        left, right = sent.crop((0, 0, 8, 8)).resize((1, 1)), painting.crop((0, 1488, 12, 1500))
        pairs = zip(left.convert("RGB").tobytes(), right.resize((1, 1)).tobytes(), strict=True)
        assert max(abs(a - b) for a, b in pairs) < 12  # its corner is where the turned one's was
    tiff = encode(painting.resize((2600, 900)).convert("1"), "TIFF")  # which no browser here decodes
    for same in (photos()["turned-6"], photos()["png-alpha"], tiff):
        predict(site.page, same)
        assert site.bodies.pop() == same
    noise = encode(Image.effect_noise((900, 900), 90), "PNG")
    assert predict(site.page, noise)["refused"].startswith("photo: more than 0.5 MB")


def test_several_photos_get_a_row_each_and_a_file_with_python_s_columns(site: Served) -> None:
    page, given = site.page, (photos()["bmp"], b"no photo", photos()["dark"])
    site.choose(*given, names=("=1+1.jpg", "text,\n.jpg", "dark.jpg"))
    wait_for(page, "#answer button:not([hidden])")
    assert site.text().startswith("3 of 3 photos looked at")
    rows: list[str] = page.evaluate("[...document.querySelectorAll('.rows li')].map((row) => row.innerText)")
    assert rows[0].startswith("=1+1.jpg\n\nIt could be one of these")
    assert "Not a photo in a known format." in rows[1]
    assert "This photo can't be used" in rows[2]
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert axe(page) == []
    with page.expect_download() as download:
        page.click("#answer button")
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    saved, python = list(csv.DictReader(io.StringIO(text, newline=""))), io.StringIO()
    known = [(name, site.model.predict(data)) for name, data in zip("ab", (given[0], given[2]), strict=True)]
    write_predictions(known, "csv", python, site.model, 3)
    expected = list(csv.DictReader(io.StringIO(python.getvalue())))
    assert sorted(saved[0]) == sorted([*expected[0], "error", "remedy"])
    assert [row["path"] for row in saved] == ["'=1+1.jpg", saved[1]["path"], "dark.jpg"]
    assert (saved[1]["verdict"], saved[1]["error"]) == ("", "not a photo in a known format")
    for ours, theirs in zip((saved[0], saved[2]), expected, strict=True):
        for name, value in theirs.items():
            if name != "path" and not name.startswith(("probability", "novelty")):
                assert ours[name] == value, name
            elif name != "path":
                assert (float(ours[name]) == float(value)) if value else ours[name] == "", name


def test_tells_the_colours_and_where_the_evidence_lies_at_the_edge(site: Served) -> None:
    for place, edge in (((1, 1), False), ((0, 5), True), ((5, 11), True)):
        maps = [[float((row, column) == place) for column in range(12)] for row in range(12)]
        site.scripted = {"heatmap": maps}
        site.choose(photos()["bmp"])
        wait_for(site.page, "#answer .heat[style*=left]")
        assert ("strongest at the edge of the photo" in site.text()) == edge
        assert "little evidence" in site.page.inner_text("#answer .legend")


def test_a_first_visit_shows_how_much_of_the_model_has_come_and_then_that_it_stays(
    browser: Browser, model: Classifier, tmp_path: Path
) -> None:
    GIVEN.clear()
    with served(build_or_skip(Path(model.folder.path), tmp_path / "out")) as url:
        page = browser.new_page()
        page.add_init_script(
            "window.lines = [];"
            "new MutationObserver(() => window.lines.push(document.getElementById('loading')?.innerText))"
            ".observe(document, { childList: true, subtree: true, characterData: true })"
        )
        page.goto(url)
        wait_for(page, "#loading .hint", 60)
        parts = {line for line in page.evaluate("window.lines") if line and re.search(r": \d+ % of \d+\.\d MB$", line)}
        assert len(parts) > 2
        assert page.inner_text("#loading").endswith("works without a connection.")
        for large in ("/model/model.onnx", "/runtime/ort-wasm-simd-threaded.wasm"):
            assert GIVEN.count(large) == 1  # not again to keep it
        assert page.evaluate("caches.keys().then((names) => names.length)") == 1
        page.close()
