"""Where a training runs: in one process or in several, on which device, in which precision.

`torchrun` or `accelerate launch` starts several processes; all see the same run folder, and only the main one writes.
"""

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import metadata
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import distributed

from spectraderm.core.errors import DatasetError, RunFolderError, SpectraDermError
from spectraderm.training.recipe import Recipe

_PATIENCE = timedelta(days=7)
"""How long processes wait for the main one, which may have a million photos to decode."""
_PACKAGES = ("spectraderm", "torch", "transformers", "accelerate", "kornia", "numpy", "pillow", "scikit-learn")


def start(device: str) -> Accelerator:
    """Meet the processes that were started together, on the device `auto` (a GPU each, where there are any) or `cpu`.

    Raises:
        RunFolderError: the device does not serve here: several processes can't compute on it together, or this one
            has trained on another.
    """
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    try:
        accelerator = Accelerator(cpu=on_cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])
    except ValueError as error:
        raise RunFolderError(f"this process can't train on the device {device!r} ({error})", "Start another") from error
    if int(os.environ.get("WORLD_SIZE", "1")) > accelerator.num_processes:
        raise RunFolderError(f"{accelerator.device} does not train in several processes", "Add --device cpu")
    return accelerator


def dtype_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """In what trained layers compute: by `auto` in bfloat16 on a GPU that has it, else in float32."""
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    chosen = ("bf16" if has_bf16 else "fp32") if recipe.precision == "auto" else recipe.precision
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[chosen]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute what is small by one thread: two wait for each other several times as long as they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_voice(accelerator: Accelerator) -> Iterator[None]:
    """Let an error that all processes meet leave the main one alone; the others end with exit code 2, silently.

    A process that can't read a photo says so itself. Where a process has ended, the main one says what to do.
    """
    try:
        yield
    except Exception as error:
        if accelerator.num_processes == 1:
            raise
        words = str(error).lower()
        ended = isinstance(error, distributed.DistError) or "gloo" in words or "nccl" in words
        of_all = isinstance(error, SpectraDermError) and not isinstance(error, DatasetError)
        if not accelerator.is_main_process and (ended or of_all):
            raise SystemExit(2) from None
        if ended:
            raise RunFolderError("Another process of this training ended", "Start all again with --resume") from error
        raise


def environment(accelerator: Accelerator, recipe: Recipe) -> dict[str, Any]:
    """What `environment.json` notes: the command, the machine, the precision, and the versions of all that computes."""
    return {
        "command": " ".join(["spectraderm", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "precision": str(dtype_of(recipe, accelerator.device)).removeprefix("torch."),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }
