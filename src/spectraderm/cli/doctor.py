"""What works on this machine, what will be used, what is missing and how to get it.

Knows nothing of how fast anything is: `benchmarks/` measures that.
"""

import io
import math
import os
import platform
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from threading import Thread

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spectraderm.core.cache import cache_folder
from spectraderm.core.errors import SpectraDermError, install_command
from spectraderm.core.parallel import cores

_FREE_MEMORY, _FREE_DISK = 500_000_000, 1_000_000_000
"""Bytes below which a warning is given."""
_HUB_SECONDS = 3.0
_OVERWRITING = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


class State(StrEnum):
    """How well a thing is. Most don't miss what is `absent`; what is `broken` hinders predictions."""

    ok = "ok"
    absent = "absent"
    warning = "warning"
    broken = "broken"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: its theme (a table), its name, what was found, how well it is, and a remedy."""

    theme: str
    name: str
    value: str
    state: State = State.ok
    remedy: str = ""


def examine(offline: bool = False) -> list[Check]:
    """Look at this machine; takes about a second, and up to three more where the Hub does not answer.

    Args:
        offline: the Hub, the only thing here that the network is used for, is not asked.
    """
    parts: list[tuple[str, Callable[[str], Iterator[Check]]]] = [
        ("Predictions", _predictions),
        ("Packages", _packages),
        ("Machine", _machine),
        ("Graphics card", _graphics_card),
        ("Hugging Face Hub", lambda theme: _hub(theme, offline)),
    ]
    checks: list[Check] = []
    reinstall = install_command(options="--force-reinstall --no-deps")
    for theme, look in parts:
        state = State.broken if theme == "Predictions" else State.warning
        try:
            for check in look(theme):
                checks.append(check)  # noqa: PERF402 - what stands before an error is kept
        except SpectraDermError as error:
            checks.append(Check(theme, "error", error.problem, state, error.remedy or reinstall))
        except Exception as error:  # whatever breaks is what the doctor was called for
            remedy = f"{reinstall}; if that does not help, report it with this text"
            checks.append(Check(theme, "error", f"{type(error).__name__}: {error}", state, remedy))
    return checks


def is_broken(checks: Sequence[Check]) -> bool:
    """Whether photos can't be classified here."""
    return any(check.state == State.broken for check in checks)


def _predictions(theme: str) -> Iterator[Check]:
    """Open the default model, which compares its checksums, and classify one painted photo."""
    import numpy as np  # noqa: PLC0415 - a broken NumPy is a finding
    from PIL import Image  # noqa: PLC0415

    from spectraderm.inference.classifier import load_model  # noqa: PLC0415

    classifier = load_model()
    yield Check(theme, "default model", f"{classifier.model_id}, whole: its checksums are right")
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(jpeg, "JPEG", quality=90)
    prediction = classifier.predict(jpeg.getvalue())
    verdict, probabilities = prediction.verdict.replace("_", " "), prediction.probabilities.values()
    if len(probabilities) == len(classifier.labels) and math.isclose(math.fsum(probabilities), 1, abs_tol=1e-4):
        yield Check(theme, "a painted photo", verdict)
    else:
        told = f"{verdict}, with probabilities that don't sum to 1"
        yield Check(theme, "a painted photo", told, State.broken, "Install another version of onnxruntime")


def _packages(theme: str) -> Iterator[Check]:
    """Python, the packages that are always needed, each extra, and packages that are in each other's way."""
    version = platform.python_version()
    told = f"{version} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"
    distribution = metadata.distribution("spectraderm")
    wanted = str(distribution.metadata["Requires-Python"] or "")
    fits = SpecifierSet(wanted).contains(version, prereleases=True)
    yield Check(theme, "Python", told, State.ok if fits else State.broken, "" if fits else f"Install Python {wanted}")
    yield Check(theme, "spectraderm", distribution.version)
    needs = [Requirement(line) for line in distribution.requires or ()]
    extras = sorted(set(distribution.metadata.get_all("Provides-Extra") or ()) - {"all", "dev"})
    for extra in ["", *extras]:
        yield _extra(theme, extra, list(_requirements(needs, extra)))
    overwriting = [name for name in _OVERWRITING if _installed(name)]
    if overwriting[1:]:
        remedy = f"pip uninstall {' '.join(overwriting)}, then install the one you want"
        yield Check(theme, "ONNX Runtime", f"{', '.join(overwriting)} overwrite each other", State.warning, remedy)
    if "+cpu" in _installed("torch") and "+cpu" not in (vision := _installed("torchvision")) and vision:
        told = f"torchvision {vision} does not import beside a CPU build of torch"
        yield Check(theme, "torchvision", told, State.warning, "pip uninstall torchvision; nothing here needs it")


def _requirements(needs: Sequence[Requirement], extra: str) -> Iterator[Requirement]:
    """The packages that an extra adds, through other extras too; those always needed for the extra `""`."""
    for need in needs:
        always = need.marker is None or need.marker.evaluate({"extra": ""})
        if not (always if extra == "" else not always and need.marker and need.marker.evaluate({"extra": extra})):
            continue
        if need.name != "spectraderm":
            yield need
        else:
            for other in sorted(need.extras):
                yield from _requirements(needs, other)


