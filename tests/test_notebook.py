"""The notebook runs from its first cell to its last, and what is committed of it is what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "spectraderm.ipynb"
RUN = """
import ast, json, sys
shown, names = [], {}
for source in json.load(sys.stdin):
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    shown.append([repr(value), getattr(value, "_repr_html_", str)()])
json.dump(shown, open("shown.json", "w"))
"""
"""Cells as a kernel runs them, and what it would show of each one's last line."""


def code_cells() -> list[dict[str, Any]]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_what_is_committed_was_run_in_order_and_is_small_and_of_no_machine() -> None:
    cells = code_cells()
    assert NOTEBOOK.stat().st_size < 1_000_000
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "execute_result"}
    assert not re.search(r"/(home|root|tmp|work|usr)/", json.dumps([output.get("text") for output in outputs]))
    pictures = json.dumps(outputs).count("image/png")
    assert pictures >= 6


@pytest.mark.timeout(600)
def test_it_runs_to_its_end_and_adapting_helps(tmp_path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in code_cells()]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(sources),
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = json.loads((tmp_path / "shown.json").read_text())
    texts = "\n".join(text for text, _ in shown)
    assert re.search(r"Run\('notebook/run'\): \d+\.\d % of 72 test photos right", texts)
    assert texts.count("unusable_photo") == 2
    assert sum(html.count("data:image/") for _, html in shown) == 6
    assert re.search(r"leakage +6 ", done.stdout)
    before, after = (float(re.search(rf"^{name} +(\S+) of them", done.stdout, re.M)[1]) for name in ("before", "after"))  # type: ignore[index]
    assert after > before
