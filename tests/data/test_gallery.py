import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import paint, row

from spectraderm.data import gallery
from spectraderm.data.duplicates import Copy
from spectraderm.data.manifest import Row
from spectraderm.images.thumbnails import data_url


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def write(folder: Path, rows: list[Row], copies: list[Copy]) -> tuple[str, Page]:
    gallery.write(folder / "gallery.html", rows, copies, lambda number: data_url(paint(number), 20))
    html = (folder / "gallery.html").read_text(encoding="utf-8")
    return html, Page(html)


def pairs(count: int, label: str = "a") -> tuple[list[Row], list[Copy]]:
    """So many test photos and their training twins, each a photo group."""
    sides = [(f"test/{label}/{n}.jpg", f"train/{label}/{n}.jpg", n) for n in range(count)]
    rows = [row(path, label, 1000 * len(label) + n, path.split("/")[0]) for *own, n in sides for path in own]
    return rows, [Copy(path, twin, "near", "test", "train") for path, twin, _ in sides]


def test_leaks_come_first_then_conflicts_then_copies_in_a_folder(tmp_path: Path) -> None:
    rows, copies = pairs(2)
    rows += [row("train/b/0.jpg", "b", 500, "train"), row("train/a/x.jpg", "a", 500, "train")]
    rows += [row("test/b/0.jpg", "b", 600, "test"), row("test/b/1.jpg", "b", 600, "test")]
    copies += [Copy("train/b/0.jpg", "train/a/x.jpg", "exact", "train", "train")]
    copies += [Copy("test/b/1.jpg", "test/b/0.jpg", "crop", "test", "test")]
    html, page = write(tmp_path, rows, copies)
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles == ["Leaks (2)", "Label conflicts (1)", "Copies inside one folder (1)"]
    assert "2 of 4 test photos (50.0 %)" in page.text
    places = [page.text.index(copy.path) for copy in copies]
    assert places == sorted(places)
    assert all(page.text.index(copy.path) < page.text.index(copy.twin) for copy in copies[:3])
    assert page.tags.count("img") == 8
    lines = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line) for line in re.findall(r"<tr><th scope=.row.*?</tr>", html)]
    assert lines == [["A", "5", "2", "2 (all)", "0", "0"], ["B", "3", "2", "0", "1", "2"]]


def test_the_page_asks_for_nothing_outside_and_names_are_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)<_script>"
    rows, copies = pairs(1, evil)
    html, page = write(tmp_path, rows, copies)
    assert page.tags.count("script") == 1  # the page's own
    assert f"train/{evil}/0.jpg" in page.text
    assert page.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"@import|url\(|https?:", html)


def test_a_long_page_is_cut_and_says_so_and_shows_every_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gallery.SHOWN, "leaks", 4)
    (rows, copies), (more, others) = pairs(9), pairs(2, "bb")
    _, page = write(tmp_path, rows + more, copies + others)
    assert page.tags.count("img") == 8
    assert "4 are shown, 7 more are in copies.csv" in page.text
    assert [name in page.text for name in ("test/bb/1.jpg", "test/a/1.jpg", "test/a/2.jpg")] == [True, True, False]


def test_folders_without_tests_or_copies_say_so(tmp_path: Path) -> None:
    rows, _ = pairs(1)
    _, page = write(tmp_path, [replace(own, given_split="") for own in rows], [])
    assert "No file is a copy of another" in page.text
    assert "none can leak" in page.text
