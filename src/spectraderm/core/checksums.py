"""`checksums.txt` of a run folder: the SHA-256 of what was written, so that damage is told from a whole file.

One line per file, as `sha256sum --check` reads it. While a stage runs, a line is added as each file gets its name, and
of several lines the last one counts; when it ends, they are put in order. What has no line is not checked: that is how
a file which was edited on purpose is accepted.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from spectraderm.core.errors import WriteError
from spectraderm.core.files import write_file, written

CHECKSUMS = "checksums.txt"
_LINE = re.compile(r"([0-9a-f]{64})  (\S[^\n]*)")
_PASSING = re.compile(r"cache/|log/|model/|model-int8/|\..*|.*/\..*|.*(state|previous)\.safetensors|folds/[^/]+/head/")
"""What is deleted in the end, or carries checksums of its own."""

_runs: list[Path] = []


@contextlib.contextmanager
def noting(run: Path) -> Iterator[None]:
    """Note what is written below a run folder while this lasts. Raises `WriteError` where that can't be noted."""
    here = _absolute(run)
    if here in _runs:
        yield
        return
    _put_in_order(run)
    _runs.append(here)
    written.append(_note)
    try:
        yield
        _put_in_order(run)
    finally:
        written.remove(_note)
        _runs.remove(here)


def _note(path: Path, data: bytes) -> None:
    """Note that a file has got these bytes, where its folder's files are being noted."""
    where = _absolute(path)
    for run in _runs:
        if where.is_relative_to(run):
            name = where.relative_to(run).as_posix()
            if name != CHECKSUMS and "\n" not in name and not _PASSING.match(name):
                _add(run / CHECKSUMS, f"{hashlib.sha256(data).hexdigest()}  {name}\n")


def read(run: Path) -> dict[str, str]:
    """What was noted: SHA-256 by relative name. Lines that are none are passed over."""
    try:
        text = (run / CHECKSUMS).read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return {}
    found = (_LINE.fullmatch(line) for line in text.split("\n"))
    return {line[2]: line[1] for line in found if line}


def altered(run: Path, name: str, expected: str) -> bool:
    """Whether a file has other bytes than were noted. One that lacks is not altered. Raises `OSError`."""
    try:
        with (run / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != expected
    except FileNotFoundError:
        return False


def _put_in_order(run: Path) -> None:
    """Rewrite the lines, sorted and one per file that is there."""
    known = read(run)
    lines = [f"{known[name]}  {name}\n" for name in sorted(known) if (run / name).is_file()]
    text = "".join(lines).encode(errors="surrogateescape")
    path = run / CHECKSUMS
    if text != (path.read_bytes() if path.is_file() else b""):
        write_file(path, text)


def _add(path: Path, line: str) -> None:
    try:
        with path.open("ab") as file:
            file.write(line.encode(errors="surrogateescape"))
    except OSError as error:
        raise WriteError(path, error) from error


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links are left as they are
