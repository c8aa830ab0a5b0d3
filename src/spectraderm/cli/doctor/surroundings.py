"""Variables and libraries that change how fast we run, without a word."""

import os
import platform
from collections.abc import Iterator, Mapping

from spectraderm.cli.doctor.fact import Fact, State

THEME = "Environment"
_FOR_EVER = ("infinite", "infinity")
_LONG = 200
"""Milliseconds that OpenMP's threads wait by spinning where nothing is said."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_OURS = ("SPECTRADERM_RUNTIME", "SPECTRADERM_CACHE")


def surroundings(variables: Mapping[str, str] = os.environ) -> Iterator[Fact]:
    """What is set, and what of it will be regretted."""
    for name in _OURS:
        if variables.get(name):
            yield Fact(THEME, name, variables[name])
    given = [f"{name}={variables[name]}" for name in _THREADS if variables.get(name)]
    yield Fact(THEME, "threads", f"{', '.join(given)}: training and audits keep to that" if given else "nothing set")
    yield spinning(variables)
    yield allocator(variables, platform.libc_ver()[0])


def spinning(variables: Mapping[str, str]) -> Fact:
    """Threads that wait by spinning make a neighbour, or our own other threads, many times slower."""
    blocktime = variables.get("KMP_BLOCKTIME", "").lower()
    found = [f"KMP_BLOCKTIME={blocktime}"] if blocktime in _FOR_EVER or _number(blocktime) > _LONG else []
    if variables.get("OMP_WAIT_POLICY", "").lower() == "active":
        found.append("OMP_WAIT_POLICY=active")
    if variables.get("GOMP_SPINCOUNT", "").lower() in _FOR_EVER:
        found.append("GOMP_SPINCOUNT=infinite")
    if found:
        told = f"{', '.join(found)}: waiting threads keep their cores"
        remedy = f"unset {' '.join(each.partition('=')[0] for each in found)}"
        return Fact(THEME, "waiting threads", told, State.warning, remedy)
    return Fact(THEME, "waiting threads", "sleep; ONNX Runtime's are told to")


def allocator(variables: Mapping[str, str], library: str) -> Fact:
    """Who hands out memory: glibc's own returns large blocks after every layer, which training tells it not to."""
    name, loaded = "allocator", variables.get("LD_PRELOAD", "")
    for other in ("jemalloc", "tcmalloc", "mimalloc"):
        if other in loaded:
            return Fact(THEME, name, f"{other}, by LD_PRELOAD")
    if library == "glibc":
        return Fact(THEME, name, "glibc; training tells it to keep large blocks (1.6 times the speed)")
    if platform.system() != "Linux":
        return Fact(THEME, name, "the system's")
    remedy = "Use a system with glibc, such as Debian, or LD_PRELOAD jemalloc"
    return Fact(THEME, name, f"not glibc ({library or 'musl'}): training is slower", State.warning, remedy)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
