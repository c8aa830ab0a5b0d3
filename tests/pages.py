"""A report read back, and run folders by hand that have something to report."""

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from handmade import LABELS, Said, write_run

from spectraderm.core.files import write_json
from spectraderm.core.run import EXTERNAL, ORIGINAL, REPORT, Run
from spectraderm.evaluation import ledger
from spectraderm.evaluation.evaluate import evaluate
from spectraderm.evaluation.report import write_report


class Page(HTMLParser):
    """The tags of a page, its text, its table rows, and what its attributes ask a browser for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.alts: list[str] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.struck: list[str] = []
        self.text = ""
        self.shown = ""  # the text outside folded details and scripts
        self._folded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("details", "script", "style", "summary"):
            self._folded.append(tag)
        facts = dict(attrs)
        assert not [name for name in facts if name.startswith("on")]
        self.asked += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.alts.append(facts.get("alt") or "")
        if tag == "tr":
            self.rows.append((facts.get("class") or "", []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")
        if tag == "s":
            self.struck.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._folded[-1:] == [tag]:
            self._folded.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._folded in ([], ["details", "summary"]):
            self.shown += data
        if self.rows and self.rows[-1][1]:
            self.rows[-1][1][-1] += data
        if self.tags[-1:] == ["s"] and self.struck[-1] == "":
            self.struck[-1] = data

    def row(self, start: str) -> tuple[str, list[str]]:
        """The class and cells of the one row that starts so."""
        (found,) = [(kind, cells) for kind, cells in self.rows if " ".join(cells[0].split()).startswith(start)]
        return found[0], [" ".join(cell.split()) for cell in found[1]]


def read(run: Path) -> Page:
    return Page((run / REPORT).read_text(encoding="utf-8"))


def evaluated(run: Path) -> dict[str, Any]:
    return evaluate(Run(run))


def report(run: Path) -> Page:
    write_report(Run(run), evaluated(run))
    return read(run)


def scored(run: Path, command: str, beside: str = "") -> None:
    """A line in the ledger."""
    ledger.write(Run(run), ledger.entry(Run(run), command, beside))


def clean_run(run: Path, protocol: str = "deduplicated", groups: int = 4, **options: object) -> Path:
    rows = []
    for number in range(3 * groups):
        split = ("train", "val", "test")[number % 3]
        rows += [Said(f"{split}/{n}{number}.jpg", 10 * number + i, split, n, n) for i, n in enumerate(LABELS)]
    return write_run(run, {"final": rows}, protocol, **options)  # type: ignore[arg-type]


def given_and_by_photo(run: Path) -> Path:
    """By photo, two folds; in the folders as they came one of two test photos is a copy."""
    a, b, _ = LABELS
    facts = [(f"{label}{i}", 2 * i + (label == b), label) for i in range(12) for label in (a, b)]

    def fold(tested: int) -> list[Said]:
        splits = ["test" if group % 4 // 2 == tested else "val" if group % 8 < 4 else "train" for _, group, _ in facts]
        return [Said(p, g, s, label, label if g % 5 else b) for s, (p, g, label) in zip(splits, facts, strict=True)]

    given = [
        Said(path, 0 if path == "b-c11" else group, split, label, label)
        for (path, group, label), split in zip(facts, ["train", "val", *["train"] * 20, "test", "test"], strict=True)
    ]
    folds = {"final": fold(2), "fold-1": fold(0), "fold-2": fold(1), ORIGINAL: given}
    return write_run(run, folds, "grouped", (a, b))


def external(run: Path, name: str, **result: object) -> None:
    write_json(run / EXTERNAL / f"{name}.json", {"name": name, "in_training": 0, **result})


def share(value: float) -> dict[str, Any]:
    return {"value": value, "low": value / 2, "high": 1.0, "n_photos": 40, "n_groups": 30, "too_few": False}


def pictures(page: Page, kind: str = "jpeg") -> list[bytes]:
    head = f"data:image/{kind};base64,"
    return [base64.b64decode(url.removeprefix(head), validate=True) for url in page.asked if url.startswith(head)]
