"""Work in a forked child: counted, disturbed, or killed at one of its writes.

The parent imports everything once and computes nothing, so that a child starts in milliseconds and no thread is lost.
What only takes time is shortened: forests are small, and torch traces a network once.
"""

import importlib.readers  # noqa: F401 - for somebody who may not read what root has installed
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spectraderm.core.errors import SpectraDermError, of_system
from spectraderm.core.files import sha256, write_bytes
from spectraderm.data import shortcuts
from spectraderm.evaluation import ledger
from spectraderm.images.preprocessing import Preprocessing
from spectraderm.training import export, quantize
from spectraderm.training.network import SkinResNet

_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}
_LIMIT = 300

OnWrite = Callable[[str, int, str], object]
"""What hears of each write: its audit event, or `fsync`; its number, counted from 1; and the file, where known."""


@dataclass
class Child:
    """A forked process."""

    process: int
    told: Path

    def wait(self) -> tuple[int, str]:
        """Its exit code, negative for a signal, and its error's words. Raises `TimeoutError` where it hangs."""
        until = time.monotonic() + _LIMIT
        while time.monotonic() < until:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                words = (self.told / "error").read_text() if (self.told / "error").exists() else ""
                return os.waitstatus_to_exitcode(status), words
            time.sleep(0.002)
        os.kill(self.process, signal.SIGKILL)
        raise TimeoutError(f"after {_LIMIT} s")

    def kill(self) -> bool:
        """Kill it; False where it had ended."""
        os.kill(self.process, signal.SIGKILL)  # a zombie at worst, for nobody has waited for it
        return self.wait()[0] == -signal.SIGKILL

    def writes(self) -> int:
        """How often it wrote. Once it has ended."""
        return int((self.told / "writes").read_text())


def forked(
    root: Path,
    do: Callable[[Path], object],
    out: Path,
    die_at: int = 0,
    on_write: OnWrite = lambda *_: None,
    before: Callable[[], object] = lambda: None,
    user: int = 0,
) -> Child:
    """Start something in a child, which is killed before its `die_at`th write. `on_write` may raise.

    `before` is done there first; where root asks, it is done as another `user`.

    The exit code is 2 after an error that is for people, as on the command line, and 3 after any other.
    """
    told = Path(tempfile.mkdtemp(dir=root, prefix="told-"))
    process = os.fork()
    if process:
        return Child(process, told)
    code = 3
    try:
        before()
        if user:
            os.chown(told, user, user)
            os.setgid(user)
            os.setuid(user)
        count = _listen(root, die_at, on_write)
        os.environ["SPECTRADERM_CACHE"] = str(told / "cache")
        tempfile.tempdir = str(told)
        shortcuts._TREES = 3
        ledger.datetime = _Standing  # type: ignore[attr-defined]
        export.to_onnx = quantize.to_onnx = _traced_once(root / "told-graphs")  # type: ignore[attr-defined]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            do(out)
        (told / "writes").write_text(str(count[0]))
        code = 0
    except (SpectraDermError, OSError) as error:  # as `console.run` does
        code = 2
        (told / "error").write_text(str(error if isinstance(error, SpectraDermError) else of_system(error)))
    except BaseException:
        (told / "error").write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _traced_once(folder: Path) -> Callable[..., bytes]:
    """`to_onnx`, which takes torch seconds and writes nothing, done once for the same weights."""
    trace = export.to_onnx

    def traced(network: SkinResNet, preprocessing: Preprocessing) -> bytes:
        weights = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
        path = folder / sha256(weights)
        if not path.is_file():
            write_bytes(path, trace(network, preprocessing))
        return path.read_bytes()

    return traced


class _Standing(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, _: object = None) -> datetime:  # type: ignore[override]
        return datetime(2026, 1, 1, tzinfo=UTC)


def _listen(root: Path, die_at: int, on_write: OnWrite) -> list[int]:
    """Count the writes below a folder."""
    count, below, sync = [0], f"{root}{os.sep}", os.fsync

    def write(what: str, path: str = "") -> None:
        count[0] += 1
        if count[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        on_write(what, count[0], path)

    def hear(event: str, about: tuple[Any, ...]) -> None:
        if event not in _WRITES and (event != "open" or not _for_writing(about)):
            return
        if str(about[0]).startswith(below) and not str(about[0]).startswith(f"{below}told-"):
            write(event, str(about[0]))

    def synced(handle: int) -> None:
        write("fsync")
        sync(handle)

    sys.addaudithook(hear)
    os.fsync = synced  # type: ignore[assignment]
    return count


def _for_writing(about: tuple[Any, ...]) -> bool:
    flags = about[2] if isinstance(about[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
