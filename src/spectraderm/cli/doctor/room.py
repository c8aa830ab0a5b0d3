"""Memory, disk, and what we keep in the user's cache folder."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from spectraderm.cli.doctor import cgroup
from spectraderm.cli.doctor.fact import Fact, State

THEME = "Memory and disk"
_LITTLE_MEMORY = 500_000_000
"""A prediction takes 140 MB; the rest is for what else runs."""
_LITTLE_DISK = 1_000_000_000


def room(cache: Path | None) -> Iterator[Fact]:
    """What is free. `cache` is `remembering.cache_folder()`."""
    yield memory(_meminfo(Path("/proc/meminfo")), cgroup.memory())
    yield disk("this folder", Path.cwd(), "Give --out a folder that you may write to")
    yield temporary()
    if cache is None:
        told = "no home, no cache folder: every start tries anew what is fastest"
        yield Fact(THEME, "cache", told, State.warning, "Set SPECTRADERM_CACHE to a folder")
        return
    yield disk("cache", cache, "Set SPECTRADERM_CACHE to a folder that you may write to")
    yield from kept(cache)


def memory(machine: dict[str, int], group: cgroup.Memory | None) -> Fact:
    """What is available, of the machine and of our control group, whichever is less."""
    total, left = machine.get("MemTotal", 0), machine.get("MemAvailable", 0)
    if not total:
        return Fact(THEME, "memory", "the system does not tell")
    told = f"{size(left)} of {size(total)} available"
    if group and group.limit < total:
        told += f"; {size(group.left)} left of this container's limit of {size(group.limit)}"
        left = min(left, group.left)
    if left < _LITTLE_MEMORY:
        return Fact(THEME, "memory", told, State.warning, "End other programs, or raise the limit")
    return Fact(THEME, "memory", told)


def disk(name: str, folder: Path, remedy: str) -> Fact:
    """How much is free where a folder is, or would be made, and whether a file can be written there."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), Path("/"))
    told = str(folder) if there == folder else f"{folder}, not made yet"
    try:
        free = shutil.disk_usage(there).free
        told = f"{size(free)} free at {told}"
        if there != folder and not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(0, f"{there} can't be written to")
        if there == folder:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(b"1")
    except OSError as error:
        return Fact(THEME, name, f"{told}: {error.strerror or error}", State.warning, remedy)
    if free < _LITTLE_DISK:
        return Fact(THEME, name, told, State.warning, "Make room")
    return Fact(THEME, name, told)


def temporary() -> Fact:
    """The folder for what is only needed for a moment. Python passes over a TMPDIR that can't be used, silently."""
    wanted = os.environ.get("TMPDIR")
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        return Fact(THEME, "TMPDIR", str(error.strerror), State.warning, "Set TMPDIR to a folder that you may write to")
    if wanted and Path(wanted).absolute() != Path(folder).absolute():
        told = f"{wanted} can't be used: {folder} is"
        return Fact(THEME, "TMPDIR", told, State.warning, "Set TMPDIR to a folder that you may write to")
    return disk("TMPDIR", Path(folder), "Set TMPDIR to a folder that you may write to")


def kept(cache: Path) -> Iterator[Fact]:
    """What each folder in the cache takes, and how to empty all of it."""
    try:
        folders = sorted(each for each in cache.iterdir() if each.is_dir())
    except OSError:  # not made yet, or said already
        return
    for folder in folders:
        sizes = list(_sizes(folder))
        told = f"{size(sum(sizes))} in {len(sizes)} file{'s' if len(sizes) != 1 else ''}"
        yield Fact(THEME, f"cache: {folder.name}", told)
    if folders:
        yield Fact(THEME, "to empty the cache", f"rm -r {shlex.quote(str(cache))} (all of it can be made again)")


def size(count: float) -> str:
    """Bytes, for people."""
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= each:
            return f"{count / each:.3g} {unit}" if count < 1000 * each else f"{count / each:.0f} {unit}"
    return f"{count:.0f} bytes"


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size
        except OSError:  # deleted a moment ago
            continue


def _meminfo(path: Path) -> dict[str, int]:
    """Linux's figures, in bytes; empty elsewhere."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if len(line.split()) == 3}
