import base64
import csv
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from conftest import encode, paint
from handmade import LABELS, Said, leaking_run, write_run
from PIL import Image

from spectraderm import artifacts
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.report import CONFUSION_CSV, CONFUSION_PNG, write_report

EVIL = "<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page, its text, and what its attributes ask a browser for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def report(run: Path) -> Page:
    write_report(run, evaluate(run))
    return Page((run / artifacts.REPORT).read_text(encoding="utf-8"))


def card(run: Path) -> str:
    report(run)
    return (run / artifacts.CARD).read_text(encoding="utf-8")


def clean_run(run: Path, protocol: str = "by-photo", **options: object) -> Path:
    rows = []
    for group, split in enumerate(("train", "val", "test")):
        rows += [Said(f"{split}/{label}.jpg", 10 * group + i, split, label, label) for i, label in enumerate(LABELS)]
    return write_run(run, {"final": rows}, protocol, **options)  # type: ignore[arg-type]


def pictures(page: Page, kind: str = "jpeg") -> list[bytes]:
    head = f"data:image/{kind};base64,"
    return [base64.b64decode(url.removeprefix(head), validate=True) for url in page.asked if url.startswith(head)]


def test_the_report_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = report(leaking_run(tmp_path))
    assert page.asked
    assert all(url.startswith("data:image/") for url in page.asked)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", (tmp_path / artifacts.REPORT).read_text(encoding="utf-8"))


def test_names_that_are_html_stay_names(tmp_path: Path) -> None:
    name = f"{EVIL}.jpg"
    rows = [Said("a", 0, "train", EVIL, EVIL), Said(name, 1, "test", EVIL, "b"), Said("b", 2, "test", "b", "b")]
    finding = {"id": "unreadable", "severity": "high", "count": 1, "examples": [name], "remedy": EVIL}
    audit = {"findings": [finding], "root": str(tmp_path)}
    run = write_run(tmp_path / "run", {"final": rows}, "as-given", (EVIL, "b"), audit)
    (tmp_path / name).write_bytes(encode(paint(1)))
    page = report(run)
    assert page.text.count(name) == 2  # among the findings, and among the wrong
    assert "x" not in page.asked
    assert len(pictures(page)) == 1
    told = [line for line in (run / artifacts.CARD).read_text().splitlines() if "onerror" in line]
    assert [re.search(r"(?<!\\)<", line) for line in told] == [None] * 3  # title, class, finding


def test_a_class_name_may_hold_dollars_and_bars(tmp_path: Path) -> None:
    labels = ("a $x^{$ b", "c | d_e*")
    rows = [Said(f"{s}/{i}", i, s, labels[i], labels[i]) for s in ("train", "test") for i in range(2)]
    run = write_run(tmp_path, {"final": rows}, "as-given", labels)
    table = [line for line in card(run).splitlines() if line.startswith("| C ")]
    assert len(table) == 1
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 7


@pytest.mark.parametrize(("leaks", "protocol"), [(True, "as-given"), (False, "as-given"), (False, "by-photo")])
def test_who_tests_on_copies_is_warned(leaks: bool, protocol: str, tmp_path: Path) -> None:
    run = leaking_run(tmp_path) if leaks else clean_run(tmp_path, protocol)
    page = report(run)
    assert ("Do not believe this number" in page.text) == leaks
    assert ("1 of 3 test photos" in page.text) == leaks
    assert ("On the 2 others" in page.text) == leaks
    assert ("Do not believe the test score" in (run / artifacts.CARD).read_text()) == leaks


def test_by_photo_is_not_warned_of_the_leaks_of_the_given_folders(tmp_path: Path) -> None:
    leakage = {"test_photos": 3, "test_photos_with_copy_in_train": 1, "share": 1 / 3}
    page = report(clean_run(tmp_path, audit={"leakage": leakage}))
    assert "Do not believe" not in page.text + (tmp_path / artifacts.CARD).read_text()
    assert "1 of 3 test photos have a copy in train" in page.text