def _extra(theme: str, extra: str, needs: Sequence[Requirement]) -> Check:
    versions = {need.name: _installed(need.name) for need in needs}
    outside = [need for need in needs if versions[need.name] and not need.specifier.contains(versions[need.name], True)]
    missing = [name for name, version in versions.items() if not version]
    name = f"[{extra}]" if extra else "always needed"
    remedy = install_command(extra)
    if outside:
        told = ", ".join(f"{need.name} {versions[need.name]} is outside of {need.specifier}" for need in outside)
        return Check(theme, name, told, State.warning, remedy)
    if missing:
        told = "not installed" if len(missing) == len(needs) else f"{', '.join(missing)} not installed"
        return Check(theme, name, told, State.absent if extra else State.broken, remedy)
    return Check(theme, name, ", ".join(f"{each} {version}" for each, version in versions.items()))


def _installed(package: str) -> str:
    """A package's version, or empty where it is not installed. Nothing is imported."""
    try:
        return metadata.version(package) or ""  # None where its metadata is damaged
    except metadata.PackageNotFoundError:
        return ""


def _machine(theme: str) -> Iterator[Check]:
    """Cores, memory and disk that this program may use."""
    yield Check(theme, "cores", f"{cores()} of {os.cpu_count()} may be used")
    available = _available_memory()
    if available is not None:
        scarce = available < _FREE_MEMORY
        remedy = "End other programs, or raise the container's limit" if scarce else ""
        yield Check(theme, "memory", f"{_size(available)} free", State.warning if scarce else State.ok, remedy)
    yield _disk(theme, "this folder", Path.cwd(), "Give --out a folder that you may write to")
    yield _disk(theme, "temporary files", Path(tempfile.gettempdir()), "Set TMPDIR to a folder that you may write to")
    cache, remedy = cache_folder(), "Set SPECTRADERM_CACHE to a folder that you may write to"
    homeless = Check(theme, "cache", "no home folder: features are computed anew each time", State.warning, remedy)
    yield _disk(theme, "cache", cache, remedy) if cache else homeless


def _available_memory() -> int | None:
    """Bytes that are free, by the machine or by the limit of a Linux container; None where the system tells neither."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current"))
        free += [max(int(limit) - int(used), 0)] if limit.isdigit() else []
    except (OSError, ValueError, IndexError):
        pass
    return min(free, default=None)


def _disk(theme: str, name: str, folder: Path, remedy: str) -> Check:
    """How much is free at a folder, or where it would be made, and whether a file can be written there."""
    existing = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(existing).free
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"1")
    except OSError as error:
        return Check(theme, name, f"{folder}: {error.strerror or error}", State.warning, remedy)
    state, remedy = (State.warning, "Make room") if free < _FREE_DISK else (State.ok, "")
    return Check(theme, name, f"{_size(free)} free at {folder}", state, remedy)


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _graphics_card(theme: str) -> Iterator[Check]:
    """NVIDIA's cards by their driver, and whether ONNX Runtime and torch are built for them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Check(theme, "NVIDIA", "none", State.absent)
        return
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  # nosec B603
    if done.returncode:
        told = f"nvidia-smi fails: {(done.stdout or done.stderr).strip()}"
        yield Check(theme, "NVIDIA", told, State.warning, "Install the card's driver again, or restart the machine")
        return
    for number, card in enumerate(done.stdout.strip().splitlines()):
        yield Check(theme, f"NVIDIA {number}", card)
    if not _installed("onnxruntime-gpu"):
        remedy = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        yield Check(theme, "ONNX Runtime", "built for the processor only", State.absent, remedy)
    if "+cpu" in _installed("torch"):
        yield Check(theme, "torch", "built for the processor only", State.warning, "Install a build of torch for CUDA")


def _hub(theme: str, offline: bool) -> Iterator[Check]:
    """Whether the Hub answers, asked in a thread: looking up a name has no time limit of its own."""
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    scheme, separator, rest = endpoint.partition("://")
    address = f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"  # without a name and password
    if offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true"):
        yield Check(theme, "connection", "not asked", State.absent)
        return
    answers = [f"no answer in {_HUB_SECONDS:g} s"]
    thread = Thread(target=lambda: answers.insert(0, _ask(address)), daemon=True)
    thread.start()
    thread.join(_HUB_SECONDS)
    if not answers[0]:
        yield Check(theme, "connection", f"{address} answers")
        return
    state = State.warning if _installed("huggingface_hub") else State.absent
    remedy = "Check the connection and HF_ENDPOINT; predictions and --backbone open-nsfw-thin need none"
    yield Check(theme, "connection", f"{address}: {answers[0]}", state, remedy)


def _ask(address: str) -> str:
    """Empty where a web address answers, else why it does not."""
    if not address.startswith(("http://", "https://")):
        return "not a web address"
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "spectraderm"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_HUB_SECONDS):  # noqa: S310  # nosec B310
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code < 400 else f"answers HTTP {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
