"""Graphics cards: which there are, and whether what is installed can use them. Asks the driver, and never torch."""

import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache

from spectraderm.cli.doctor.clashes import build
from spectraderm.cli.doctor.fact import Fact, State

THEME = "Graphics card"
_ASK = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_SECONDS = 10
_PREDICT = "pip uninstall onnxruntime, then pip install onnxruntime-gpu: predictions may be faster"
_TRAIN = "pip install --force-reinstall a build of torch for CUDA: training would leave the card idle"


def graphics() -> Iterator[Fact]:
    """Cards, and who can use them."""
    cards, why = nvidia()
    if why:
        yield Fact(THEME, "NVIDIA", why, State.warning, "Install the card's driver again, or restart the machine")
    elif not cards:
        yield Fact(THEME, "NVIDIA", "none", State.absent)
    for number, card in enumerate(cards):
        yield Fact(THEME, f"NVIDIA {number}", card)
    yield predictions(bool(cards), _runtimes())
    if built := build("torch"):
        yield training(bool(cards), built)


@cache
def nvidia() -> tuple[list[str], str]:
    """Name, memory and driver of each card; and why the driver does not tell, or empty. Asked once: it is slow."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], ""
    try:
        done = subprocess.run(  # noqa: S603
            [program, *_ASK], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"nvidia-smi does not run ({error})"
    said = [line.strip() for line in (done.stdout or done.stderr).splitlines() if line.strip()]
    if done.returncode:
        return [], f"nvidia-smi fails: {said[0] if said else done.returncode}"
    return said, ""


def predictions(cards: bool, runtimes: Sequence[str]) -> Fact:
    """Whether ONNX Runtime can use one."""
    if runtimes:
        return Fact(
            THEME, "ONNX Runtime", f"can use {', '.join(runtimes)}; tried against the processor when first used"
        )
    if cards:
        return Fact(THEME, "ONNX Runtime", "built for the processor only", State.absent, _PREDICT)
    return Fact(THEME, "ONNX Runtime", "built for the processor only")


def training(cards: bool, built: str) -> Fact:
    """Whether torch can use one."""
    name, cuda = "torch", " cuda " in built
    if cards and not cuda:
        return Fact(THEME, name, f"{built}, for the processor only", State.warning, _TRAIN)
    if cuda and not cards:
        return Fact(THEME, name, f"{built}, which only takes up disk without a card")
    if platform.system() == "Darwin":
        return Fact(THEME, name, f"{built}, with Apple's Metal")
    return Fact(THEME, name, built)


def _runtimes() -> list[str]:
    try:
        from spectraderm.inference.with_onnxruntime import present  # noqa: PLC0415
    except Exception:  # said among the packages and by the self-test
        return []
    return present()
