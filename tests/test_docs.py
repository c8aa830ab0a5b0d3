"""What the documents say is so: the picture of the rooms, the commands, the files that are named."""

import re
import tomllib
from pathlib import Path

import pytest
from console import COMMANDS
from dependencies import imported

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "spectraderm"
NAMES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
DOCUMENTS = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = {"cli", "pipeline", "training", "evaluation", "serving", "data", "inference", "images", "core"}


def imports() -> set[tuple[str, str]]:
    """Pairs of rooms, the first of which imports the second anywhere, at its top or within a function."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).with_suffix("").parts[0]
        found |= {(room, name.split(".")[1]) for name in imported(path) if name.startswith("spectraderm.")}
    return {(one, other) for one, other in found if one != other and {one, other} <= ROOMS}


def reached(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All pairs that a chain of arrows joins."""
    closed = set(arrows)
    while more := {(a, d) for a, b in closed for c, d in closed if b == c} - closed:
        closed |= more
    return closed


def test_the_picture_of_the_rooms_is_the_code() -> None:
    picture = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.DOTALL)
    assert picture
    arrows = set(re.findall(r"(\w+) --> (\w+)", picture[1]))
    assert {room for arrow in arrows for room in arrow} == ROOMS
    assert reached(arrows) == reached(imports())
    assert not any((b, a) in reached(arrows) for a, b in arrows)
    assert all((a, b) not in reached(arrows - {(a, b)}) for a, b in arrows), "an arrow that another way makes needless"


def test_every_room_has_its_line_and_no_file_is_too_long() -> None:
    lines = re.findall(
        r"^\| `([\w/]+)`.* \|", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert ROOMS - {"pipeline"} <= {line.rstrip("/") for line in lines}
    assert [path for path in SOURCE.rglob("*.py") if path.read_text(encoding="utf-8").count("\n") > 300] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_that_are_named_exist(document: Path) -> None:
    for name, rest in re.findall(r"\bspectraderm ([a-z]+)\b([^`|\n]*)", document.read_text(encoding="utf-8")):
        if name in ("is", "and", "as"):
            continue
        assert name in COMMANDS, f"{document.name}: spectraderm {name}"
        options = {
            option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        unknown = set(re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", rest.split("#")[0])) - options
        assert not unknown, f"{document.name}: spectraderm {name} {rest}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    names = re.findall(r"(?<![\w:])((?:benchmarks|tests|docs|web|src)/[\w/.-]+\.\w+)", text)
    names += re.findall(r"\]\((?!http)([^)#]+)", text)
    missing = [name for name in names if not (ROOT / name).exists() and not (document.parent / name).exists()]
    assert not missing


def test_what_goes_with_a_project_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
    assert (SOURCE / "py.typed").is_file()
    tested = set(re.findall(r'python: "([\d.]+)"', (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")))
    claimed = {line.split(" :: ")[-1] for line in project["classifiers"] if "Python :: 3." in line}
    assert claimed == tested
