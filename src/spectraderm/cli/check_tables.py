"""What `doctor` found, for people."""

from collections.abc import Sequence
from itertools import groupby
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spectraderm.cli.doctor import Check, State, is_broken
from spectraderm.core.printable import line


def show_checks(checks: Sequence[Check], stream: TextIO) -> None:
    """Print for people: what is wrong first, then a table per theme, and a summary in the last line."""
    console = Console(file=stream, highlight=False)
    wrong = [check for state in (State.broken, State.warning) for check in checks if check.state == state]
    if wrong:
        rows = [(check, f"{check.theme}: {check.name}", check.remedy) for check in wrong]
        _checks_table(console, "To be mended", rows)
    for theme, group in groupby(checks, lambda check: check.theme):
        rows = [(check, check.name, check.remedy if check.state == State.absent else "") for check in group]
        _checks_table(console, theme, rows)
    warnings = sum(check.state == State.warning for check in checks)
    counted = f"{warnings or 'no'} warning{'s' if warnings != 1 else ''}"
    able = "can't" if is_broken(checks) else "can"
    console.print(Text(f"Photos {able} be classified here; {counted}.", style="bold"))


def _checks_table(console: Console, title: str, rows: Sequence[tuple[Check, str, str]]) -> None:
    styles = {State.ok: "green", State.absent: "dim", State.warning: "bold yellow", State.broken: "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False, title=title, title_justify="left", title_style="bold")
    table.add_column(no_wrap=True)
    table.add_column(max_width=32)
    table.add_column(overflow="fold")
    for check, name, remedy in rows:
        value = Text(line(check.value))
        if remedy:
            value.append(f"\n-> {line(remedy)}", style="dim" if check.state == State.absent else "bold")
        table.add_row(Text(check.state.value, style=styles[check.state]), Text(line(name)), value)
    console.print(table)
    console.print()
