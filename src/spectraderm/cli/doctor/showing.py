"""What was found, for people: what is wrong first, then a table per theme; and as JSON, for programs and reports."""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spectraderm.cli.doctor.fact import Fact, State, broken

_STYLES = {State.ok: "green", State.absent: "dim", State.warning: "bold yellow", State.broken: "bold red"}
_WRONG = (State.broken, State.warning)


def as_json(facts: Sequence[Fact]) -> str:
    """One object: whether anything is broken, and every fact."""
    content = {"broken": broken(facts), "facts": [vars(fact) for fact in facts]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def show(facts: Sequence[Fact], stream: TextIO) -> None:
    """Print for people."""
    console = Console(file=stream, highlight=False)
    wrong = sorted((fact for fact in facts if fact.state in _WRONG), key=lambda fact: _WRONG.index(fact.state))
    if wrong:
        _table(console, "To be mended", [(fact, f"{fact.theme}: {fact.name}", fact.remedy) for fact in wrong])
    for theme, own in groupby(facts, lambda fact: fact.theme):
        _table(console, theme, [(fact, fact.name, _offered(fact)) for fact in own])
    console.print(Text(summary(facts), style="bold"))


def summary(facts: Sequence[Fact]) -> str:
    """One line, the last."""
    warnings = sum(fact.state == State.warning for fact in facts)
    counted = f"{warnings} warning{'s' if warnings != 1 else ''}" if warnings else "no warnings"
    if not broken(facts):
        return f"Photos can be classified here; {counted}."
    return f"Photos can't be classified here: {sum(fact.state == State.broken for fact in facts)} broken, {counted}."


def _offered(fact: Fact) -> str:
    """The remedy of what nobody may miss; all others stand at the top."""
    return fact.remedy if fact.state == State.absent else ""


def _table(console: Console, title: str, rows: Sequence[tuple[Fact, str, str]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(no_wrap=True)
    table.add_column(max_width=32)
    table.add_column(overflow="fold")
    for fact, name, remedy in rows:
        value = Text(fact.value)
        if remedy:
            value.append(f"\n-> {remedy}", style="bold" if fact.state in _WRONG else "dim")
        table.add_row(Text(fact.state.value, style=_STYLES[fact.state]), Text(name), value)
    console.print(table)
    console.print()
