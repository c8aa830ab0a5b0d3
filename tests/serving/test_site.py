"""The site in the browser: the same answers as Python's for the same bytes, from its own host alone, and offline."""

import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_photos import painted, photos
from browser_site import (
    WEB,
    axe,
    build_or_skip,
    difference,
    pixels,
    predict,
    run_typescript,
    served,
    wait_for,
)
from conftest import encode, jpeg_of_size, paint, png
from handmade import calibration, write_model
from PIL import Image
from playwright.sync_api import Browser, Page

from spectraderm import load_model
from spectraderm.core.errors import MissingExtra, UnreadablePhoto
from spectraderm.core.files import write_bytes
from spectraderm.core.printable import cell
from spectraderm.images import perceptual_hash as hashing
from spectraderm.images.decoding import decoding_scale
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.images.quality import flaws, measure
from spectraderm.inference.calibration import Calibration
from spectraderm.inference.model_folder import find_model, read_model_folder
from spectraderm.inference.prediction import VERDICTS, percent, reason
from spectraderm.serving.content import WORDS
from spectraderm.serving.spaces import runtime, site
from spectraderm.serving.spaces.deploy import deploy
from spectraderm.serving.spaces.runtime import RuntimeDownloadError

KEY = "k\u00e9y"
COMPARED = (
    "jpeg-30-2",
    "turned-6",
    "progressive",
    "cmyk",
    "png-alpha",
    "png-gamma",
    "png-moving",
    "webp",
    "gif-moving",
    "noise",
)


def profile(space: bytes) -> bytes:
    """The head of a colour profile."""
    return bytes(16) + space + bytes(16) + b"acsp" + bytes(88)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose network is small; don't write into it."""
    both = {"calibration": calibration(3, elsewhere={"temperature": 3.0})}
    return write_model(tmp_path_factory.mktemp("small") / "model", facts=both)


@pytest.fixture(scope="module")
def page(browser: Browser, small: Path) -> Iterator[Page]:
    """The page of that model, which runs in it."""
    with hosted("browser", small, small.parent) as url:
        opened = browser.new_page()
        opened.goto(url)
        yield opened


def test_decodes_and_answers_as_python_does(page: Page, small: Path) -> None:
    model, given = load_model(small, threads=1), photos()
    for name in COMPARED:
        found = difference(predict(page, given[name]), model.predict(given[name]).to_dict())
        assert found.pop("probabilities") < 0.01, name
        assert found.pop("novelty") < 0.002, name
        assert not found, name
        assert np.abs(pixels(page, given[name]).astype(int) - model.pixels(given[name])).max() <= 1, name


def test_the_default_model_answers_the_same_even_offline_and_asks_no_other_host(
    browser: Browser, tmp_path: Path
) -> None:
    requests: list[str] = []
    with hosted("browser", find_model(None), tmp_path) as address:
        page = browser.new_page()
        page.context.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        page.context.set_offline(True)
        page.reload()
        data = photos()["jpeg-30-2"]
        found = difference(predict(page, data), load_model(threads=1).predict(data).to_dict())
        assert found.pop("probabilities") < 0.01
        assert found.pop("novelty") < 0.002
        assert not found
        assert page.evaluate("crossOriginIsolated")  # so that the model may use all cores
        page.context.close()
    assert len(requests) > 8
    assert {url for url in requests if not url.startswith(address)} == set()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a photo in a known format"),
        (encode(paint(1))[:900], "damaged or incomplete"),
        (encode(paint(1), "PNG")[:-40], "damaged or incomplete"),
        (encode(paint(1).convert("CMYK"), icc_profile=profile(b"CMYK")), "can't go by its profile of CMYK colours"),
        (encode(paint(1), icc_profile=profile(b"Lab ")), "can't go by its profile of Lab colours"),
        (png(32, 32, 8, 2, b"\x7f" * 96, (b"cICP", b"\x09\x10\0\1")), "a PNG of HDR light levels"),
        (encode(paint(1), "TIFF"), "browsers can't open TIFF"),
        (b"\0\0\0\x18ftypheic" + bytes(64), "browsers can't open HEIC"),
        (jpeg_of_size(30000, 30000), "more than 64 megapixels"),
        (encode(Image.new("L", (5100, 5000)), "PNG"), "a PNG of more than 25 megapixels"),
        (b"RIFF0000WEBPVP8X" + bytes(8) + 2 * (9999).to_bytes(3, "little"), "10000x10000 is more than 64 megapixels"),
        (
            encode(Image.new("RGB", (4000, 3200)), "WEBP", lossless=True, method=0),
            "a WEBP of more than 12.5 megapixels",
        ),
        (encode(Image.new("RGB", (4000, 3200)), "WEBP", method=0), "a WEBP of more than 12.5 megapixels"),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, 6000, -6000), "a BMP of more than 25 megapixels"),
        (encode(Image.new("L", (15, 15)), "PNG"), "15x15 is too small"),
        (encode(Image.new("L", (1000, 20)), "PNG"), "a strip, not a photo"),
    ],
)
def test_refuses_what_is_no_photo_or_too_much(page: Page, data: bytes, problem: str) -> None:
    assert problem in predict(page, data)["refused"]


