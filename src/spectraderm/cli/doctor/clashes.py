"""Packages that are in each other's way, told by their metadata alone: to import them might be the end of us."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.cli.doctor.packages import THEME, installed

_HEADLESS = "opencv-python-headless"
_OPENCV = (_HEADLESS, "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
_ONNXRUNTIME = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


def clashes() -> Iterator[Fact]:
    """What is known to go wrong between the packages that are installed."""
    yield from _opencv([name for name in _OPENCV if installed(name)])
    yield from _onnxruntime([name for name in _ONNXRUNTIME if installed(name)])
    yield from _torchvision(build("torch"), build("torchvision"))


def build(package: str) -> str:
    """How a package of PyTorch was built: its version and, where it has one, CUDA's, as in `2.13.0+cpu` or
    `2.13.0 cuda 13.0`; empty where it is not installed. Read, not imported.
    """
    try:
        found = importlib.util.find_spec(package)
        text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8") if found and found.origin else ""
    except (OSError, ValueError, ImportError):
        text = ""
    version = re.search(r"^__version__ *(?::.*?)?= *['\"](.+?)['\"]", text, re.MULTILINE)
    cuda = re.search(r"^cuda *(?::.*?)?= *['\"](.+?)['\"]", text, re.MULTILINE)
    told = version[1] if version else installed(package)
    return f"{told} cuda {cuda[1]}" if told and cuda else told


def _opencv(found: list[str]) -> Iterator[Fact]:
    if not found or found == [_HEADLESS]:
        return
    told = (
        f"{' and '.join(found)}: they overwrite each other's cv2" if found[1:] else f"{found[0]} needs a display's GL"
    )
    others = " ".join(found)
    remedy = f"pip uninstall {others}, then pip install {_HEADLESS}"
    yield Fact(THEME, "OpenCV", told, State.warning, remedy)


def _onnxruntime(found: list[str]) -> Iterator[Fact]:
    if found[1:]:
        told = f"{' and '.join(found)}: they overwrite each other's files"
        remedy = f"pip uninstall {' '.join(found)}, then install the one you want"
        yield Fact(THEME, "ONNX Runtime", told, State.warning, remedy)


def _torchvision(torch: str, torchvision: str) -> Iterator[Fact]:
    """Both for the processor alone, or both for the same CUDA; else torchvision fails when it is imported."""
    if not torch or not torchvision or _platform(torch) == _platform(torchvision):
        return
    told = (
        f"{torchvision} beside torch {torch}: `operator torchvision::nms does not exist`, and transformers imports it"
    )
    yield Fact(THEME, "torchvision", told, State.warning, "pip uninstall torchvision; nothing here needs it")


def _platform(built: str) -> str:
    """`cpu` or CUDA's version."""
    return built.partition(" cuda ")[2] or "cpu"
