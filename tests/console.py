"""The console script: in this process, or started as one of its own."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import IO, Any, NamedTuple
from unittest import mock

from typer.main import get_command

from spectraderm.cli import commands as cli

COMMANDS: dict[str, Any] = get_command(cli.app).commands  # type: ignore[attr-defined]
START = ["env", "-u", "PYTHONUNBUFFERED", sys.executable, "-c", "from spectraderm.cli.commands import main; main()"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


def call(*arguments: object, stdin: bytes = b"") -> Done:
    """Run it here, on a wide terminal that is none."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    with (
        mock.patch.object(signal, "signal"),
        mock.patch.object(gc, "freeze"),  # this process goes on
        mock.patch.object(sys, "argv", ["spectraderm", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        mock.patch.dict(os.environ, {"COLUMNS": "200"}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err) if isinstance(stream.buffer, io.BytesIO)]
    assert "Traceback" not in texts[1]
    return Done(code, *texts)


def entered_by(*arguments: object) -> dict[str, str]:
    """The modules that it imports in a process of its own, and their files."""
    told = "{name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}"
    code = f"import atexit, json, sys; atexit.register(lambda: print(json.dumps({told})))\n{START[-1]}"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=True)
    modules: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return modules


def start(
    *arguments: object, stdin: int | None = None, stdout: int | IO[bytes] | None = None
) -> "subprocess.Popen[bytes]":
    """Start it, with stderr to be read."""
    return subprocess.Popen([*START, *map(str, arguments)], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
