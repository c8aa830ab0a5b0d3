"""The processor: how many cores we may use, and what its instructions mean for integers and 16-bit floats."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spectraderm.cli.doctor import cgroup
from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.inference.runtimes import cores

THEME = "Processor"
_TOLD = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
_TOLD_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve")
_CLOSE = 0.01


@dataclass(frozen=True)
class Processor:
    """Its name and what it can, in Linux's words; no flags where the system does not tell."""

    name: str
    flags: frozenset[str]
    arm: bool = False


def processor() -> Iterator[Fact]:
    """What there is to say of the one we run on."""
    found = read(Path("/proc/cpuinfo"), platform.machine())
    yield Fact(THEME, "model", found.name)
    yield _cores(cores(), os.cpu_count() or 1, cgroup.quota())
    if found.flags:
        told = [flag for flag in (_TOLD_ARM if found.arm else _TOLD) if flag in found.flags]
        yield Fact(THEME, "instructions", " ".join(told) or "none that matter here")
        yield integers(found)
        yield floats(found)


def read(cpuinfo: Path, machine: str) -> Processor:
    """What Linux says of the first core; elsewhere what Python knows."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        lines = []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = frozenset((facts.get("flags") or facts.get("Features") or "").split())
    name = facts.get("model name") or platform.processor() or "name not known"
    return Processor(f"{name} ({machine})", flags, machine.lower() in ("aarch64", "arm64"))


def integers(found: Processor) -> Fact:
    """How fast networks in 8-bit integers are."""
    name = "8-bit integers"
    if found.flags & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}:
        return Fact(THEME, name, "fast: it adds their products in one instruction")
    if "avx2" in found.flags:
        return Fact(THEME, name, "half as fast as with VNNI; the answers are the same")
    if found.arm:
        return Fact(THEME, name, "slower than on processors with dot products; the answers are the same")
    told = "slow: it has no AVX2"
    return Fact(THEME, name, told, State.warning, "Try `predict --precision float`, or another machine")


def floats(found: Processor) -> Fact:
    """Whether 16-bit floats would pay."""
    name = "16-bit floats (bf16)"
    if "amx_bf16" in found.flags:
        return Fact(THEME, name, "fast (AMX); predictions still use 32 bits, which they were calibrated in")
    if found.flags & {"avx512_bf16", "bf16"}:
        told = "units for them, but no AMX: slower than 32 bits. OpenVINO would take them silently, and is told not to"
        return Fact(THEME, name, told)
    return Fact(THEME, name, "no units for them: 32 bits are faster")


def _cores(ours: int, all_of_them: int, quota: float | None) -> Fact:
    """Threads are made for each core that we may run on; a quota of their time is not seen by them."""
    told = f"{ours} of {all_of_them} may be used"
    if quota is None or quota > ours - _CLOSE:
        return Fact(THEME, "cores", told)
    whole = max(round(quota), 1)
    told = f"{told}, but only {quota:g} cores' time: {ours} threads will wait for each other"
    if whole >= ours:
        return Fact(THEME, "cores", told)
    remedy = f"Start with `taskset -c 0-{whole - 1}`, or give the container whole cores (--cpuset-cpus)"
    return Fact(THEME, "cores", told, State.warning, remedy)
