"""`checksums.txt` of a run folder: what stages wrote, whole or damaged, and from what, so that nothing stale is taken.

One line per file, its SHA-256, as `sha256sum --check` reads it. While a stage runs, a line is added before each file
gets its name, and a file may be what any of its lines says; when it ends, they are put in order. What has no line is
not checked: that is how a file which was edited on purpose is accepted.

Below stand comments: of which inputs a stage made its files, by their SHA-256, and which stage did not end.
"""

import contextlib
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectraderm.core.errors import RunFolderError
from spectraderm.core.files import sha256, write_bytes, write_errors, written

CHECKSUMS = "checksums.txt"
_LINE = re.compile(r"(?:# (\w+) of )?([0-9a-f]{64})  (\S[^\n]*)")
_UNENDED = re.compile(r"# (\w+) did not end")
_PASSING = re.compile(r"cache/|log/|model/|model-int8/|\..*|.*/\..*|.*(state|previous)\.safetensors|folds/[^/]+/head/")
"""What is deleted in the end, or carries checksums of its own."""


@dataclass
class Noted:
    """What `checksums.txt` says.

    Attributes:
        files: by relative name the SHA-256 that a file may have; of several the last is the newest.
        inputs: by stage, by relative name, the SHA-256 of a file when the stage read it.
        unended: stages that began to write and did not end.
    """

    files: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    inputs: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    unended: set[str] = field(default_factory=set)


@contextlib.contextmanager
def noting(
    run: Path, stage: str = "", inputs: Mapping[str, str] | None = None, check: Callable[[str, str], None] | None = None
) -> Iterator[None]:
    """Note what `write_bytes` writes below a run folder while this lasts. Raises `WriteError` where that can't be.

    A `stage` begins with the first file and ends with this; without one, only files are noted. `inputs` are its
    SHA-256 by relative name. `check` is asked by relative name and SHA-256 before a file gets its name.
    """
    about = _comments(stage, inputs or {})
    begin = f"# {stage} did not end\n{about}" if stage else ""

    def note(path: Path, data: bytes) -> None:
        nonlocal begin
        name = os.path.relpath(path, run).replace(os.sep, "/")
        if not name.startswith("../") and name != CHECKSUMS and "\n" not in name and not _PASSING.match(name):
            made = sha256(data)
            if check:
                check(name, made)
            with write_errors(run / CHECKSUMS), (run / CHECKSUMS).open("ab") as file:
                file.write(f"{begin}{made}  {name}\n".encode(errors="surrogateescape"))
            begin = ""

    _put_in_order(run)
    written.append(note)
    try:
        yield
        _put_in_order(run, stage, inputs)
    finally:
        written.remove(note)


def read(run: Path) -> Noted:
    """What was noted. Lines that say nothing are passed over."""
    noted = Noted()
    try:
        text = (run / CHECKSUMS).read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return noted
    for line in text.split("\n"):
        if unended := _UNENDED.fullmatch(line):
            noted.unended.add(unended[1])
        elif (parts := _LINE.fullmatch(line)) and parts[1]:
            noted.inputs[parts[1]][parts[3]] = parts[2]
        elif parts:
            noted.files[parts[3]].append(parts[2])
    return noted


def check_file(run: Path, name: str, allowed: Sequence[str], remedy: str) -> None:
    """Raise `RunFolderError` where a file of a run folder is not what `read` said that it may be."""
    file = run / name
    try:
        with file.open("rb") as stream:
            altered = hashlib.file_digest(stream, "sha256").hexdigest() not in allowed
    except FileNotFoundError as error:
        raise RunFolderError(f"{file} is gone", remedy) from error
    except OSError as error:
        raise RunFolderError(f"{file} can't be read ({error.strerror})", "Look whether it is yours") from error
    if altered:
        raise RunFolderError(
            f"{file} is damaged or was changed: its SHA-256 is not the one in {CHECKSUMS}",
            f"{remedy}; or, where it was changed on purpose, delete its line in {run / CHECKSUMS}",
        )


def digest(file: Path) -> str:
    """What an input is compared by; empty where it can't be read. Settings for photos from elsewhere change no score,
    and don't count.
    """
    try:
        data = file.read_bytes()
        if file.name == "calibration.json":
            data = json.dumps({**json.loads(data), "elsewhere": None}, sort_keys=True).encode()
    except (OSError, ValueError, TypeError):
        return ""
    return sha256(data)


def _comments(stage: str, inputs: Mapping[str, str]) -> str:
    return "".join(f"# {stage} of {digest}  {name}\n" for name, digest in sorted(inputs.items()))


def _put_in_order(run: Path, ended: str = "", inputs: Mapping[str, str] | None = None) -> None:
    """Rewrite the lines, sorted and one per file that is there; a stage that ended is so from now on."""
    noted = read(run)
    if ended:
        noted.inputs[ended] = dict(inputs or {})
    text = ""
    for name, digests in sorted(noted.files.items()):
        if (run / name).is_file():
            actual = sha256((run / name).read_bytes()) if len({*digests}) > 1 else ""
            text += f"{actual if actual in digests else digests[-1]}  {name}\n"
    text += "".join(_comments(stage, of) for stage, of in sorted(noted.inputs.items()))
    text += "".join(f"# {stage} did not end\n" for stage in sorted(noted.unended - {ended}))
    data = text.encode(errors="surrogateescape")
    if data != ((run / CHECKSUMS).read_bytes() if (run / CHECKSUMS).is_file() else b""):
        write_bytes(run / CHECKSUMS, data)
