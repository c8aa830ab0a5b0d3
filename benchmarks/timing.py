"""What the comparisons share: how both sides are run and watched, and how their times become lines of a table."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spectraderm.data.synthetic import paint_photo

HERE = Path(__file__).parent
NOT_INSTALLED = "not measured: make bench-peers"
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
_PACKAGES = ("spectraderm", "numpy", "pillow", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Row:
    """One comparison, round by round; less is better.

    Attributes:
        what: what was done.
        peer: who else did it.
        subject: what of ours did it.
        theirs: a number per round; empty where the peer is not installed.
        ours: a number per round.
        unit: s, ms or MB.
    """

    what: str
    peer: str
    subject: str
    theirs: list[float]
    ours: list[float]
    unit: str = "s"

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, round by round."""
        return [their / our for their, our in zip(self.theirs, self.ours, strict=True)] if self.theirs else []

    def line(self) -> str:
        """A line of a Markdown table."""
        theirs = spread(self.theirs, self.unit) if self.theirs else NOT_INSTALLED
        ratio = f"**{spread(self.ratios)}**" if self.theirs else ""
        return f"| {self.what} | {self.peer} | {theirs} | {self.subject} | {spread(self.ours, self.unit)} | {ratio} |"


HEADER = "| what | peer | theirs | | ours | times better |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Watched:
    """A command that ended: seconds to its first line and to its end, peak MB, lines, and the last one as JSON."""

    first: float
    seconds: float
    peak: float
    lines: int
    last: dict[str, Any] = field(default_factory=dict)


def spectraderm(*arguments: object, cache: Path | None = None) -> Watched:
    """Run a command of `spectraderm`; `cache` is its folder for features."""
    return watched([sys.executable, "-m", "spectraderm", *map(str, arguments)], cache)


def watched(command: list[str], cache: Path | None = None) -> Watched:
    """Run a command; exits with what it printed where it fails (1 means that `predict` could not read some photo)."""
    watching = [sys.executable, "-S", str(HERE / "watch.py"), *command]
    done = subprocess.run(watching, capture_output=True, text=True, env=environment(cache), check=False)
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"lines": 0}
    if done.returncode not in (0, 1) or (done.returncode and not told["lines"]):
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    last = told.pop("last")
    return Watched(**told, last=json.loads(last) if last.startswith("{") else {})


def environment(cache: Path | None = None) -> dict[str, str]:
    """The caller's environment without what limits threads, so that every side gets all cores."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return kept | ({"SPECTRADERM_CACHE": str(cache)} if cache else {})


def spread(values: list[float], unit: str = "") -> str:
    """Median, lowest and highest, to three digits."""
    low, middle, high = (
        f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle}{f' {unit}' if unit else ''} ({low}-{high})"


def parser(about: str | None) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring as it stands."""
    return argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    """Processor, the instructions that matter here, and versions: only ratios carry over to another machine."""
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        facts = {
            key.strip(): value.strip() for key, _, value in (s.partition(":") for s in info.read_text().split("\n"))
        }
        name, flags = facts.get("model name", name), facts.get("flags", "")
    has = ", ".join(flag for flag in _FLAGS if flag in flags.split())
    installed = {distribution.metadata["Name"].lower() for distribution in metadata.distributions()}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES if name in installed)
    return f"{name}, {os.cpu_count()} cores ({has}); Python {platform.python_version()}, {versions}."


def painted(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """A painted JPEG at `path`; large ones are painted smaller, enlarged, and given grain, as a camera's have."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        small = min(size[0], 1000), min(size[1], 750)
        image: Image.Image = paint_photo("FU-ringworm", rng, small).resize(size, Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (size[1], size[0], 1)).astype(np.float32)
        grainy = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(path, quality=90)
    return path


def link(photos: list[Path], folder: Path, count: int) -> Path:
    """A folder of so many photos, in folders of 1,000, which are hard links to a few."""
    for number in range(count):
        below = folder / f"{number // 1000:04}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        os.link(photos[number % len(photos)], below / f"{number % 1000:04}.jpg")
    return folder
