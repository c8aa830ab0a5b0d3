"""The state of a training on disk: loaded again, it goes on as if it had never stopped, in the middle of an epoch too.

There are two of them: `state.safetensors` and, should that be damaged, the one before it, `previous.safetensors`. Each
has the SHA-256 of what is in it. A kill at any moment leaves one that is whole.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from spectraderm.core import artifacts
from spectraderm.core.errors import RunFolderError
from spectraderm.training.moving import Moving

PREVIOUS = "previous.safetensors"
INTERVAL = 10.0
"""Seconds of work between two states, at least."""
COST = 0.05
"""The share of a processor's time that saving may take: where a state is large, there are fewer."""


@dataclass
class Place:
    """How far a training is.

    Attributes:
        history: a line for every whole epoch.
        step: how many steps of the next epoch are done, which add up to these:
        loss: the sum over photos; `right`, how many were guessed right; `seconds`, how long it took.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """Number of the epoch that is under way, from 1."""
        return len(self.history) + 1

    def close(self, row: dict[str, float]) -> None:
        """End the epoch with its line of the history."""
        self.history.append(row)
        self.step, self.loss, self.right, self.seconds = 0, 0.0, 0.0, 0.0


class Keeper:
    """Keeps the state of one training in a folder: often enough to lose only seconds, and rarely enough to cost few.

    A state is copied at once, and written by a thread while the training goes on.
    """

    def __init__(self, folder: Path, moving: Moving) -> None:
        self._path, self._moving = folder / artifacts.STATE, moving
        self._whole = False  # whether the last one is known to be
        self._next = time.monotonic() + INTERVAL
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() >= self._next  # never while one is being written

    def save(self, place: Place, then: Callable[[], None] = lambda: None) -> None:
        """Have the state written, and something done after that. Raises `WriteError`, of the last one too."""
        self._wait()
        began = time.monotonic()
        tensors = {name: value.clone() for name, value in self._moving.tensors().items()}
        about = json.dumps({**asdict(place), "scaler": self._moving.scaler.state_dict()})
        copied = time.monotonic() - began
        self._next = math.inf
        self._written = self._writer.submit(self._write, tensors, about, copied, then)

    def close(self) -> None:
        """Wait until all is written. Raises `WriteError`."""
        self._writer.shutdown()
        self._wait()

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written:
            written.result()

    def _write(self, tensors: dict[str, Tensor], about: str, copied: float, then: Callable[[], None]) -> None:
        """Write a state; the last one becomes the previous one, if it is whole."""
        began = time.thread_time()
        try:
            data = save(tensors, metadata={"place": about, "sha256": _digest(tensors, about)})
            if self._whole:
                self._path.replace(self._path.with_name(PREVIOUS))
            artifacts.write_bytes(self._path, data)
            self._whole = True
            then()
        finally:
            cost = copied + time.thread_time() - began
            self._next = time.monotonic() + max(INTERVAL, cost / COST)

    def restore(self) -> Place:
        """Load the last state or, where that is damaged, the previous one; without any, a training is at its start.

        Raises:
            RunFolderError: there are states, and none can be loaded.
        """
        failed: Exception | None = None
        for path in (self._path, self._path.with_name(PREVIOUS)):
            if path.is_file():
                try:
                    place = self._read(path)
                except Exception as error:  # safetensors and torch raise their own kinds
                    failed = failed or error
                else:
                    self._whole = path == self._path
                    return place
        if failed is None:
            return Place()
        raise RunFolderError(
            f"{self._path} can't be resumed from ({str(failed).splitlines()[0]})",
            f"Delete it, and {PREVIOUS} beside it, to start this fold again",
        ) from failed

    def _read(self, path: Path) -> Place:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
        if said["sha256"] != _digest(tensors, said["place"]):
            raise ValueError("its SHA-256 is not the one in it")
        about = json.loads(said["place"])
        scaler = about.pop("scaler")
        place = Place(**about)
        self._moving.load(tensors)
        self._moving.scaler.load_state_dict(scaler)
        return place


def saved(folder: Path) -> bool:
    """Whether a training has a state there."""
    return any((folder / name).is_file() for name in (artifacts.STATE, PREVIOUS))


def forget(folder: Path) -> None:
    """Delete the states of a training that is done."""
    for name in (artifacts.STATE, PREVIOUS):
        (folder / name).unlink(missing_ok=True)


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    total = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return total.hexdigest()
