"""`checksums.txt` of a run folder: the SHA-256 of what stages wrote, so that damage is told from a whole file.

One line per file, as `sha256sum --check` reads it. While a stage runs, a line is added as each file gets its name, and
of several lines the last one counts; when it ends, they are put in order. What has no line is not checked: that is how
a file which was edited on purpose is accepted.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from spectraderm.core.files import sha256, write_bytes, write_errors, written

CHECKSUMS = "checksums.txt"
_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\n]*)")
_PASSING = re.compile(r"cache/|log/|model/|model-int8/|\..*|.*/\..*|.*(state|previous)\.safetensors|folds/[^/]+/head/")
"""What is deleted in the end, or carries checksums of its own."""


@contextlib.contextmanager
def noting(run: Path) -> Iterator[None]:
    """Note what `write_bytes` writes below a run folder while this lasts. Raises `WriteError` where it can't be."""

    def note(path: Path, data: bytes) -> None:
        name = os.path.relpath(path, run).replace(os.sep, "/")
        if not name.startswith("../") and name != CHECKSUMS and "\n" not in name and not _PASSING.match(name):
            with write_errors(run / CHECKSUMS), (run / CHECKSUMS).open("ab") as file:
                file.write(f"{sha256(data)}  {name}\n".encode(errors="surrogateescape"))

    _put_in_order(run)
    written.append(note)
    try:
        yield
        _put_in_order(run)
    finally:
        written.remove(note)


def read(run: Path) -> dict[str, str]:
    """What was noted: SHA-256 by relative name. Lines that are none are passed over."""
    try:
        text = (run / CHECKSUMS).read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return {}
    found = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {line[2]: line[1] for line in found if line}


def _put_in_order(run: Path) -> None:
    """Rewrite the lines, sorted and one per file that is there."""
    known = read(run)
    lines = [f"{known[name]}  {name}\n" for name in sorted(known) if (run / name).is_file()]
    text = "".join(lines).encode(errors="surrogateescape")
    if text != ((run / CHECKSUMS).read_bytes() if (run / CHECKSUMS).is_file() else b""):
        write_bytes(run / CHECKSUMS, text)
