"""Writes the page of the commands for MkDocs, from what `--help` says of each."""

from html import escape
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from typer.main import get_command

from spectraderm.cli.commands import app


def on_files(files: Files, config: Any) -> Files:  # noqa: ANN401
    """Add `commands.md`, which is generated."""
    files.append(File.generated(config, "commands.md", content=page()))
    return files


def page() -> str:
    """Every command with its arguments and options, Markdown."""
    group = get_command(app)
    lines = ["# Commands", "", (group.help or "").strip(), ""]
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        context = typer.Context(command, info_name=f"spectraderm {name}")
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [
            f"## {name}",
            "",
            escape((command.help or "").strip(), quote=False),
            "",
            f"    spectraderm {name} {usage}",
            "",
        ]
        lines += ["| option | meaning | default |", "| --- | --- | --- |"]
        lines += [_row(each) for each in command.params if each.name != "help"]
        lines.append("")
    return "\n".join(lines)


def _row(parameter: Any) -> str:  # noqa: ANN401
    names = [parameter.metavar or parameter.name.upper()] if parameter.param_type_name == "argument" else parameter.opts
    default = "" if parameter.default is None or callable(parameter.default) else f"`{parameter.default}`"
    cells = (", ".join(f"`{name}`" for name in names), escape(parameter.help or "", quote=False), default)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
