"""All photos of an audit, measured in blocks, by this machine's cores or by Ray; what is done outlives a kill.

Of many photos, every block that is measured is kept in a file. A later audit takes it from there, once it has seen that
every photo in it still has the same bytes: that costs a twentieth of measuring.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL
from joblib import Parallel, delayed

from spectraderm.core import artifacts
from spectraderm.core.errors import SpectraDermError
from spectraderm.core.files import write_file
from spectraderm.core.progress import Track
from spectraderm.core.with_ray import spread
from spectraderm.data import measurements as measure
from spectraderm.data.measurements import Table

Engine = Literal["local", "ray"]
MANY = 3000
"""From so many photos on they are read by processes, and blocks are kept."""
BLOCK, _SMALL = 128, 8
"""Photos in a block; of few photos, they are small, so that all cores have some."""

_SOURCES = (
    *(
        "data/measurements.py",
        "data/skin_tone.py",
        "images/perceptual_hash.py",
        "images/quality.py",
        "data/shortcuts.py",
    ),
    *("images/preprocessing.py", "images/rgb.py", "images/headers.py"),
)
_AGAIN = "Free some memory, and run the same command again: it goes on where it was"

Task = list[list[str]]
Answers = Iterable[tuple[int, bytes | None]]


def measure_all(
    root: Path, paths: Sequence[str], folder: Path, track: Track, engine: Engine = "local", address: str = ""
) -> tuple[Table, list[str]]:
    """Measure photos below `root`, which other machines of the engine reach by the same name.

    Args:
        root: the folder of photos.
        paths: of the photos, relative to it.
        folder: where blocks are kept until `forget`.
        track: told of every photo.
        engine: `local` or `ray`.
        address: of a Ray cluster; empty starts one here.

    Returns:
        The columns that `measure.table` tells of, a row per photo that can be used, without `stamp` and `reason`; and
        for every photo why it can't be used, empty where it can.

    Raises:
        SpectraDermError: the engine died, or there is none.
    """
    many = len(paths) > MANY
    size = BLOCK if many else _SMALL
    blocks = [list(paths[at : at + size]) for at in range(0, len(paths), size)]
    kept = _Kept(folder if many else None)
    whole = _Whole(len(paths))
    tasks = _tasks(blocks, kept)
    answers = _on_ray(root, tasks, address) if engine == "ray" else _here(root, tasks, many)
    for _ in track(_done(answers, blocks, kept, whole), "Reading photos", len(paths)):
        pass
    return whole.usable(), whole.reasons


def forget(folder: Path) -> None:
    """Delete the blocks that were kept, and what is left empty by that."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


@dataclass(frozen=True)
class _Kept:
    """Blocks in files of a folder, each after its SHA-256, named by its photos and by what measures them."""

    folder: Path | None

    def read(self, block: list[str]) -> Table | None:
        """What is known of these photos, or None; so, too, where the file is damaged."""
        try:
            data = self._file(block).read_bytes() if self.folder else b""
        except OSError:
            return None
        digest, content = data[:32], data[32:]
        return _table(content) if hashlib.sha256(content).digest() == digest else None

    def write(self, block: list[str], content: bytes) -> None:
        """Keep a block, where there is a place for it."""
        if self.folder:
            with contextlib.suppress(OSError):  # then it is measured again
                write_file(self._file(block), hashlib.sha256(content).digest() + content)

    def _file(self, block: list[str]) -> Path:
        assert self.folder
        return self.folder / artifacts.sha256(json.dumps([_made_by(), block]).encode())[:32]


@cache
def _made_by() -> str:
    """What measurements depend on beside the photo: our own lines, and the libraries that they call."""
    package = resources.files("spectraderm")
    lines = b"".join(package.joinpath(*name.split("/")).read_bytes() for name in _SOURCES)
    return f"{artifacts.sha256(lines)} pillow {PIL.__version__} numpy {np.__version__}"


def _tasks(blocks: list[list[str]], kept: _Kept) -> Iterator[Task]:
    """What `measure.table` is asked for, block by block: what is known of it is looked at again."""
    for block in blocks:
        known = kept.read(block)
        yield [block, known["stamp"].tolist() if known else []]


def _here(root: Path, tasks: Iterable[Task], many: bool) -> Answers:
    # threads wait for each other between the parts that NumPy and Pillow do; processes take seconds to start
    kind: Literal["threading", "loky"] = "loky" if many else "threading"
    jobs = (delayed(measure.table)(str(root), task) for task in tasks)
    try:
        yield from enumerate(Parallel(n_jobs=-1, backend=kind, return_as="generator")(jobs))
    except BrokenProcessPool as error:
        raise SpectraDermError("a process that read photos was killed", _AGAIN) from error


def _on_ray(root: Path, tasks: Iterable[Task], address: str) -> Answers:
    return spread(partial, (measure.table, str(root.resolve())), tasks, address=address)


def _done(answers: Answers, blocks: list[list[str]], kept: _Kept, whole: "_Whole") -> Iterator[str]:
    """Every photo, once its block is in `whole`, and kept."""
    for number, content in answers:
        block = blocks[number]
        table = _table(content) if content is not None else kept.read(block)
        if table is None:
            raise SpectraDermError(f"{kept.folder} was emptied meanwhile", "Run the same command again")
        whole.put(number * len(blocks[0]), table)
        if content is not None:
            kept.write(block, content)
        yield from block


def _table(content: bytes) -> Table:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


class _Whole:
    """All photos' columns, made once at their whole length: many small blocks would be given back to nobody.

    Attributes:
        reasons: why each photo can't be used, empty where it can.
    """

    def __init__(self, count: int) -> None:
        self.reasons = [""] * count
        self._columns: Table = {}

    def put(self, start: int, table: Table) -> None:
        """Put a block where its first photo is."""
        reasons = table["reason"].tolist()
        self.reasons[start : start + len(reasons)] = reasons
        rows = start + np.flatnonzero(table["reason"] == "")
        for name, values in table.items():
            if name not in ("stamp", "reason"):
                self._column(name, values)[rows] = values

    def usable(self) -> Table:
        """The columns of the photos that can be used, a row each; nothing is left here."""
        rows = np.array([not reason for reason in self.reasons], bool)
        columns, self._columns = self._columns, {}
        return columns if rows.all() else {name: columns.pop(name)[rows] for name in [*columns]}

    def _column(self, name: str, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A column, wide enough for these values: texts get longer."""
        own = self._columns.get(name)
        if own is None:
            own = np.zeros((len(self.reasons), *values.shape[1:]), values.dtype)
        elif values.dtype.itemsize > own.dtype.itemsize:
            own = own.astype(values.dtype)
        self._columns[name] = own
        return own
