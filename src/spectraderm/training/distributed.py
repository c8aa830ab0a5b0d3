"""Processes that train one model together: which of them writes, what they add up, and how they end.

`torchrun` or `accelerate launch` starts them; all see the same run folder. Without a launcher there is one.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from spectraderm.core.errors import MissingExtra, RunFolderError, SpectraDermError

_PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which may have a million photos to decode."""
_FAILED = "spectraderm/failed"
"""Where the processes' common store has the rank of the one that tells what went wrong."""

Part = tuple[slice, int]
"""Places in a batch, and how many of them count: all, or none of the one photo of a process without a share."""


@dataclass(frozen=True)
class Team:
    """The processes that train together, as the one of them sees it that is number `rank` of `size`."""

    accelerator: Accelerator
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes; the others wait for what it made."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    def alone(self) -> "Team":
        """The same without the others: for what one process does while they wait."""
        return Team(self.accelerator)

    def wait(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            self.accelerator.wait_for_everyone()

    def share(self, count: int) -> slice:
        """Which of so many things in a row are this process's."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def parts(self, count: int, accumulate: int) -> list[Part]:
        """The process's share of a batch of `count` photos, in up to `accumulate` parts, at least one."""
        own = self.share(count)
        width = own.stop - own.start
        edges = [own.start + width * number // accumulate for number in range(accumulate + 1)]
        found = [(slice(a, b), b - a) for a, b in pairwise(edges) if b > a]
        return found or [(slice(0, 1), 0)]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the CPU."""
        if self.size == 1:
            return values.cpu()
        total: Tensor = self.accelerator.reduce(values.to(self.device), "sum")
        return total.cpu()

    def agree(self, values: Sequence[float]) -> bool:
        """Whether these numbers are the same in all processes."""
        own = torch.tensor(values, dtype=torch.float64)
        return self.size == 1 or torch.equal(self.sum(own), own * self.size)

    def joined(self, module: nn.Module) -> nn.Module:
        """The module with its weights as the first process has them, and gradients that are means over all."""
        if self.size == 1:
            return module
        with warnings.catch_warnings():  # `broadcast_buffers` gets another name in torch 2.13
            warnings.simplefilter("ignore", FutureWarning)
            joined: nn.Module = self.accelerator.prepare_model(module)
        return joined

    def separate(self) -> None:
        """Forget the modules that were `joined`."""
        if self.size > 1:
            self.accelerator.free_memory()

    def quiet(self, module: nn.Module) -> AbstractContextManager[None]:
        """In it, a `joined` module's gradients stay in this process, to be sent with the next ones."""
        quiet: AbstractContextManager[None] = self.accelerator.no_sync(module)
        return quiet

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """An error leaves it in the process that meets it first; the others end with exit code 2 and say nothing."""
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            if not self._speaks():
                raise SystemExit(2) from None
            if isinstance(error, SpectraDermError) or not _is_about_others(error):
                raise
            raise RunFolderError("Another process of this training ended", "Start all again with --resume") from error

    def end(self) -> None:
        """Wait for all; then those beside the first leave the program, for what follows is not theirs to do."""
        self.wait()
        self.accelerator.end_training()
        if not self.first:
            raise SystemExit(0)

    def _speaks(self) -> bool:
        try:
            store = distributed.distributed_c10d._get_default_store()
            teller: bytes = store.compare_set(_FAILED, "", str(self.rank))
        except (RuntimeError, ValueError):  # the process that kept the store is gone, and it was an error, too
            return False
        return int(teller) == self.rank


def start(run: Path, device: str, log: str | None) -> Team:
    """Find the processes that were started together, and meet them.

    Args:
        run: their run folder.
        device: `auto` (a GPU each, where there are any) or `cpu`.
        log: also log to `tensorboard` or `mlflow`.

    Raises:
        MissingExtra: what logs is not installed.
        RunFolderError: several processes, and a device that they can't compute on together.
    """
    settings = [InitProcessGroupKwargs(timeout=_PATIENCE), DistributedDataParallelKwargs(broadcast_buffers=False)]
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    try:
        accelerator = Accelerator(
            cpu=on_cpu, log_with=log, project_dir=run / "log" if log else None, kwargs_handlers=settings
        )
        if log:
            accelerator.init_trackers(run.name)
    except (ValueError, ImportError) as error:
        raise MissingExtra(f"the log {log!r} ({error})", "track") from error
    if int(os.environ.get("WORLD_SIZE", "1")) > accelerator.num_processes:
        raise RunFolderError(f"{accelerator.device} does not train in several processes", "Add --device cpu")
    return Team(accelerator, accelerator.process_index, accelerator.num_processes)


def _is_about_others(error: Exception) -> bool:
    """Whether it is what gloo or NCCL say when a process that they talk to has ended."""
    words = str(error).lower()
    return isinstance(error, distributed.DistError) or "gloo" in words or "nccl" in words
