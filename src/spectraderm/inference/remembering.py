"""What was found fastest for a model on this machine, kept in the user's cache folder: numbers, never code."""

import hashlib
import json
import os
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from spectraderm.core import artifacts
from spectraderm.core.reading import read_regular
from spectraderm.inference.runtimes import Choice, cores

VARIABLE = "SPECTRADERM_CACHE"
_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "openvino")
_MOST_BYTES = 10_000


def cache_folder() -> Path | None:
    """Where things are kept that can be made again; None for a user without a home."""
    if given := os.environ.get(VARIABLE):
        return Path(given)
    try:
        above = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return above / "spectraderm"


def remembered(onnx: bytes) -> Choice | None:
    """What was found for this model on this machine, or None. Whatever is damaged counts as not found."""
    folder = _folder()
    if folder is None or not folder.is_dir():
        return None
    here = machine()
    try:
        found = json.loads(read_regular(folder / _name(onnx, here), _MOST_BYTES))
        choice = Choice(**found["choice"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return choice if found.get("machine") == here else None


def remember(onnx: bytes, choice: Choice) -> bool:
    """Keep what was found. False where the folder can't be written to."""
    folder, here = _folder(), machine()
    try:
        if folder is None:
            return False
        artifacts.write_json(folder / _name(onnx, here), {"machine": here, "choice": asdict(choice)})
    except OSError:
        return False
    return True


def keeps() -> bool:
    """The folder can be written to, as far as can be told without."""
    folder = _folder()
    try:
        if folder is None:
            return False
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def machine() -> dict[str, str]:
    """What an answer to "which is fastest?" depends on: the processor, the cores we may use, and the runtimes."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {"processor": _processor(), "cores": str(cores())} | {name: at for name, at in versions.items() if at}


def _folder() -> Path | None:
    above = cache_folder()
    return above / "tuning" if above else None


def _name(onnx: bytes, here: dict[str, str]) -> str:
    facts = json.dumps(here, sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(onnx).digest() + facts).hexdigest()[:32] + ".json"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    """The processor's name and what it can compute with, so far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    wide = [flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "amx"))]
    return " ".join([platform.machine(), facts.get("model name", ""), *wide])
