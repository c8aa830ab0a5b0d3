"""The notebook runs from its first cell to its last, and what is committed of it is what it shows."""

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from tinynet import small_inputs

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "spectraderm.ipynb"


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


def shown(source: str, names: dict[str, Any]) -> tuple[str, str]:
    """Run a cell as a kernel does; what it would show of its last line, as text and as HTML."""
    tree = ast.parse(source)
    ends = tree.body[-1]
    last = ends if isinstance(ends, ast.Expr) else None
    del tree.body[len(tree.body) - bool(last) :]
    exec(compile(tree, "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    return repr(value), getattr(value, "_repr_html_", str)()


@pytest.mark.timeout(600)
def test_it_runs_to_its_end_and_adapting_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with warnings.catch_warnings(action="ignore"), small_inputs():
        outputs = [shown("".join(cell["source"]), names) for cell in code_cells()]
    printed = capsys.readouterr().out
    texts = "\n".join(text for text, _ in outputs)
    assert re.search(r"Run\('notebook/run'\): \d+\.\d % of 72 test photos right", texts)
    assert texts.count("unusable_photo") == 2
    assert sum(html.count("data:image/") for _, html in outputs) == 6
    assert re.search(r"leakage +6 ", printed)
    before, after = (float(re.search(rf"^{name} +(\S+) of them", printed, re.M)[1]) for name in ("before", "after"))  # type: ignore[index]
    assert after > before
