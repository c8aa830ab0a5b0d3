"""Nothing public is undocumented: names, arguments, commands, options, and what the files hold."""

import csv
import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from console import COMMANDS

import spectraderm as sd
from spectraderm.data.findings import KNOWN

if TYPE_CHECKING:
    from tinynet import Exported

DOCS = Path(__file__).parents[1] / "docs"
NAMES = sorted({*sd.__all__} - {"__version__"})
METHODS = [
    (kind, name, member)
    for kind in (sd.Classifier, sd.Prediction, sd.Run)
    for name, member in vars(kind).items()
    if not name.startswith("_") and (callable(member) or isinstance(member, property))
]


def test_every_public_name_stands_in_the_reference_once() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: spectraderm\.(\w+)$", text, re.MULTILINE)) == NAMES
    assert "spectraderm.__version__" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_takes(name: str) -> None:
    thing = getattr(sd, name)
    text = inspect.getdoc(thing) or ""
    assert text
    if inspect.isfunction(thing):
        described = re.findall(r"^    (\w+): ", text.partition("Args:\n")[2], re.MULTILINE)
        taken = list(inspect.signature(thing).parameters)
        assert described[: len(taken)] == taken
        assert not taken or "Raises:" in text


@pytest.mark.parametrize(
    ("kind", "name", "member"), METHODS, ids=[f"{kind.__name__}.{name}" for kind, name, _ in METHODS]
)
def test_a_public_method_says_what_it_does(kind: type, name: str, member: object) -> None:
    assert inspect.getdoc(member), f"{kind.__name__}.{name}"


def test_every_command_argument_and_option_has_its_help() -> None:
    assert len(COMMANDS) > 15
    lacks = [name for name, command in COMMANDS.items() if not command.help]
    lacks += [f"{name} {each.name}" for name, command in COMMANDS.items() for each in command.params if not each.help]
    assert lacks == []


def documented(file: str) -> tuple[set[str], set[str]]:
    """The names that `files.md` has for a file: all, and those that not every run has."""
    section = (DOCS / "files.md").read_text(encoding="utf-8").split(f"## {file}\n")[1].split("\n## ")[0]
    rows = [
        (re.findall(r"`([^`]+)`", cells[1]), cells[2].strip())
        for cells in (x.split("|") for x in section.splitlines())
        if len(cells) == 4
    ]
    return {n for names, _ in rows for n in names}, {
        n for names, text in rows for n in names if text.startswith("Where ")
    }


def test_files_hold_what_is_written_of_them(exports: "dict[str, Exported]") -> None:
    run = exports["discriminant"].run

    def header(name: str) -> list[str]:
        with (run / name).open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file))

    def keys(name: str) -> list[str]:
        return list(json.loads((run / name).read_text(encoding="utf-8")))

    logits = [column for column in header("folds/final/logits.csv") if not column.startswith("logit:")]
    held = {
        "`manifest.csv`": header("manifest.csv"),
        "`audit.json`": keys("audit.json"),
        "`split.csv`": header("split.csv"),
        "`history.csv`": header("folds/final/history.csv"),
        "`logits.csv`": [*logits, "logit:<class>"],
        "`calibration.json`": list(sd.Run(run).calibration["home"]),
        "`evaluation.json`": keys("evaluation.json"),
        "`spectraderm.json`": keys("model/spectraderm.json"),
        "Findings": list(KNOWN),
        "Predictions": list(sd.Prediction.__dataclass_fields__),
    }
    for file, names in held.items():
        every, some = documented(file)
        assert set(names) <= every, f"{file} lacks {set(names) - every}"
        assert every - some <= set(names), f"{file} has no {every - some - set(names)}"


def test_what_is_found_elsewhere_is_written_of() -> None:
    facts = sd.load_model().folder.facts["calibration"]["elsewhere"]
    section = (DOCS / "files.md").read_text(encoding="utf-8").split("## `calibration.json`")[1].split("\n## ")[0]
    assert set(facts) <= set(re.findall(r"`(\w+)`", section))
