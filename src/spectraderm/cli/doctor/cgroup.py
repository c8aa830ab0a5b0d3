"""What a container may use of its machine: Linux's control groups, of both versions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Memory:
    """A limit, and what is left of it when files that are only cached have gone, in bytes."""

    limit: int
    left: int


def quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """How many processors' time may be used; None where all of it may. Not more than any group around us has."""
    found = []
    for folder in _folders("cpu", root, own):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory(root: Path = _ROOT, own: Path = _OWN) -> Memory | None:
    """The tightest limit of memory around us, or None."""
    found = []
    for folder in _folders("memory", root, own):
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit and used and limit[0].isdigit() and int(limit[0]) < 1 << 60:  # so version 1 writes "no limit"
            stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines() if line.count(" ") == 1)
            cached = int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)
            found.append(Memory(int(limit[0]), max(int(limit[0]) - int(used[0]) + cached, 0)))
    return min(found, key=lambda each: each.left, default=None)


def _folders(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Of the group that this process is in, and of those around it."""
    for line in _text(own).splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controllers
        folder = base if ".." in inside else base / inside.lstrip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(base))


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
