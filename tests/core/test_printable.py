"""Names that others chose, as a terminal, a spreadsheet, our own tables, Markdown and JSON read them."""

import csv
import io
import json
import unicodedata
from html import unescape
from pathlib import Path

import jinja2
import pytest
from markdown_it import MarkdownIt

from spectraderm.core.errors import SpectraDermError
from spectraderm.core.files import json_bytes, read_csv, write_csv
from spectraderm.core.printable import cell, in_template, json_text, line, markdown, restored, say, stored

STEERING = {
    "evil\x1b]0;x\x07a.jpg": r"evil\x1b]0;x\x07a.jpg",
    "a\nerror: forged.jpg": r"a\nerror: forged.jpg",
    "a\r\nerror: forged.jpg": r"a\r\nerror: forged.jpg",
    "a\x85error: next line": r"a\x85error: next line",
    "sep\u2028error: z": r"sep\u2028error: z",
    "par\u2029a": r"par\u2029a",
    "\u202egpj.exe.jpg": r"\u202egpj.exe.jpg",
    "\u2067isolate\u2069": r"\u2067isolate\u2069",
    "\x9b2Jcsi": r"\x9b2Jcsi",
    "\x1b]8;;http://x\x1b\\link": r"\x1b]8;;http://x\x1b\link",
    "lat\udce9.jpg": r"lat\udce9.jpg",
    "\x7fdel\x00": r"\x7fdel\x00",
}
HARMLESS = [
    "手足病",
    "حصبة",
    "मुँहासे",
    "👩\u200d⚕️ é",
    "no\u00a0break",
    "[red]x[/red]",
    "C:\\x",
    "5 % (1–2)",
    "می\u200cخواهم",
]
FORMULAS = ["=1+1", "+1-1", "-1+1", "@SUM(1)", "\t=1", "\r=1", " =1", '"=1', "'=1", "''=1", "＝1", "＠x", "--", "- 1"]
OTHERS = ["-", "=", "- ", "-0.5", "+3", "-1e-05", "0", "", "a=1", "'quoted'", "''", "it's", "x\ny", "a\tb", "'5", "A;B"]


@pytest.mark.parametrize("name", STEERING)
def test_nothing_steers_a_terminal_or_forges_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert line(name) == line(line(name)) == STEERING[name]
    error = SpectraDermError(f"{name} is no photo", f"Rename {name}")
    assert str(error) == f"{STEERING[name]} is no photo. Rename {STEERING[name]}"
    say(f"error: {name}", "next")
    assert capsys.readouterr().err == f"error: {STEERING[name]}\nnext\n"


@pytest.mark.parametrize("name", HARMLESS)
def test_letters_of_all_languages_stay(name: str) -> None:
    assert line(name) == cell(name) == name
    assert json.dumps(name, ensure_ascii=False) == json_text(name)


@pytest.mark.parametrize("name", [*STEERING, *HARMLESS, *FORMULAS, *OTHERS])
def test_json_and_our_own_tables_give_back_the_name(name: str, tmp_path: Path) -> None:
    text = json_bytes({name: [name]}).decode()
    assert json.loads(text) == {name: [name]}
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n"]
    assert "\u202e" not in text
    assert restored(str(stored(name))) == name
    if name.isprintable():
        write_csv(tmp_path / "t.csv", ["a", f"{name}:b"], [{"a": name, f"{name}:b": -0.5}])
        assert read_csv(tmp_path / "t.csv", ["a", f"{name}:b"], "") == [{"a": name, f"{name}:b": "-0.5"}]


@pytest.mark.parametrize("name", [*FORMULAS, *(f"a;{name}" for name in FORMULAS if name.isprintable())])
def test_no_spreadsheet_finds_a_formula(name: str) -> None:
    stream = io.StringIO()
    csv.writer(stream).writerows([[cell(name), cell(-0.5), cell("-0.5"), cell(None)], [stored(name), -0.5, "-0.5", ""]])
    for row in csv.reader(io.StringIO(stream.getvalue())):
        assert row[1:] == ["-0.5", "-0.5", ""]
        assert not row[0].lstrip().startswith(("=", "+", "-", "@", "＝", "＠", '"'))
    assert "'" in str(cell(name)).partition(";")[2] or ";" not in name


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>", "[a](javascript:x)", "![a](http://x)", "a | b", "`x`", "**b** _i_ ~~s~~", "# h",
        "1. one", "- item", "+ item", "=====", "---", "a\n\n## Forged", "&lt;b&gt;", "http://x.org www.x.org a@b.org",
        "$x$", "\\*", "[a]: http://x", "<!-- gone", "a\u2028# b", "\x1b[2J", "2) two", "=1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "before {} after", "| {} |\n| --- |\n| x |", "## {}", "- {}: x"])
def test_markdown_shows_the_name_and_nothing_else(name: str, around: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    kinds = [[token.type for token in parser.parse(around.format(text))] for text in ("name", markdown(name))]
    assert kinds[0] == kinds[1]
    shown = line(" ".join(name.split()))
    assert shown in unescape(parser.render(around.format(markdown(name))))
    children = [child.type for token in parser.parse(markdown(name)) for child in token.children or ()]
    assert set(children) <= {"text", "text_special"}


def test_templates_print_lines_of_text() -> None:
    templates = jinja2.Environment(autoescape=True, finalize=in_template)
    made = templates.from_string("{% macro b() %}\n<b>{{ x }}</b>\n{% endmacro %}{{ b() }}{{ 3 }}")
    assert made.render(x="<\u202ea\nb") == "\n<b>&lt;\\u202ea\nb</b>\n3"