def test_refuses_a_jpeg_of_many_scans_as_python_does(page: Page, small: Path) -> None:
    whole = encode(painted(1), progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(UnreadablePhoto) as error:
        load_model(small, threads=1).predict(whole[:-2] + 70 * last + whole[-2:])
    assert predict(page, whole[:-2] + 70 * last + whole[-2:])["refused"] == str(error.value)


@contextmanager
def hosted(engine: str, model: Path, folder: Path) -> Iterator[str]:
    """The address of the page of a model that runs in the page, or in a server beside it, which wants a key."""
    if engine == "browser":
        with served(build_or_skip(model, folder / "out")) as url:
            yield url
        return
    options = f"{str(model)!r}, port=0, workers=1, api_key={KEY!r}"
    code = f"from spectraderm.serving.server import *; serve(ServeOptions({options}))"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        yield re.findall(r"http://\S+", server.stderr.readline())[0]
        server.terminate()


@pytest.mark.parametrize("engine", ["browser", "server"])
def test_shows_the_likeliest_with_their_chances_and_heatmap_by_keyboard(
    browser: Browser, tmp_path: Path, engine: str
) -> None:
    means = {"n_sources": 3, "group_accuracy": {"value": 0.584}, "predicted": {"value": 0.06}}
    by_source = {str(value): {"group_accuracy": {"value": value}} for value in (0.4, 0.7)}
    elsewhere = {"temperature": 3.0, "expected": {"pooled": means, "by_source": by_source}}
    model, data = _model(tmp_path, novelty_threshold=3.0, elsewhere=elsewhere), photos()["bmp"]
    prediction, named = load_model(model).predict(data), load_model(model).display_name
    with hosted(engine, model, tmp_path) as url:
        page = browser.new_page(http_credentials={"username": "anybody", "password": KEY})
        _show(page, url, data)
        fitting = [named(label) for label in prediction.prediction_set]
        bars = [f"{named(label)}{percent(share)}" for label, share in prediction.probabilities.items()]
        assert (prediction.verdict, len(fitting)) == ("unsure", 2)
        assert _bars(page, "#answer .beside > .bars") == bars[:2]
        assert _bars(page, "#answer details:not([open]) .bars") == bars
        assert page.inner_text("#answer .set").endswith(f"about 90 of 100 photos from elsewhere: {', '.join(fitting)}.")
        title = WORDS["verdicts"]["unsure"]["title"]
        assert page.inner_text("#answer .verdict").startswith(f"{title}\n")
        assert "Judged as a photo from elsewhere." in page.inner_text("#answer .verdict")
        assert "%" not in page.inner_text("#answer .verdict")
        intro = page.inner_text(".intro")
        assert "learned three skin conditions from 1 different photos" in intro
        assert "was right in 58 of 100, from 40 to 70 by place" in intro
        assert "So it mostly names the two or three likeliest" in intro
        assert "spectraderm adapt MODEL MY_PHOTOS --out MODEL2" in page.inner_text("footer")
        assert "calibrate" not in page.inner_text("footer")
        assert WORDS["privacy"][engine] in page.inner_text("#intake")
        page.focus("#answer input[type=range]")
        page.keyboard.press("Home")
        assert page.evaluate("document.querySelector('#answer .heat').style.opacity") == "0"
        assert axe(page) == []
        assert predict(page, b"text")["refused"].startswith("photo: not a photo in a known format")
        page.close()


def test_shows_one_condition_with_the_promise_and_no_other_number(browser: Browser, tmp_path: Path) -> None:
    model, data = _model(tmp_path, novelty_threshold=3.0), photos()["bmp"]
    prediction = load_model(model).predict(data)
    with hosted("browser", model, tmp_path) as url:
        page = browser.new_page()
        _show(page, url, data)
        text = page.inner_text("#answer .verdict")
        assert text.startswith(f"{WORDS['verdicts']['predicted']['title']}\n{prediction.display_name}\n")
        assert prediction.reason in text
        assert "at least 95 of 100" in text
        assert "Judged as a photo of the collection" in text
        assert "%" not in page.inner_text("#answer")
        assert "on photos from elsewhere it is right far less often" in page.inner_text(".intro")
        assert "spectraderm calibrate MODEL --external PHOTOS" in page.inner_text("footer")
        page.click("#answer summary")
        assert len(_bars(page, "#answer details[open] .bars")) == 3
        page.close()


def test_shows_no_guess_where_there_is_none(browser: Browser, tmp_path: Path) -> None:
    with hosted("browser", _model(tmp_path, novelty_threshold=-1.0), tmp_path) as url:
        page = browser.new_page(viewport={"width": 360, "height": 740})
        for verdict, photo in (("out_of_scope", "bmp"), ("unusable_photo", "dark")):
            _show(page, url, photos()[photo])
            text, title = page.inner_text("#answer"), WORDS["verdicts"][verdict]["title"]
            assert text.startswith(title)
            assert WORDS["notice"] in text
            assert not re.search(r"\d %|Ringworm|Shingles|Another", text)
            assert page.query_selector("#answer .bars, #answer .heat, #answer .set") is None
            assert page.inner_text("#status").startswith(title)
            assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.close()


def test_shows_no_condition_where_it_looks_most_like_none_of_them(browser: Browser, tmp_path: Path) -> None:
    model, data = _model(tmp_path, "other", novelty_threshold=3.0), photos()["bmp"]
    prediction = load_model(model).predict(data)
    assert (prediction.label, prediction.verdict) == ("other", "out_of_scope")
    with hosted("browser", model, tmp_path) as url:
        page = browser.new_page()
        _show(page, url, data)
        text = page.inner_text("#answer")
        assert text.startswith(WORDS["verdicts"]["out_of_scope"]["title"])
        assert "It looks most like the photos of none of the 2 conditions" in prediction.reason in text
        assert page.query_selector("#answer .bars, #answer .heat, #answer .set") is None
        assert predict(page, data)["verdict"] == "out_of_scope"
        assert "learned two skin conditions" in page.inner_text(".intro")
        assert page.evaluate("document.querySelectorAll('#conditions > *').length") == 2
        assert "other" not in page.inner_text("#conditions").lower()
        page.close()


def _model(folder: Path, third: str = "another", **changes: Any) -> Path:  # noqa: ANN401
    """A model that takes the photos of these tests for its third class."""
    facts = {"calibration": calibration(3, **changes)}
    return write_model(folder / "model", ("VI-shingles", "FU-ringworm", third), facts=facts)


def _bars(page: Page, selector: str) -> list[str]:
    texts: list[str] = page.evaluate(
        "(at) => [...document.querySelectorAll(`${at} li`)].map((bar) => bar.textContent)", selector
    )
    return texts


def _show(page: Page, address: str, photo: bytes) -> None:
    page.goto(address)
    page.set_input_files("#file", {"name": "photo", "mimeType": "image/jpeg", "buffer": photo})
    wait_for(page, "#answer .verdict")


def test_resizing_measures_and_hashes_are_python_s_to_the_bit(tmp_path: Path) -> None:
    sizes = ((320, 240), (97, 131), (128, 128), (60, 700), (1100, 300), (257, 513), (1025, 1030))
    images = [painted(number, size) for number, size in enumerate(sizes)]
    for number, image in enumerate(images):
        (tmp_path / f"{number}.rgb").write_bytes(image.tobytes())
    settings = [Preprocessing(), Preprocessing(64, "crop", 0.9, (0.4, 0.5, 0.6), (0.1, 0.2, 1 / 255))]
    content = [asdict(one) for one in settings]
    script = """
        import { normalised, preprocess } from "src/preprocessing.ts";
        import { measure, whyUnusable } from "src/quality.ts";
        import { turnedHashes } from "src/hashing.ts";
        const hex = (bytes) => Buffer.from(bytes).toString("hex");
        console.log(JSON.stringify(input.sizes.map(([width, height], number) => {
          const image = { width, height, channels: 3, data: new Uint8Array(readFileSync(`${number}.rgb`)) };
          const quality = measure(image);
          const inputs = input.settings.map((settings) => hex(preprocess(image, settings)));
          const planes = (own) => hex(normalised(preprocess(image, own), own).buffer);
          const floats = input.settings.map(planes);
          const why = whyUnusable(quality, width, height);
          return { floats, quality, why, hashes: hex(turnedHashes(image)), inputs };
        })));
    """
    for image, found in zip(
        images, run_typescript(tmp_path, script, {"sizes": sizes, "settings": content}), strict=True
    ):
        assert found["inputs"] == [one(image).tobytes().hex() for one in settings]
        assert found["floats"] == [one.normalised(one(image)[None]).tobytes().hex() for one in settings]
        assert found["hashes"] == hashing.turned_hashes(image).tobytes().hex()
        quality = measure(image)
        assert found["quality"] == {name: vars(quality)[name] for name in found["quality"]}
        against = [flaw for flaw in flaws(quality, *image.size) if flaw.unusable]
        assert found["why"] == (f"{against[0].reason} {against[0].remedy}" if against else None)


def test_large_jpegs_are_scaled_as_python_scales_them(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    sizes = [
        (*map(int, random.integers(300, 9000, 2)), int(size)) for size in (96, 224, 225, 448, 1000) for _ in range(60)
    ]
    sizes += [(1344, 1344, 224), (1343, 1500, 224), (2688, 9000, 224), (26_000, 1300, 224)]
    script = """
        import { decodingScale } from "src/preprocessing.ts";
        console.log(JSON.stringify(input.map(([width, height, size]) => decodingScale(width, height, size))));
    """
    expected = [decoding_scale(width, height, Preprocessing(size).shortest_side) for width, height, size in sizes]
    assert run_typescript(tmp_path, script, sizes) == expected
    assert set(expected) == {1, 2, 4, 8}


@pytest.mark.parametrize("method", ["lac", "raps"])
def test_verdicts_sets_and_reasons_are_python_s(tmp_path: Path, method: Any) -> None:  # noqa: ANN401
    random = np.random.default_rng(8)
    settings = [
        Calibration(0.5, 0.9, method, tuple(random.uniform(0.3, 1.2, 6)), sure, 0.955, 0.4, others, places)
        for sure, others, places in (
            *((0.6, None, 0), (0.6, None, 1), (0.6, 0.05, 3), (0.6, 0.05, 0), (0.9, None, 0), (2.0, None, 0)),
        )
    ]
    settings += [replace(one, promised_accuracy=0.8) for one in settings[:4]]  # of a model with the class `other`
    logits, novelties = random.normal(0, 1.5, (40, 6)), random.uniform(0, 0.5, 40)
    script = """
        import { judge, percent, ranking, reason } from "src/verdict.ts";
        console.log(JSON.stringify(input.settings.flatMap((own) => input.logits.map((logits, number) => {
          const other = own.promised_accuracy === 0.8 ? 2 : -1;
          const { probabilities, fits, verdict } = judge(own, logits, input.novelties[number], other);
          const order = ranking(probabilities);
          const named = order.filter((one) => fits[one]).map((one) => [`class ${one}`, probabilities[one]]);
          const why = reason(verdict, named, own, 6, number % 2 === 0, order[0] === other);
          return { probabilities, fits, verdict, why, percent: probabilities.map(percent) };
        }))));
    """
    content = {
        "settings": [one.to_dict() for one in settings],
        "logits": logits.tolist(),
        "novelties": novelties.tolist(),
    }
    found = iter(run_typescript(tmp_path, script, content))
    for own in settings:
        other = 2 if own.promised_accuracy == 0.8 else None
        judged = own.judge(logits, novelties, other)
        rows = zip(judged.probabilities, judged.sets, judged.verdicts, strict=True)
        for row, (chances, fits, number) in enumerate(rows):
            order = np.argsort(-chances, kind="stable")
            named, verdict = [(f"class {one}", float(chances[one])) for one in order if fits[one]], VERDICTS[number]
            ours = next(found)
            assert ours["probabilities"] == pytest.approx(chances)
            assert (ours["fits"], ours["verdict"]) == (fits.tolist(), verdict)
            none_of_them = order[0] == other
            assert ours["why"] == reason(verdict, named, own, 6, only_home=row % 2 == 0, none_of_them=none_of_them)
            assert verdict == "out_of_scope" or not none_of_them
            assert ours["percent"] == [percent(float(share)) for share in chances]


def test_the_page_in_the_package_is_built_from_strictly_typed_sources(tmp_path: Path) -> None:
    shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules"))
    write_bytes(tmp_path / "src" / "spectraderm" / "serving" / "words.json", json.dumps(WORDS).encode())
    try:
        runtime.npm(tmp_path / "web", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    except (MissingExtra, RuntimeDownloadError) as error:
        pytest.skip(f"no TypeScript compiler without npm and its registry: {error}")
    assert '"strict": true' in (WEB / "tsconfig.json").read_text()
    runtime.npm(tmp_path / "web", "run", "check")
    runtime.npm(tmp_path / "web", "run", "build")
    (built,) = tmp_path.rglob("src/spectraderm/serving/static")
    expected = {path.name: path.read_bytes() for path in built.iterdir()}
    assert {path.name: path.read_bytes() for path in site.STATIC.iterdir()} == expected, "run `npm run build` in web/"


def test_a_site_lists_its_files_for_offline_use_and_names_no_other_host(tmp_path: Path) -> None:
    def offline(out: Path) -> Any:  # noqa: ANN401
        return json.loads((out / "sw.js").read_text().split("const SITE=")[1].split(";")[0])

    out = build_or_skip(write_model(tmp_path / "model"), tmp_path / "out")
    first, second = offline(out), write_model(tmp_path / "other", facts={"model_id": "another"})
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {*first["files"], "sw.js", "space.json", "LICENSE", "NOTICE", "README.md"} == files
    other = re.findall(
        rb"https?://(?!www\.w3\.org)", (out / "index.html").read_bytes() + (out / "app.css").read_bytes()
    )
    assert not other
    assert b'property="og:image" content="./preview.png"' in (out / "index.html").read_bytes()
    deploy(str(tmp_path / "model"), "static", out, repo_id="Me/my_skin")
    head = (out / "index.html").read_text()
    assert '"og:url" content="https://me-my-skin.static.hf.space/"' in head
    assert '"og:image" content="https://me-my-skin.static.hf.space/preview.png"' in head
    with Image.open(out / "preview.png") as preview:
        assert preview.size == (1200, 630)
    assert offline(build_or_skip(second, out))["version"] != first["version"]
    assert json.loads((out / "model" / "model.json").read_bytes())["model_id"] == "another"


def test_says_what_to_do_without_npm_and_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    monkeypatch.setenv("SPECTRADERM_CACHE", str(tmp_path / "cache"))
    for name, value in {"cache": tmp_path / "npm", "registry": "http://127.0.0.1:9", "fetch_retries": 0}.items():
        monkeypatch.setenv(f"npm_config_{name}", str(value))
    try:
        with pytest.raises(RuntimeDownloadError, match="needs a connection"):
            site.site_files(read_model_folder(model))
    except MissingExtra as error:
        pytest.skip(str(error))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"\[web\]"):
        site.site_files(read_model_folder(model))
    assert not (tmp_path / "cache").exists()


def test_a_download_that_was_altered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECTRADERM_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    (tmp_path / "npm").write_text("#!/bin/sh\necho altered > onnxruntime-web-1.30.0.tgz\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(RuntimeDownloadError, match="not the one that this release"):
        runtime.runtime()


def test_the_lock_file_names_no_registry_and_the_runtime_that_is_downloaded() -> None:
    assert b"://" not in (WEB / "package-lock.json").read_bytes()
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]["node_modules/onnxruntime-web"]
    assert (runtime.PACKAGE, f"sha512-{runtime.INTEGRITY}") == (f"onnxruntime-web@{lock['version']}", lock["integrity"])


def test_a_spreadsheet_gets_the_same_cells_from_the_page(tmp_path: Path) -> None:
    names = ["=1+1", "-0.5", "- 1", "a;@x", "-", "\x1b[2J", "a\nb\tc", "\u202eg", "\U000e0041", "\ufeff", "می\u200cخ"]
    script = """
import { csv } from "src/page/rows.ts";
process.stdout.write(JSON.stringify(csv(input.map((path) => ({ path, error: new Error("x") })), [])));
"""
    rows = list(csv.DictReader(io.StringIO(run_typescript(tmp_path, script, names))))
    assert [row["path"] for row in rows] == [str(cell(name)) for name in names]
