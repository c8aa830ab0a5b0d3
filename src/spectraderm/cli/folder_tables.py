"""What a person sees of folders of photos, whichever command reads them: their tables and findings; plain tables."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from spectraderm.core.printable import line, say
from spectraderm.core.progress import console


def say_folders(result: Mapping[str, Any]) -> None:
    """What `Beside.facts` tells."""
    for table in result["tables"]:
        say_table(table)
    if result["unreadable"]:
        say(f"{len(result['unreadable'])} could not be read; first: {result['unreadable'][0]}")
    say_findings(result["findings"])


def say_table(table: Mapping[str, Any]) -> None:
    """A table beside the photos: what its columns were taken for."""
    known = ", ".join(f"{name} from {column!r}" for name, column in table["columns"].items()) or "nothing that joins"
    others = f"; as they are: {', '.join(table['other_columns'])}" if table["other_columns"] else ""
    encoding = f"; read as {table['encoding']}" if "encoding" in table else ""
    say(f"TABLE {table['path']}: {table['lines']} lines, {table['photos']} photos; {known}{others}{encoding}")


def say_findings(findings: Sequence[Mapping[str, Any]]) -> None:
    """What was found, and what to do about it."""
    rows = [(own["id"].replace("_", " "), own["severity"], str(own["count"]), own["remedy"]) for own in findings]
    if rows:
        print_table(("finding", "severity", "count", "what to do"), rows)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table of plain texts."""
    table = plain_table(heads, title)
    for cells in rows:
        table.add_row(*(Text(line(cell)) for cell in cells))
    console.print(table, soft_wrap=False)


def plain_table(heads: Sequence[str], title: str | None = None) -> Table:
    """A table without rows, whose heads and title are no markup."""
    shown = Text(line(title)) if title else None
    return Table(
        *(Column(Text(line(head))) for head in heads), box=None, pad_edge=False, title=shown, title_justify="left"
    )