def test_the_wrong_photos_are_shown_the_surest_first_without_what_a_camera_notes(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "test").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "Jane Doe, ward 7", 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 7.5)})
    info: dict[str, Any] = {"exif": exif, "comment": b"Jane Doe", "icc_profile": b"Jane Doe's profile"}
    for name in ("a", "b", "d"):
        (root / f"test/{name}.jpg").write_bytes(encode(paint(ord(name), (300, 200)), **info))
    assert b"Jane Doe" in (root / "test/b.jpg").read_bytes()
    page = report(leaking_run(tmp_path / "run", root))
    shown = pictures(page)
    assert len(shown) == 2
    assert page.text.index("test/d.jpg") < page.text.index("test/b.jpg")
    assert "test/a.jpg" not in page.text
    for data in shown:
        assert b"Jane" not in data
        assert b"Exif" not in data
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.size == (96, 144)  # upright
            assert not picture.getexif()


def test_photos_that_vanished_or_broke_are_named_without_a_picture(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "test").mkdir(parents=True)
    (root / "test/d.jpg").write_bytes(b"broken")
    page = report(leaking_run(tmp_path / "run", root))
    assert not pictures(page)
    assert "test/b.jpg" in page.text
    shutil.rmtree(root)
    assert "test/d.jpg" in report(tmp_path / "run").text


def test_the_confusion_table_adds_up(tmp_path: Path) -> None:
    report(leaking_run(tmp_path))
    rows = list(csv.DictReader((tmp_path / CONFUSION_CSV).read_text().splitlines()))
    assert [row["true"] for row in rows] == list(LABELS)
    for row in rows:
        counts = [int(row[f"guess:{label}"]) for label in LABELS]
        assert sum(counts) == int(row["photos"]) == 1
        assert sum(float(row[f"share:{label}"]) for label in LABELS) == pytest.approx(1)
    assert [int(row["guess:b-c"]) for row in rows] == [0, 0, 1]


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    report(leaking_run(tmp_path))
    names = [artifacts.REPORT, artifacts.CARD, CONFUSION_PNG, CONFUSION_CSV, "folds/final/curves.png"]
    first = {name: (tmp_path / name).read_bytes() for name in names}
    report(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in names} == first


def test_figures_are_pictures(tmp_path: Path) -> None:
    page = report(leaking_run(tmp_path))
    embedded = pictures(page, "png")
    assert embedded == [(tmp_path / CONFUSION_PNG).read_bytes(), (tmp_path / "folds/final/curves.png").read_bytes()]
    for data in embedded:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            picture.load()
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 10


def test_the_card_opens_with_what_the_hub_reads(tmp_path: Path) -> None:
    text = card(leaking_run(tmp_path))
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["license"] == "other"
    assert {"license_name", "license_link", "library_name", "metrics"} <= head.keys()
    assert head["pipeline_tag"] == "image-classification"
    assert {"dermatology", "onnx"} <= set(head["tags"])


def test_the_card_states_the_scores_and_the_limits(tmp_path: Path) -> None:
    text = card(leaking_run(tmp_path))
    test = evaluate(tmp_path)["splits"]["test"]["accuracy"]
    assert f"| {100 * test['value']:.1f} % ({100 * test['low']:.1f}–{100 * test['high']:.1f}) |" in text
    assert "| B c | 1 | 1 | 0.0 % | 0.0 % | 0.0 % |" in text
    assert "Not a medical device" in text
    assert "not calibrated" in text
    assert not re.search(r"\{\{|\{%|None|undefined|nan", text)


def test_the_card_tells_no_path_of_this_machine(tmp_path: Path) -> None:
    root = tmp_path / "people" / "photos"
    run = clean_run(tmp_path, backbone_name=str(root / "my-resnet"), photos=str(root), audit={"root": str(root)})
    assert "--backbone my-resnet " in card(run)
    assert str(tmp_path) not in card(run)
